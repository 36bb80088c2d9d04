"""A process that reads the tags of one song for another, shut in as `unmix.audio.decoder` is.

The song is its standard input, a file. It answers with a line of JSON, and the bytes of the cover behind it;
`unmix.audio.confined_reader` is the other end. It loads little, as all songs wait for it.
"""

import json
import os
import resource
import sys
from contextlib import suppress
from typing import Final, NoReturn, cast

from unmix.audio.tags import tags_of
from unmix.confinement import Sandbox, confine, end_with_parent

#: What tags may cost; a song goes without those that cost more. They are a small part of any other song's.
_CPU_SECONDS: Final = 10
_MEMORY_MB: Final = 512


def main() -> NoReturn:
    """Read the tags of one song; argument: how to be shut in."""
    end_with_parent()
    limits = {
        resource.RLIMIT_CPU: _CPU_SECONDS,
        resource.RLIMIT_AS: _MEMORY_MB << 20,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for limit, most in limits.items():
        with suppress(ValueError, OSError):  # macOS knows no limit of the address space; a lower one may stand already
            resource.setrlimit(limit, (most, most))
    confine(cast(Sandbox, sys.argv[1]))
    tags = tags_of(sys.stdin.buffer)
    sys.stdout.buffer.write(json.dumps(dict(tags.texts)).encode() + b"\n" + tags.cover)
    sys.stdout.buffer.flush()
    os._exit(0)  # what read hostile bytes need not be taken down in order


if __name__ == "__main__":
    main()

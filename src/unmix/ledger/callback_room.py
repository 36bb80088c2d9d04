"""How many callbacks a job has room for: so many of each who asked for some, and so many in all.

A song that is sent again and again is one job, and its request keeps every callback that came with it: there have to be
bounds. Whoever uses up its own leaves the others theirs, until all together come to the much larger bound of the job.
"""

import json
from collections.abc import Sequence
from typing import Final

from unmix.errors import InputError
from unmix.job import Callback

CALLBACKS_OF_ASKER: Final = 16
CALLBACKS_OF_JOB: Final = 256
#: How large they may be together. One that comes alone is of the size of a request at most, and that will do.
BYTES_OF_ASKER: Final = 64 * 1024
BYTES_OF_JOB: Final = 1024 * 1024


def refuse_too_many(callbacks: Sequence[Callback]) -> None:
    """Refuse the last of a job's callbacks if there is no room for it beside the others.

    Raises:
        InputError: its asker has callbacks enough, or the job has (`too_many_callbacks`).
    """
    last = callbacks[-1]
    own = [callback for callback in callbacks if callback.asker == last.asker]
    if len(own) > CALLBACKS_OF_ASKER or (len(own) > 1 and _size_bytes(own) > BYTES_OF_ASKER):
        text = f"a job has {CALLBACKS_OF_ASKER} callbacks of one client at most, of {BYTES_OF_ASKER >> 10} KiB together"
        raise InputError(f"{text}, and this one has yours already", code="too_many_callbacks")
    if len(callbacks) > CALLBACKS_OF_JOB or _size_bytes(callbacks) > BYTES_OF_JOB:
        text = "others have given this job as many callbacks as it takes; send the song without, and ask for the job"
        raise InputError(text, code="too_many_callbacks")


def _size_bytes(callbacks: Sequence[Callback]) -> int:
    return sum(len(json.dumps(callback.to_fields(), ensure_ascii=False).encode()) for callback in callbacks)

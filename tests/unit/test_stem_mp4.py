"""STEM.MP4: five tracks of which the last four add up to the first, and a box that says what they are."""

import json
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray

from audio_files import music
from stem_delivery import delivered
from unmix.audio.delivery import Delivered
from unmix.audio.formats import STEM_MP4
from unmix.errors import EngineError, InputError

STEMS = ("drums", "bass", "other", "vocals")
#: No multiple of a packet of ALAC, and longer than what is read at once.
SAMPLES = 200_001


def packed(folder: Path, *, gain: float = 0.45, names: Sequence[str] = STEMS, **options: Any) -> Delivered:
    """Deliver stems as one file."""
    stems = {stem: np.float32(gain) * music(SAMPLES, seed=seed) for seed, stem in enumerate(names)}
    return delivered(folder, stems, format=STEM_MP4, **options)


def tracks(path: Path) -> list[NDArray[np.int32]]:
    """Return the samples (2, time) of all tracks, by a parser that knows nothing of us."""
    with av.open(path) as counted:
        count = len(counted.streams)
        assert {stream.codec_context.name for stream in counted.streams.audio} == {"alac"}
        assert len(counted.streams.audio) == count
    found = []
    for index in range(count):
        with av.open(path) as opened:
            frames = [frame.to_ndarray() for frame in opened.decode(audio=index)]
            found.append(np.concatenate(frames, axis=1).astype(np.int32))
    return found


def box(content: bytes, *path: bytes) -> bytes:
    """Return the content of the box at `path`."""
    for name in path:
        start = 0
        while content[start + 4 : start + 8] != name:
            start += struct.unpack_from(">I", content, start)[0]
        content = content[start + 8 : start + struct.unpack_from(">I", content, start)[0]]
    return content


def test_the_four_stems_are_as_they_were_and_add_up_to_the_mixdown(tmp_path: Path) -> None:
    made = packed(tmp_path)
    assert made.stems == {"stems": tmp_path / "stems.stem.mp4"}
    assert made.warnings == ()
    mixdown, *stems = tracks(made.stems["stems"])
    assert len(stems) == 4
    for seed, stem in enumerate(stems):
        assert np.array_equal(stem, np.rint(np.float32(0.45) * music(SAMPLES, seed=seed) * 32_768))
    assert np.array_equal(mixdown, np.sum(stems, axis=0))
    assert list(tmp_path.iterdir()) == [made.stems["stems"]]


def test_the_box_names_and_colours_the_stems_in_the_order_of_their_tracks(tmp_path: Path) -> None:
    made = packed(tmp_path)
    told: dict[str, Any] = json.loads(box(made.stems["stems"].read_bytes(), b"moov", b"udta", b"stem"))
    assert [stem["name"] for stem in told["stems"]] == ["Drums", "Bass", "Other", "Vocals"]
    assert len({stem["color"] for stem in told["stems"]}) == 4
    assert told["version"] == 1
    assert [told["mastering_dsp"][each]["enabled"] for each in ("compressor", "limiter")] == [False, False]


def test_other_players_play_the_mixdown(tmp_path: Path) -> None:
    with av.open(packed(tmp_path).stems["stems"]) as opened:
        usual = [bool(stream.disposition & Disposition.default) for stream in opened.streams.audio]
    assert usual == [True, False, False, False, False]


def test_a_mixdown_beyond_full_scale_is_clamped_and_told(tmp_path: Path) -> None:
    made = packed(tmp_path, gain=1.9)
    mixdown, *stems = tracks(made.stems["stems"])
    total = np.sum(stems, axis=0)
    assert np.array_equal(mixdown, total.clip(-32_768, 32_767))
    assert made.warnings == (f"{(mixdown != total).sum()} samples of the mixdown were beyond full scale and clipped",)


def test_the_same_stems_give_the_same_bytes(tmp_path: Path) -> None:
    made = [packed(tmp_path / name).stems["stems"].read_bytes() for name in "ab"]
    assert made[0] == made[1]


def test_one_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        packed(tmp_path, go_on=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/full")
def test_a_full_disk_is_an_error_that_may_pass(tmp_path: Path) -> None:
    (tmp_path / ".stems.stem.mp4.part").symlink_to("/dev/full")
    with pytest.raises(EngineError) as caught:
        packed(tmp_path)
    assert (caught.value.code, caught.value.retryable) == ("write_failed", True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stems", [STEMS[:3], (*STEMS, "piano")])
def test_it_is_of_four_stems(stems: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        packed(tmp_path, names=stems)
    assert caught.value.code == "unknown_format"

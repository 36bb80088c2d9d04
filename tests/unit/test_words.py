"""How figures are said in words: one of a thing is not several."""

from unmix.audio.delivery import clip_warnings
from unmix.words import counted


def test_one_is_told_as_one() -> None:
    assert [counted(number, "song") for number in (0, 1, 2, 1.0, 1.5)] == [
        *("0 songs", "1 song", "2 songs", "1 song", "1.5 songs")
    ]
    assert counted(1_234_567, "sample") == "1234567 samples"


def test_a_warning_of_one_sample_says_so() -> None:
    assert list(clip_warnings({"vocals": 1, "drums": 2, "bass": 0})) == [
        "1 sample of vocals was beyond full scale and clipped",
        "2 samples of drums were beyond full scale and clipped",
    ]

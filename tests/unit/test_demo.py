"""What the demo concludes from the stems that came back; the way there is tested end to end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from unmix.audio.encode import StemWriter
from unmix.local import demo
from unmix.settings import Settings

SAMPLES = 88_200
STEMS = ("bass", "drums", "other", "vocals")


def signal(seed: int, samples: int = SAMPLES) -> "np.ndarray[Any, np.dtype[np.float32]]":
    return np.random.default_rng(seed).uniform(-0.2, 0.2, (2, samples)).astype(np.float32)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    """A song with a true stem for vocals beside it, and none for the others."""
    vocals, rest = signal(1), signal(2)
    soundfile.write(tmp_path / "song-vocals.flac", vocals.T, 44_100)
    soundfile.write(tmp_path / "song.wav", (vocals + rest).T, 44_100)
    return tmp_path / "song.wav"


def deliver(folder: Path, samples: int = SAMPLES) -> None:
    """Put four stems into `folder`, as the client does."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, stem in enumerate(STEMS):
        writer = StemWriter(folder / f"{stem}.mp3", format="mp3")
        writer.write(signal(seed, samples))
        writer.close()


Run = Callable[[Callable[[Path], object]], bool]


@pytest.fixture
def run(song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the demo with a service that delivers what the test says."""

    def run_with(delivery: Callable[[Path], object]) -> bool:
        def send(*_: object, **__: object) -> bool:
            delivery(tmp_path / "stems" / "song")
            return True

        monkeypatch.setattr(demo, "_send", send)
        return demo.run(Settings(), song, model="demo", output=tmp_path / "stems")

    return run_with


def test_stems_of_the_exact_length_are_a_success(run: Run) -> None:
    assert run(deliver)


def test_stems_of_another_length_are_a_failure(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert not run(lambda folder: deliver(folder, SAMPLES - 1))
    assert f"not {SAMPLES} samples long" in capsys.readouterr().out


def test_stems_of_an_earlier_run_are_not_taken_for_new_ones(run: Run, tmp_path: Path) -> None:
    deliver(tmp_path / "stems" / "song")
    assert not run(lambda _: None)


def test_the_demo_model_is_labelled(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run(deliver)
    assert "demo model: small, trained on synthetic songs" in capsys.readouterr().out


@pytest.mark.parametrize(("delivered", "is_good"), [(1, True), (2, False)], ids=["the right stem", "a swapped stem"])
def test_the_sdr_is_measured_against_the_true_stem(song: Path, tmp_path: Path, delivered: int, is_good: bool) -> None:
    soundfile.write(tmp_path / "vocals.flac", signal(delivered).T, 44_100)
    stem = demo.report(tmp_path / "vocals.flac", song, demo.decode(song))
    assert stem.sdr_db is not None
    assert stem.improvement_db is not None
    assert (stem.sdr_db > 60) is is_good
    assert (stem.improvement_db > 0) is is_good


def test_a_stem_without_a_true_one_has_no_sdr(song: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "drums.flac", signal(1).T, 44_100)
    stem = demo.report(tmp_path / "drums.flac", song, demo.decode(song))
    assert (stem.samples, stem.sdr_db, stem.improvement_db) == (SAMPLES, None, None)

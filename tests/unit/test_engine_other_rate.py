"""Models that hear songs at another rate than 44.1 kHz: songs are resampled for them, and their stems back."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from demucs.apply import apply_model
from julius.resample import resample_frac
from torch import Tensor

from audio_files import decoded, encode, music
from demucs_models import FOUR, htdemucs
from engine_support import loaded
from unmix.engine.models import LoadedModel
from unmix.engine.sdr import sdr_db
from unmix.engine.separator import Separator
from unmix.errors import EngineError


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "song.mp3"
    path.write_bytes(encode("mp3", music(60_001)))
    return path


def slow_model(folder: Path) -> LoadedModel:
    return loaded(htdemucs(samplerate=22_050), folder)


def test_a_model_of_another_rate_without_torchaudio_is_an_error_that_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    monkeypatch.setitem(sys.modules, "torchaudio.functional", None)
    with pytest.raises(EngineError, match=r"44100 Hz.*\[torchaudio\]") as caught:
        Separator(slow_model(tmp_path), backend="torch", precision="exact")
    assert caught.value.code == "torchaudio_needed"


def resampled(samples: Tensor, old_rate: int, new_rate: int) -> Tensor:
    result: Tensor = resample_frac(samples, old_rate, new_rate, full=True)
    return result


@pytest.fixture
def slow_separator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Separator:
    # torchaudio's wheels need a CUDA build of torch: in its place stands the resampler that demucs itself uses.
    functional = ModuleType("torchaudio.functional")
    functional.resample = resampled  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchaudio", ModuleType("torchaudio"))
    monkeypatch.setitem(sys.modules, "torchaudio.functional", functional)
    return Separator(slow_model(tmp_path), backend="torch", precision="exact")


def test_a_model_of_another_rate_is_fed_resampled_songs(slow_separator: Separator, song: Path, tmp_path: Path) -> None:
    separator = slow_separator
    separation = separator.separate_file(song, tmp_path / "out", format="wav")
    mixture = torch.from_numpy(decoded(song))
    slow = resampled(mixture, 44_100, 22_050)
    mean, std = slow.mean(0).mean(), slow.mean(0).std() + 1e-8
    estimates = apply_model(separator.model.module, ((slow - mean) / std)[None], shifts=0)[0] * std + mean
    vocals = resampled(estimates[3], 22_050, 44_100)[:, :60_001].numpy()
    assert separation.samples == 60_001
    assert sdr_db(vocals, decoded(separation.stems["vocals"])) > 40


def test_a_region_of_a_model_of_another_rate_is_the_samples_of_the_whole_song_there(
    slow_separator: Separator, song: Path, tmp_path: Path
) -> None:
    whole = slow_separator.separate_file(song, tmp_path / "whole", format="wav", bits=32)
    part = slow_separator.separate_file(song, tmp_path / "part", format="wav", bits=32, start=0.3, end=0.9)
    for stem in FOUR:
        assert np.array_equal(decoded(part.stems[stem]), decoded(whole.stems[stem])[:, 13_230:39_690])


def test_stems_of_a_model_of_another_rate_add_up_to_the_song_as_it_was_sent(
    slow_separator: Separator, song: Path, tmp_path: Path
) -> None:
    """Also above the highest frequency that the model hears."""
    asked = {"karaoke": ["vocals", "instrumental"], "consistent": FOUR}
    for name, stems in asked.items():
        separation = slow_separator.separate_file(
            song, tmp_path / name, stems=stems, format="wav", mixture_consistency=name == "consistent"
        )
        total = sum(decoded(path) for path in separation.stems.values())
        assert np.abs(total - decoded(song)).max() <= 2.1 / 32_768

"""Stems beyond the model's own estimates: the song less one of its sources, and sources that add up to their song."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from audio_files import decoded, encode, music
from demucs_models import FOUR, htdemucs, save_ft, save_mdx
from demucs_models import save_safetensors as save
from unmix.engine.consistency import spread_residual
from unmix.engine.models import load_model
from unmix.engine.separator import Separator
from unmix.errors import InputError

#: Half of what the last bit of a stem is worth: at most so far is a stem from its samples before they were rounded.
ROUNDING = 0.5 / 32_768
#: What float32 may add to that.
SLACK = 1e-6


def small(folder: Path, sources: list[str] = FOUR) -> None:
    save(htdemucs(sources=sources), folder / "small.safetensors")


def separator_of(name: str, folder: Path) -> Separator:
    return Separator(load_model(name, model_dir=folder), backend="torch")  # there is nothing to convert


@pytest.fixture(scope="module")
def separator(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Separator:
    folder = tmp_path_factory.mktemp("model")
    small(folder)
    return Separator(load_model("small", model_dir=folder), cache_dir=cache_dir)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "song.flac"
    path.write_bytes(encode("flac", music(60_001)))
    return path


def distance(song: Path, *stems: Path) -> float:
    """The largest difference between a sample of the song and the sum of the stems."""
    return float(np.abs(sum(map(decoded, stems)) - decoded(song)).max())


@pytest.mark.parametrize("mixture_consistency", [False, True])
def test_vocals_and_instrumental_add_up_to_the_song(
    mixture_consistency: bool, separator: Separator, song: Path, tmp_path: Path
) -> None:
    separation = separator.separate_file(
        song,
        tmp_path / "out",
        stems=["vocals", "instrumental"],
        format="wav",
        mixture_consistency=mixture_consistency,
    )
    assert list(separation.stems) == ["vocals", "instrumental"]
    assert distance(song, *separation.stems.values()) <= 2 * ROUNDING + SLACK


def test_the_instrumental_comes_alone_too_but_never_unasked(separator: Separator, song: Path, tmp_path: Path) -> None:
    both = separator.separate_file(song, tmp_path / "both", stems=["instrumental", "vocals"], format="wav")
    alone = separator.separate_file(song, tmp_path / "alone", stems=["instrumental"], format="wav")
    assert list(alone.stems) == ["instrumental"]
    assert [path.name for path in (tmp_path / "alone").iterdir()] == ["instrumental.wav"]
    assert alone.stems["instrumental"].read_bytes() == both.stems["instrumental"].read_bytes()
    assert list(separator.separate_file(song, tmp_path / "all").stems) == FOUR


def test_karaoke_from_a_bag_runs_only_the_model_of_the_vocals(song: Path, tmp_path: Path) -> None:
    save_ft(tmp_path)
    separator = separator_of("htdemucs_ft", tmp_path)
    whole = separator.separate_file(song, tmp_path / "whole", format="wav")
    karaoke = separator.separate_file(song, tmp_path / "karaoke", stems=["vocals", "instrumental"], format="wav")
    assert karaoke.segments * 4 == whole.segments
    assert karaoke.stems["vocals"].read_bytes() == whole.stems["vocals"].read_bytes()
    assert distance(song, *karaoke.stems.values()) <= 2 * ROUNDING + SLACK


def test_every_source_and_the_song_less_it_add_up_to_the_song(separator: Separator, song: Path, tmp_path: Path) -> None:
    less = {"drums": "no_drums", "bass": "no_bass", "other": "no_other", "vocals": "instrumental"}
    stems = separator.separate_file(song, tmp_path / "out", stems=[*FOUR, *less.values()], format="wav").stems
    assert list(stems) == [*FOUR, *less.values()]
    for source, rest in less.items():
        assert distance(song, stems[source], stems[rest]) <= 2 * ROUNDING + SLACK


def test_the_song_less_one_source_of_a_bag_runs_only_the_model_of_that_source(song: Path, tmp_path: Path) -> None:
    save_ft(tmp_path)
    separator = separator_of("htdemucs_ft", tmp_path)
    bass = separator.separate_file(song, tmp_path / "bass", stems=["bass"])
    rest = separator.separate_file(song, tmp_path / "rest", stems=["no_bass"])
    assert list(rest.stems) == ["no_bass"]
    assert rest.segments == bass.segments


def test_a_stem_of_two_names_comes_once_and_under_the_first(separator: Separator, song: Path, tmp_path: Path) -> None:
    separation = separator.separate_file(song, tmp_path / "out", stems=["no_vocals", "instrumental", "no_base"])
    assert list(separation.stems) == ["instrumental", "no_bass"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["instrumental.mp3", "no_bass.mp3"]


def test_a_source_that_is_called_as_the_song_less_another_is_given_as_it_is(song: Path, tmp_path: Path) -> None:
    small(tmp_path, ["vocals", "no_vocals"])
    separator = separator_of("small", tmp_path)
    whole = separator.separate_file(song, tmp_path / "whole", format="wav")
    alone = separator.separate_file(song, tmp_path / "alone", stems=["no_vocals"], format="wav")
    assert alone.stems["no_vocals"].read_bytes() == whole.stems["no_vocals"].read_bytes()
    assert distance(song, *whole.stems.values()) > 0.01


def test_a_model_without_vocals_has_no_instrumental(song: Path, tmp_path: Path) -> None:
    small(tmp_path, ["drums", "bass"])
    with pytest.raises(InputError, match=r"it has drums, bass, no_drums, no_bass$") as caught:
        separator_of("small", tmp_path).separate_file(song, tmp_path / "out", stems=["instrumental"])
    assert caught.value.code == "unknown_stem"


def test_an_instrumental_that_the_model_estimates_itself_is_given_as_it_is(song: Path, tmp_path: Path) -> None:
    small(tmp_path, ["vocals", "instrumental"])
    separator = separator_of("small", tmp_path)
    whole = separator.separate_file(song, tmp_path / "whole", format="wav")
    alone = separator.separate_file(song, tmp_path / "alone", stems=["instrumental"], format="wav")
    assert list(whole.stems) == ["vocals", "instrumental"]
    assert distance(song, *whole.stems.values()) > 0.01
    assert alone.stems["instrumental"].read_bytes() == whole.stems["instrumental"].read_bytes()


@pytest.mark.parametrize(("save_model", "name"), [(small, "small"), (save_ft, "htdemucs_ft"), (save_mdx, "mdx")])
def test_with_mixture_consistency_all_sources_add_up_to_the_song(
    save_model: Callable[[Path], None], name: str, song: Path, tmp_path: Path
) -> None:
    save_model(tmp_path)
    separator = separator_of(name, tmp_path)
    plain = separator.separate_file(song, tmp_path / "plain", format="wav")
    consistent = separator.separate_file(song, tmp_path / "consistent", format="wav", mixture_consistency=True)
    assert distance(song, *plain.stems.values()) > 0.01
    assert distance(song, *consistent.stems.values()) <= 4 * ROUNDING + SLACK


@pytest.mark.parametrize("samples", [1, 100])
def test_the_shortest_songs_are_consistent_too(samples: int, separator: Separator, tmp_path: Path) -> None:
    song = tmp_path / "song.flac"
    song.write_bytes(encode("flac", music(100)[:, :samples]))
    separation = separator.separate_file(song, tmp_path / "out", format="wav", mixture_consistency=True)
    assert distance(song, *separation.stems.values()) <= 4 * ROUNDING + SLACK


def test_a_consistent_stem_is_the_same_whatever_else_is_asked(song: Path, tmp_path: Path) -> None:
    """The residual is that of all sources, so all models of a bag run."""
    save_ft(tmp_path)
    separator = separator_of("htdemucs_ft", tmp_path)
    whole = separator.separate_file(song, tmp_path / "whole", format="wav", mixture_consistency=True)
    bass = separator.separate_file(song, tmp_path / "bass", stems=["bass"], format="wav", mixture_consistency=True)
    assert list(bass.stems) == ["bass"]
    assert bass.segments == whole.segments
    assert bass.stems["bass"].read_bytes() == whole.stems["bass"].read_bytes()


def test_the_residual_is_shared_equally_and_the_estimates_stay_as_they_are() -> None:
    mixture, estimates = torch.from_numpy(music(1_000)), torch.randn(4, 2, 1_000)
    before = estimates.clone()
    changes = spread_residual(mixture, estimates) - estimates
    assert torch.allclose((estimates + changes).sum(0), mixture, atol=1e-5)
    assert torch.allclose(changes, changes[:1].expand_as(changes), atol=1e-6)
    assert torch.equal(estimates, before)

"""The shipped demo model separates: a gate on songs that it was not trained on, with their true sources.

The songs are excerpts made by `training/`, as `tests/data/songs/<name>/{mixture,drums,bass,other,vocals}.flac`.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from audio_files import decoded
from unmix.engine.models import DEMO, load_model
from unmix.engine.sdr import sdr_db
from unmix.engine.separator import Separator

SONGS_DIR = Path(__file__).parent.parent / "data" / "songs"
STEMS = ("drums", "bass", "other", "vocals")
SONGS = sorted(path.name for path in SONGS_DIR.iterdir()) if SONGS_DIR.is_dir() else []

Stems = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def separate(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Callable[[Path], Stems]:
    """Separate a file with the demo model as users get it, each file once."""
    separator = Separator(load_model(DEMO), threads=1, cache_dir=cache_dir)
    known: dict[Path, Stems] = {}

    def separate(song: Path) -> Stems:
        if song not in known:
            separation = separator.separate_file(song, tmp_path_factory.mktemp("stems"), format="wav")
            known[song] = {stem: decoded(path) for stem, path in separation.stems.items()}
        return known[song]

    return separate


@cache
def sources_of(song: str) -> Stems:
    return {stem: decoded(SONGS_DIR / song / f"{stem}.flac") for stem in STEMS}


def test_there_are_songs_to_judge_the_demo_model_by() -> None:
    assert len(SONGS) >= 3, f"no songs with true sources in {SONGS_DIR}: make them with training/"


@pytest.mark.parametrize("stem", STEMS)
def test_every_stem_is_at_least_5_db_closer_to_its_source_than_the_song_is(
    stem: str, separate: Callable[[Path], Stems]
) -> None:
    improvements = []
    for song in SONGS:
        mixture, source = decoded(SONGS_DIR / song / "mixture.flac"), sources_of(song)[stem]
        estimate = separate(SONGS_DIR / song / "mixture.flac")[stem]
        improvements.append(sdr_db(source, estimate) - sdr_db(source, mixture))
    assert mean(improvements) >= 5, improvements


def test_every_stem_is_most_like_its_own_source(separate: Callable[[Path], Stems]) -> None:
    assert SONGS
    for song in SONGS:
        sources, estimates = sources_of(song), separate(SONGS_DIR / song / "mixture.flac")
        for stem, estimate in estimates.items():
            likeness = {name: np.corrcoef(estimate.ravel(), source.ravel())[0, 1] for name, source in sources.items()}
            assert max(likeness, key=lambda name: likeness[name]) == stem, (song, stem, likeness)


@pytest.mark.slow
@pytest.mark.parametrize("stem", STEMS)
def test_an_instrument_alone_lands_in_its_own_stem(
    stem: str, separate: Callable[[Path], Stems], tmp_path: Path
) -> None:
    own = total = 0.0
    assert SONGS
    for song in SONGS:
        alone = tmp_path / f"{song}.flac"
        soundfile.write(alone, sources_of(song)[stem].T, 44_100)
        energies = {name: float(np.square(estimate).sum()) for name, estimate in separate(alone).items()}
        own, total = own + energies[stem], total + sum(energies.values())
    assert own / total >= 0.6


def test_the_stems_add_up_to_the_song_within_a_known_distance(separate: Callable[[Path], Stems]) -> None:
    """No mixture consistency is forced by default: what the model loses is lost, and this is how much."""
    assert SONGS
    snrs_db = []
    for song in SONGS:
        mixture = decoded(SONGS_DIR / song / "mixture.flac")
        total = np.sum(list(separate(SONGS_DIR / song / "mixture.flac").values()), axis=0)
        snrs_db.append(sdr_db(mixture, total))
    assert min(snrs_db) >= 15, snrs_db

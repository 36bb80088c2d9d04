"""A song goes in, stems of its exact length come out: the asked ones, the same every time, or none."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from demucs.apply import apply_model
from torch import Tensor

from audio_files import FORMATS, decoded, encode, music, wav
from demucs_models import FOUR, SIX, demucs, hdemucs, htdemucs, save_bag, save_ft, save_mdx, tiny_htdemucs
from demucs_models import save_safetensors as save
from engine_support import loaded
from unmix.engine.backends import Backend, Precision
from unmix.engine.models import LoadedModel, load_model
from unmix.engine.separator import Separator
from unmix.errors import AudioError, EngineError, InputError


@pytest.fixture(scope="module")
def separator(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Separator:
    """What users get; a worker's separates one song after the other too."""
    return Separator(loaded(htdemucs(), tmp_path_factory.mktemp("model")), cache_dir=cache_dir)


def exact_separator(model: LoadedModel) -> Separator:
    """A separator whose stems can be compared with what demucs itself gives."""
    return Separator(model, backend="torch", precision="exact")


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "song.mp3"
    path.write_bytes(encode("mp3", music(60_001)))
    return path


def test_every_source_of_the_model_becomes_a_stem(separator: Separator, song: Path, tmp_path: Path) -> None:
    separation = separator.separate_file(song, tmp_path / "out")
    assert separation.stems == {stem: tmp_path / "out" / f"{stem}.mp3" for stem in FOUR}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(f"{stem}.mp3" for stem in FOUR)


@pytest.mark.parametrize("format", ["mp3", "wav", "flac"])
@pytest.mark.parametrize("kind", ["mp3", "m4a", "opus", "flac"])
def test_every_stem_has_the_exact_length_of_the_song(
    kind: str, format: str, separator: Separator, tmp_path: Path
) -> None:
    sample_rate = 48_000 if kind == "opus" else 44_100
    song = tmp_path / "song"
    song.write_bytes(encode(kind, music(30_011, sample_rate=sample_rate), sample_rate=sample_rate))
    samples = decoded(song).shape[1]
    separation = separator.separate_file(song, tmp_path / "out", format=format)
    assert separation.samples == samples
    assert {decoded(path).shape[1] for path in separation.stems.values()} == {samples}


def test_all_stems_come_in_one_file_and_add_up_to_the_mixdown_in_it(
    separator: Separator, song: Path, tmp_path: Path
) -> None:
    whole = separator.separate_file(song, tmp_path / "whole", format="flac")
    told: list[tuple[int, int]] = []
    packed = separator.separate_file(
        song, tmp_path / "out", format="stem.mp4", on_progress=lambda done, total: told.append((done, total))
    )
    assert packed.stems == {"stems": tmp_path / "out" / "stems.stem.mp4"}
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out" / "stems.stem.mp4"]
    assert (packed.samples, packed.segments, packed.peaks) == (whole.samples, whole.segments, whole.peaks)
    assert told[-1] == (whole.segments, whole.segments)
    tracks = []
    for index in range(5):
        with av.open(tmp_path / "out" / "stems.stem.mp4") as opened:
            frames = [frame.to_ndarray() for frame in opened.decode(audio=index)]
            tracks.append(np.concatenate(frames, axis=1).astype(np.int32))
    for track, stem in zip(tracks[1:], whole.stems.values(), strict=True):
        assert np.array_equal(track, decoded(stem) * 32_768)
    assert np.array_equal(tracks[0], np.sum(tracks[1:], axis=0).clip(-32_768, 32_767))


def test_two_stems_are_none_of_a_file_of_four(separator: Separator, song: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        separator.separate_file(song, tmp_path / "out", stems=["vocals", "drums"], format="stem.mp4")
    assert caught.value.code == "unknown_format"


@pytest.mark.parametrize("offset", [0.0, 0.2])
def test_stems_are_what_demucs_makes_of_the_song(offset: float, tmp_path: Path) -> None:
    separator = exact_separator(loaded(htdemucs(), tmp_path))
    song = tmp_path / "song"
    # The offset changes in the middle, so that the mean of a part is not the mean of the song.
    song.write_bytes(wav(music(150_001) + np.where(np.arange(150_001) < 70_000, offset, -offset).astype(np.float32)))
    separation = separator.separate_file(song, tmp_path / "out", format="wav")
    mixture = torch.from_numpy(decoded(song))
    reference = mixture.mean(0)
    mean, std = reference.mean(), reference.std() + 1e-8
    estimates = apply_model(separator.model.module, ((mixture - mean) / std)[None], shifts=0)[0] * std + mean
    for stem, estimate in zip(FOUR, estimates.numpy(), strict=True):
        rounded = np.rint(estimate * 32_768).clip(-32_768, 32_767) / 32_768
        assert np.abs(decoded(separation.stems[stem]) - rounded).max() <= 1 / 32_768


@pytest.mark.parametrize(
    ("name", "save_as", "stems"),
    [
        ("htdemucs", lambda folder: save_bag(folder, "htdemucs", {"955717e8": htdemucs()}), FOUR),
        pytest.param("htdemucs_ft", save_ft, FOUR, marks=pytest.mark.slow),
        ("htdemucs_6s", lambda folder: save_bag(folder, "htdemucs_6s", {"5c90dfd2": htdemucs(sources=SIX)}), SIX),
        ("hdemucs_mmi", lambda folder: save_bag(folder, "hdemucs_mmi", {"75fc33f5": hdemucs()}, segment=1), FOUR),
        ("mdx", save_mdx, FOUR),
        ("mdx_time", lambda folder: save_bag(folder, "mdx_time", {"9a6b4851": demucs()}), FOUR),
    ],
)
def test_models_of_every_published_shape_separate(
    name: str, save_as: Callable[[Path], None], stems: list[str], song: Path, tmp_path: Path, cache_dir: Path
) -> None:
    save_as(tmp_path)
    separator = Separator(load_model(name, model_dir=tmp_path), cache_dir=cache_dir)
    separation = separator.separate_file(song, tmp_path / "out", format="flac")
    assert list(separation.stems) == stems
    assert {decoded(path).shape[1] for path in separation.stems.values()} == {60_001}


def test_only_asked_stems_are_made_and_only_their_models_run(song: Path, tmp_path: Path, cache_dir: Path) -> None:
    models = {"instruments": tiny_htdemucs(0), "voice": tiny_htdemucs(1)}
    save_bag(tmp_path, "two", models, weights=[[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    separator = Separator(load_model("two", model_dir=tmp_path), cache_dir=cache_dir)
    whole = separator.separate_file(song, tmp_path / "whole", format="wav")
    vocals = separator.separate_file(song, tmp_path / "vocals", format="wav", stems=["vocals", "vocals"])
    assert list(vocals.stems) == ["vocals"]
    assert vocals.segments * 2 == whole.segments
    assert np.array_equal(decoded(vocals.stems["vocals"]), decoded(whole.stems["vocals"]))


@pytest.mark.parametrize("precision", ["fast", "exact"])
@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_the_same_song_gives_the_same_samples_again(
    backend: Backend, precision: Precision, song: Path, tmp_path: Path, cache_dir: Path
) -> None:
    model = loaded(htdemucs(), tmp_path)
    separator = Separator(model, backend=backend, precision=precision, cache_dir=cache_dir)
    first = separator.separate_file(song, tmp_path / "first", format="wav")
    separator.separate_file(song, tmp_path / "between", stems=["bass"])
    second = separator.separate_file(song, tmp_path / "second", format="wav")
    for stem in FOUR:
        assert first.stems[stem].read_bytes() == second.stems[stem].read_bytes()


def test_progress_is_reported_per_segment(separator: Separator, song: Path, tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    separation = separator.separate_file(
        song, tmp_path / "out", on_progress=lambda done, total: reports.append((done, total))
    )
    assert reports == [(done, separation.segments) for done in range(separation.segments + 1)]
    assert separation.segments == 8


@pytest.mark.parametrize("level", [0.0, 0.25])
def test_a_song_without_any_sound_gives_silence(level: float, separator: Separator, tmp_path: Path) -> None:
    (tmp_path / "song").write_bytes(wav(np.full((2, 30_000), level, np.float32)))
    separation = separator.separate_file(tmp_path / "song", tmp_path / "out", format="wav")
    for path in separation.stems.values():
        # A constant level is no sound either: demucs gives it back in every stem.
        assert np.all(decoded(path) == level)


@pytest.mark.parametrize("samples", [1, 2, 100])
def test_the_shortest_songs_are_separated(samples: int, separator: Separator, tmp_path: Path) -> None:
    (tmp_path / "song").write_bytes(wav(music(100)[:, :samples]))
    separation = separator.separate_file(tmp_path / "song", tmp_path / "out", format="wav")
    assert {decoded(path).shape for path in separation.stems.values()} == {(2, samples)}


def test_an_unknown_stem_is_refused_by_naming_the_models_own(separator: Separator, song: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="drums, bass, other, vocals") as caught:
        separator.separate_file(song, tmp_path / "out", stems=["vocals", "guitar"])
    assert caught.value.code == "unknown_stem"
    with pytest.raises(InputError) as caught:
        separator.separate_file(song, tmp_path / "out", format="exe")
    assert caught.value.code == "unknown_format"
    for format, bits in (("mp3", 24), ("flac", 32), ("wav", 8)):
        with pytest.raises(InputError, match=f"as {format}") as caught:
            separator.separate_file(song, tmp_path / "out", format=format, bits=bits)
        assert caught.value.code == "unknown_bits"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_stems_of_24_bits_are_the_estimates_to_24_bits(
    format: str, separator: Separator, song: Path, tmp_path: Path
) -> None:
    exact = separator.separate_file(song, tmp_path / "exact", format="wav", bits=32)
    fine = separator.separate_file(song, tmp_path / "fine", format=format, bits=24)
    for stem in FOUR:
        estimates = decoded(exact.stems[stem]).astype(np.float64)
        assert not np.array_equal(estimates, np.rint(estimates * 2**23) / 2**23)  # they have more
        assert np.array_equal(decoded(fine.stems[stem]), np.rint(estimates * 2**23) / 2**23)


@pytest.mark.parametrize("backend", ["openvino", "torch"])
@pytest.mark.parametrize(("start", "end"), [(0.3, 0.9), (1.0, None), (0.0, 60_001 / 44_100), (0.5, 0.50003)])
def test_stems_of_a_region_are_the_samples_of_the_whole_song_there(
    start: float, end: float | None, backend: Backend, song: Path, tmp_path: Path, cache_dir: Path
) -> None:
    separator = Separator(loaded(htdemucs(), tmp_path), backend=backend, cache_dir=cache_dir)
    stems = [*FOUR, "instrumental"]
    whole = separator.separate_file(song, tmp_path / "whole", format="wav", bits=32, stems=stems)
    part = separator.separate_file(
        song, tmp_path / "part", format="wav", bits=32, stems=stems, start=start, end=end, mixture_consistency=False
    )
    wanted = slice(round(start * 44_100), None if end is None else round(end * 44_100))
    for stem in stems:
        assert np.array_equal(decoded(part.stems[stem]), decoded(whole.stems[stem])[:, wanted])
    assert part.samples == len(range(60_001)[wanted])
    assert part.duration_seconds == whole.duration_seconds == 60_001 / 44_100
    assert (part.segments < whole.segments) == (part.samples < 60_001)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (-0.1, 1.0),
        (0.5, 0.5),
        (0.9, 0.3),
        (2.0, None),
        (0.0, 1.4),
        (float("nan"), None),
        (0.0, float("inf")),
        (0.5, 0.500001),
    ],
)
def test_a_region_that_the_song_does_not_have_is_refused_and_leaves_no_file(
    start: float, end: float | None, separator: Separator, song: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        separator.separate_file(song, tmp_path / "out", start=start, end=end)
    assert caught.value.code == "bad_region"
    assert not (tmp_path / "out").exists()


class Stopped(Exception):
    """Raised from within a separation."""


@pytest.mark.parametrize("fault", ["progress", "model", "song"])
def test_a_separation_that_fails_leaves_no_file_and_a_separator_that_works(
    fault: str, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    separator = exact_separator(loaded(htdemucs(), tmp_path))
    good = song.read_bytes()
    out = tmp_path / "out"

    def interfere(done: int, total: int) -> None:
        if fault == "song" and done == 0:  # between the two readings
            song.write_bytes(encode("mp3", music(50_000)))
        if fault == "model" and done == 5:
            monkeypatch.setattr(separator.model.module.models[0], "forward", broken)
        if fault == "progress" and done == 5:
            raise Stopped

    with pytest.raises((Stopped, EngineError)):
        separator.separate_file(song, out, format="wav", on_progress=interfere)
    assert not list(out.iterdir())
    monkeypatch.undo()
    song.write_bytes(good)
    assert len(separator.separate_file(song, out, format="wav").stems) == 4


def broken(mixtures: Tensor) -> Tensor:
    raise RuntimeError("injected")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/full")
@pytest.mark.parametrize("full", [["vocals"], FOUR], ids=["one", "all"])
@pytest.mark.parametrize("format", FORMATS)
def test_a_disk_that_fills_up_leaves_no_file_and_a_separator_that_works(
    format: str, full: list[str], separator: Separator, song: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for stem in full:
        (out / f".{stem}.{format}.part").symlink_to("/dev/full")
    with pytest.raises(EngineError) as caught:
        separator.separate_file(song, out, format=format)
    assert caught.value.code == "write_failed"
    assert caught.value.retryable
    assert not list(out.iterdir())
    assert len(separator.separate_file(song, out, format=format).stems) == 4


def test_stems_of_an_earlier_separation_survive_one_that_fails(
    separator: Separator, song: Path, tmp_path: Path
) -> None:
    separator.separate_file(song, tmp_path / "out", format="wav")
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise Stopped

    with pytest.raises(Stopped):
        separator.separate_file(song, tmp_path / "out", format="wav", on_progress=stop)
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_song_that_cannot_be_decoded_makes_nothing(separator: Separator, tmp_path: Path) -> None:
    (tmp_path / "song.mp3").write_bytes(b"words")
    with pytest.raises(AudioError):
        separator.separate_file(tmp_path / "song.mp3", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_made_is_an_error(separator: Separator, song: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EngineError) as caught:
        separator.separate_file(song, tmp_path / "file" / "out")
    assert caught.value.code == "write_failed"


def test_what_the_reader_says_of_a_song_is_passed_on(separator: Separator, tmp_path: Path) -> None:
    six = wav(music(8_000, channels=6), sample_rate=8_000, claimed_bytes=2 * 4 * 6 * 8_000)
    (tmp_path / "song").write_bytes(six)
    separation = separator.separate_file(tmp_path / "song", tmp_path / "out", format="wav")
    assert separation.notes == (
        "resampled from 8000 Hz to 44100 Hz",
        "mixed down from 6 channels to stereo, 7.7 dB quieter so that nothing clips",
    )
    assert separation.warnings == ("the file ends early: 1.0 s of 2.0 s",)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak of a process there")
@pytest.mark.parametrize("make", [demucs, htdemucs])
def test_memory_does_not_grow_with_the_song(make: Callable[[], Any], tmp_path: Path, cache_dir: Path) -> None:
    """Neither with torch nor with OpenVINO."""
    save(make(), tmp_path / "small.safetensors")
    for seconds in (10, 60):
        (tmp_path / f"{seconds}.flac").write_bytes(encode("flac", np.tile(music(44_100), seconds)))
    program = """
import sys
from pathlib import Path
from unmix.engine.models import load_model
from unmix.engine.separator import Separator
folder, cache_dir = map(Path, sys.argv[1:])
separator = Separator(load_model("small", model_dir=folder), threads=1, cache_dir=cache_dir)
for seconds, start in ((10, 0), (60, 59), (60, 0)):
    separator.separate_file(folder / f"{seconds}.flac", folder / "out", format="wav", start=start)
    (peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(int(peak.split()[1]) // 1024)
"""
    command = [sys.executable, "-c", program, str(tmp_path), str(cache_dir)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    short_mib, part_mib, long_mib = map(int, run.stdout.splitlines()[-3:])
    # The longer song has 17 MiB more of mixture, also before its last second, and 67 MiB more of stems.
    assert part_mib - short_mib < 15
    assert long_mib - short_mib < 15


@pytest.mark.parametrize("device", ["cuda:99", "warp", "meta"])
def test_a_device_that_is_not_there_is_an_error_and_not_the_cpu(device: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=device) as caught:
        Separator(loaded(htdemucs(), tmp_path), device=device)
    assert caught.value.code == "device_unavailable"


def test_clipped_samples_are_counted_per_stem_and_warned_of(tmp_path: Path) -> None:
    model = htdemucs()
    with torch.no_grad():
        model.decoder[-1].conv_tr.weight *= 3_000
        model.tdecoder[-1].conv_tr.weight *= 3_000
    (tmp_path / "song").write_bytes(wav(music(30_000)))
    separation = exact_separator(loaded(model, tmp_path)).separate_file(tmp_path / "song", tmp_path / "out")
    assert list(separation.clipped) == FOUR
    clipped = {stem: samples for stem, samples in separation.clipped.items() if samples}
    assert clipped
    assert separation.warnings == tuple(
        f"{samples} samples of {stem} were beyond full scale and clipped" for stem, samples in clipped.items()
    )

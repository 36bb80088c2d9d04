"""`unmix separate`: the engine from the command line, with the demo model and real audio files."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from audio_files import encode, music, wav
from command_line import unmix
from support import eventually, make_song
from unmix import separating
from unmix.audio.song_reader import measure
from unmix.audio.tags import tags_of
from unmix.engine.separator import Separator
from unmix.local.demo import decode
from unmix.settings import Settings

STEMS = ["bass", "drums", "other", "vocals"]


@pytest.fixture(scope="module", autouse=True)
def models_are_loaded_once() -> Iterator[None]:
    """Have a command find the separator of an earlier one that asked for the same; processes load their own."""
    make, known = separating.make_separator, dict[tuple[str, str, int], Separator]()

    def make_once(model: str, settings: Settings, *, at_once: int = 1) -> Separator:
        asked = model, settings.model_dump_json(), at_once
        if asked not in known:
            known[asked] = make(model, settings, at_once=at_once)
        return known[asked]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(separating, "make_separator", make_once)
        yield


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMIX_THREADS", "1")  # two of torch's threads on a busy machine are slower than one


@pytest.fixture
def song(tmp_path: Path) -> Path:
    """A song of 3 s."""
    path = tmp_path / "song.wav"
    path.write_bytes(make_song(3, seed=1))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_stem_is_as_long_as_the_song(song: Path, tmp_path: Path) -> None:
    assert unmix("separate", song, "--model", "demo", "-o", tmp_path / "out") == 0
    stems = sorted((tmp_path / "out" / "song").iterdir())
    assert [stem.name for stem in stems] == [f"{name}.mp3" for name in STEMS]
    assert {measure(stem).samples for stem in stems} == {3 * 44100}


def test_only_the_asked_stems_come_and_in_the_asked_format(song: Path, tmp_path: Path) -> None:
    options = ("--stems", "vocals, drums", "--format", "flac")
    assert unmix("separate", song, "--model", "demo", "-o", tmp_path / "out", *options) == 0
    assert names(tmp_path / "out" / "song") == ["drums.flac", "vocals.flac"]
    assert measure(tmp_path / "out" / "song" / "vocals.flac").container == "flac"


def test_all_stems_in_one_file_have_the_name_of_the_song(song: Path, tmp_path: Path) -> None:
    command = ("separate", song, "--model", "demo", "-o", tmp_path / "out", "--format", "stem.mp4")
    assert unmix(*command) == 0
    assert names(tmp_path / "out") == [".unmix.jsonl", "song.stem.mp4"]
    assert unmix(*command, "--name-template", "{artist} - {title}") == 0
    assert (tmp_path / "out" / "Unknown artist - song.stem.mp4").exists()


def test_stems_carry_what_is_written_in_their_song(tmp_path: Path) -> None:
    songs = []
    for name, title in (("a", "First"), ("b", "Second")):
        songs.append(tmp_path / f"{name}.mp3")
        songs[-1].write_bytes(encode("mp3", music(3 * 44_100), title=title, artist="Sömebody"))
    options = ("--model", "demo", "--stems", "vocals,no_vocals")
    assert unmix("separate", *songs, *options, "-o", tmp_path / "out") == 0
    assert unmix("separate", *songs, *options, "-o", tmp_path / "at-once", "--at-once", "2") == 0
    for name, title in (("a", "First"), ("b", "Second")):
        for stem, which in (("vocals", "vocals"), ("instrumental", "instrumental")):
            made = tmp_path / "out" / name / f"{stem}.mp3"
            assert tags_of(made).texts == {"title": f"{title} ({which})", "artist": "Sömebody"}
            assert (tmp_path / "at-once" / name / f"{stem}.mp3").read_bytes() == made.read_bytes()


def test_stems_come_in_as_many_bits_as_asked_for(
    song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for bits, codec in ((24, "pcm_s24le"), (32, "pcm_f32le")):
        options = ("--stems", "vocals", "--format", "wav", "--bits", f"{bits}")
        assert unmix("separate", song, "--model", "demo", "-o", tmp_path / f"{bits}", *options) == 0
        assert measure(tmp_path / f"{bits}" / "song" / "vocals.wav").codec == codec
    assert unmix("separate", song, "--model", "demo", "-o", tmp_path / "out", "--bits", "24") == 1
    assert "(unknown_bits)" in capsys.readouterr().err


def test_stems_fit_a_song_of_any_rate_if_asked_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    song = tmp_path / "scene.flac"
    song.write_bytes(encode("flac", music(60_001), sample_rate=96_000))
    usual = ("separate", song, "--model", "demo", "--stems", "vocals", "--song-rate", "-o", tmp_path / "out")
    assert unmix(*usual, "--format", "flac") == 0
    vocals = measure(tmp_path / "out" / "scene" / "vocals.flac")
    assert (vocals.own_rate, vocals.own_samples) == (96_000, 60_001)
    assert "resampled from 44100 Hz to 96000 Hz" in capsys.readouterr().err
    assert unmix(*usual) == 1
    assert "(unknown_rate)" in capsys.readouterr().err


def test_bit_rate_overlap_and_shifts_are_as_asked_for(
    song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = ("separate", song, "--model", "demo", "--stems", "vocals")
    passes = ("--overlap", "0.5", "--shifts", "2")
    for folder, options in {"small": ("--bitrate-kbps", "64"), "usual": (), "other": passes}.items():
        assert unmix(*usual, "-o", tmp_path / folder, *options) == 0
    made = {folder: (tmp_path / folder / "song" / "vocals.mp3").read_bytes() for folder in ("small", "usual", "other")}
    assert len(made["small"]) < len(made["usual"]) / 3
    assert made["other"] != made["usual"]
    for wrong in (("--bitrate-kbps", "100"), ("--format", "wav", "--bitrate-kbps", "256")):
        assert unmix(*usual, "-o", tmp_path / "none", *wrong) == 1
        assert "(unknown_bitrate)" in capsys.readouterr().err
    for wrong in (("--overlap", "0.8"), ("--overlap", "nan"), ("--shifts", "6")):
        assert unmix(*usual, "-o", tmp_path / "none", *wrong) == 1
        assert "(out_of_range)" in capsys.readouterr().err


def test_a_region_gives_stems_of_its_length_and_one_outside_of_the_song_is_an_error(
    song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    region = ("--start", "1.5", "--end", "2.25")
    assert unmix("separate", song, "--model", "demo", "-o", tmp_path / "out", "--stems", "vocals", *region) == 0
    assert measure(tmp_path / "out" / "song" / "vocals.mp3").samples == 33_075
    assert unmix("separate", song, "--model", "demo", "-o", tmp_path / "none", "--start", "3") == 1
    assert "(bad_region)" in capsys.readouterr().err


def test_the_stems_add_up_to_the_song_if_asked_to(song: Path, tmp_path: Path) -> None:
    asked = {
        "karaoke": ("--stems", "vocals,instrumental"),
        "consistent": ("--mixture-consistency",),
    }
    for name, options in asked.items():
        assert unmix("separate", song, "--model", "demo", "-o", tmp_path / name, "--format", "wav", *options) == 0
        total = sum(decode(stem) for stem in (tmp_path / name / "song").iterdir())
        assert np.abs(total - decode(song)).max() <= 2.1 / 32_768
    assert names(tmp_path / "karaoke" / "song") == ["instrumental.wav", "vocals.wav"]
    assert names(tmp_path / "consistent" / "song") == [f"{name}.wav" for name in STEMS]


def test_a_file_that_is_no_song_does_not_stop_the_others(
    song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    junk = tmp_path / "junk.mp3"
    junk.write_text("this is not music " * 100)
    assert unmix("separate", junk, song, "--model", "demo", "-o", tmp_path / "out") == 1
    assert names(tmp_path / "out" / "song") == [f"{name}.mp3" for name in STEMS]
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "junk.mp3: " in errors[0]
    assert "(not_audio)" in errors[0]


def test_clipped_stems_are_a_warning_and_a_resampled_song_is_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loud = tmp_path / "loud.wav"
    loud.write_bytes(wav(8 * music(48_000, sample_rate=48_000), sample_rate=48_000))
    assert unmix("separate", loud, "--model", "demo", "-o", tmp_path / "out", "--stems", "instrumental") == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("warning", "note"))]
    clipped, resampled = told
    assert re.fullmatch(r"[1-9]\d* samples of instrumental were beyond full scale and clipped", clipped.split(": ")[-1])
    assert clipped.startswith(f"warning: {loud}: ")
    assert resampled == f"note: {loud}: resampled from 48000 Hz to 44100 Hz"


def test_key_and_tempo_of_a_song_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The score of the bundled song is known: see training/README.md."""
    demo = resources.files("unmix.local") / "demo_song" / "demo-song.mp3"
    with resources.as_file(demo) as path:
        assert unmix("separate", path, "--model", "demo", "-o", tmp_path / "out", "--stems", "drums,bass") == 0
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("music: ")]
        assert told == [f"music: {path}: A major, 94 beats a minute"]


def test_songs_at_once_are_separated_as_one_after_the_other(song: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.wav"
    second.write_bytes(make_song(4, seed=2))
    options = ("--model", "demo", "--format", "wav")
    assert unmix("separate", song, second, "-o", tmp_path / "alone", *options) == 0
    assert unmix("separate", song, second, "-o", tmp_path / "at once", *options, "--at-once", "2") == 0
    for name in ("song", "second"):
        assert names(tmp_path / "at once" / name) == [f"{stem}.wav" for stem in STEMS]
        for stem in (tmp_path / "alone" / name).iterdir():
            assert (tmp_path / "at once" / name / stem.name).read_bytes() == stem.read_bytes()


def test_the_models_of_the_operators_folder_can_be_used(
    song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--model", "ours", "--model-dir", tmp_path)
    assert unmix("separate", song, "-o", tmp_path / "out", *options) == 1
    assert "(model_unavailable)" in capsys.readouterr().err
    demo = resources.files("unmix.engine") / "weights" / "demo.safetensors"
    (tmp_path / "ours.safetensors").write_bytes(demo.read_bytes())
    assert unmix("separate", song, "-o", tmp_path / "out", *options) == 0
    assert names(tmp_path / "out" / "song") == [f"{name}.mp3" for name in STEMS]


def test_the_configured_model_is_the_default(
    song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNMIX_MODEL", "no-such-model")
    assert unmix("separate", song, "-o", tmp_path / "out") == 1
    assert "'no-such-model'" in capsys.readouterr().err


def test_songs_of_one_name_do_not_overwrite_each_others_stems(song: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    namesake = tmp_path / "other" / "song.mp3"
    namesake.write_bytes(song.read_bytes())
    assert unmix("separate", song, namesake, "--model", "demo", "-o", tmp_path / "out", "--stems", "vocals") == 0
    assert names(tmp_path / "out") == [".unmix.jsonl", "song.mp3", "song.wav"]


def test_folders_are_mirrored_and_what_is_done_is_skipped(
    song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    album = tmp_path / "music" / "Album"
    album.mkdir(parents=True)
    song.rename(album / "song.wav")
    run = ("separate", tmp_path / "music", "--model", "demo", "--stems", "vocals", "-o", tmp_path / "out")
    assert unmix(*run) == 0
    stem = tmp_path / "out" / "Album" / "song" / "vocals.mp3"
    before = stem.stat().st_mtime_ns
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr("unmix.separating.make_separator", None)  # no model is loaded for nothing
        assert unmix(*run, "--json") == 0
    (told,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (told["state"], told["files"]) == ("skipped", {"vocals": str(stem)})
    assert unmix(*run, "--again") == 0
    assert stem.stat().st_mtime_ns > before
    other = "{name} {stem} of {artist}"
    assert unmix(*run, "--name-template", other) == 0
    assert (tmp_path / "out" / "song vocals of Unknown artist.mp3").is_file()


def test_what_an_earlier_version_has_done_is_skipped_too(
    song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stem = tmp_path / "out" / "song" / "vocals.mp3"
    stem.parent.mkdir(parents=True)
    stem.touch()
    made = {"model": "demo", "stems": ["vocals"], "format": "mp3", "bits": 16, "bitrate_kbps": 256, "precision": "fast"}
    made |= {"overlap": 0.25, "shifts": 0, "mixture_consistency": False, "start": 0.0, "end": None}
    digest = hashlib.sha256(song.read_bytes()).hexdigest()
    note = {"place": "song/{stem}", "song": digest, "made": made, "files": {"vocals": "song/vocals.mp3"}}
    (tmp_path / "out" / ".unmix.jsonl").write_text(json.dumps(note) + "\n")
    monkeypatch.setattr("unmix.separating.make_separator", None)
    assert unmix("separate", song, "--model", "demo", "--stems", "vocals", "-o", tmp_path / "out") == 0
    assert "1 song done already, and skipped" in capsys.readouterr().err


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT])
def test_who_is_stopped_leaves_nothing_behind_and_says_so_by_its_exit_code(number: int, tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(make_song(90, seed=1))
    command = [sys.executable, "-m", "unmix.cli", "separate", "song.wav", "--model", "demo"]
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    out = tmp_path / "stems"
    eventually(lambda: [*out.glob(".unmix-*/.*.part")], "it has begun to write")
    running.send_signal(number)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert errors.splitlines()[-1] == "stopped"
    assert "Traceback" not in errors
    assert list(out.iterdir()) == []


def test_a_song_that_is_called_anything_is_separated_in_an_ordinary_locale(tmp_path: Path) -> None:
    song = os.fsencode(tmp_path) + b"/gr\xfcn.wav"
    Path(os.fsdecode(song)).write_bytes(make_song(1, seed=1))
    done = subprocess.run(
        [sys.executable, "-m", "unmix.cli", "separate", song, "--model", "demo", "--stems", "vocals"],
        cwd=tmp_path,
        capture_output=True,
    )
    assert (done.returncode, done.stdout) == (0, b"stems/gr\xfcn/vocals.mp3\n"), done.stderr

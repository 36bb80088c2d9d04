"""Which songs a command means, and where their stems go."""

from pathlib import Path

import pytest

from audio_files import encode, music
from unmix.cli.deliveries import NOTES, Deliveries
from unmix.cli.naming import Template, places_of
from unmix.cli.songs import Song, find_songs
from unmix.errors import InputError

USUAL = "{folder}/{name}/{stem}"


def make(folder: Path, *names: str) -> list[Path]:
    """Make files of these names, which need not be songs."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return [folder / name for name in names]


def found(*named: Path, output: Path, delivered: set[Path] | None = None) -> list[str]:
    songs = find_songs(named, output=output, delivered=delivered or set())
    return [str(song.folder / song.path.name) for song in songs]


def test_folders_are_searched_for_what_looks_like_a_song(tmp_path: Path) -> None:
    songs = ("b/2.FLAC", "b/c/3.opus", "a.mp3", "film.avi", "cover.jpg", "b/notes.txt", ".hidden/4.mp3", "b/._2.mp3")
    make(tmp_path / "music", *songs)
    assert found(tmp_path / "music", output=tmp_path / "out") == ["a.mp3", "film.avi", "b/2.FLAC", "b/c/3.opus"]


def test_a_file_that_is_named_is_a_song_whatever_it_is_called_and_each_counts_once(tmp_path: Path) -> None:
    (odd, song) = make(tmp_path, "music/odd", "music/song.mp3")
    assert found(odd, song, odd, tmp_path / "music", output=tmp_path / "out") == ["odd", "song.mp3"]


def test_stems_are_no_songs_of_the_next_run(tmp_path: Path) -> None:
    make(tmp_path, "a.mp3", "out/a/vocals.mp3", "a/drums.mp3", "a/b.mp3")
    delivered = {tmp_path / "a/drums.mp3"}
    assert found(tmp_path, output=tmp_path / "out", delivered=delivered) == ["a.mp3", "a/b.mp3"]
    assert found(tmp_path, output=tmp_path, delivered=delivered) == ["a.mp3", "a/b.mp3", "out/a/vocals.mp3"]


def test_a_folder_without_songs_is_an_error(tmp_path: Path) -> None:
    make(tmp_path, "music/cover.jpg")
    with pytest.raises(InputError) as caught:
        found(tmp_path / "music", output=tmp_path / "out")
    assert caught.value.code == "no_songs"


def places(*songs: Song, template: str = USUAL) -> list[str]:
    return places_of(songs, Template(template))


def test_a_song_has_a_folder_of_its_own_where_it_lies(tmp_path: Path) -> None:
    assert places(Song(Path("/m/Album/1. One.mp3"), Path("Album")), Song(Path("two.tar.mp3"))) == [
        "Album/1. One/{stem}",
        "two.tar/{stem}",
    ]


@pytest.mark.parametrize(("name", "folder"), [("...mp3", "...mp3"), ("..mp3", "..mp3"), (".mp3", ".mp3"), ("x", "x")])
def test_no_name_leads_out_of_the_output_folder(name: str, folder: str) -> None:
    assert places(Song(Path(name))) == [f"{folder}/{{stem}}"]


def test_songs_of_one_name_get_places_of_their_own(tmp_path: Path) -> None:
    endings = (Song(Path("x.m4a")), Song(Path("x.flac")), Song(Path("y.mp3")))
    assert places(*endings) == ["x.m4a/{stem}", "x.flac/{stem}", "y/{stem}"]
    folders = (Song(tmp_path / "a" / "song.mp3"), Song(tmp_path / "b" / "c" / "song.mp3"))
    assert places(*folders) == ["a/song/{stem}", "b/c/song/{stem}"]
    assert places(Song(Path("Song.mp3")), Song(Path("song.wav"))) == ["Song.mp3/{stem}", "song.wav/{stem}"]
    assert places(*folders, template="{stem}/all") == ["{stem}/all", "{stem}/all (2)"]
    assert places(*folders, template="x/{stem}") == ["x/{stem}", "x (2)/{stem}"]
    assert places(*folders, template="album/1 - {stem}") == ["album/1 - {stem}", "album/1 - {stem} (2)"]


@pytest.mark.parametrize("kind", ["mp3", "flac", "opus"])
def test_a_template_takes_what_is_written_in_the_song(kind: str, tmp_path: Path) -> None:
    song = tmp_path / f"song.{kind}"
    tags = {"artist": "AC/DC", "title": "Who Made\nWho?", "album": "..", "track": "3/9"}
    song.write_bytes(encode(kind, music(4_800, sample_rate=48_000), sample_rate=48_000, **tags))
    (made,) = places(Song(song), template="{artist}/{album}/{track} {title} - {stem}")
    assert made == "AC_DC/Unknown album/03 Who Made Who_ - {stem}"


def test_a_song_without_tags_has_words_in_their_place(tmp_path: Path) -> None:
    (tmp_path / "bare.wav").write_bytes(b"not audio")
    (made,) = places(Song(tmp_path / "bare.wav"), template="{artist}/{track} {title}/{stem}")
    assert made == "Unknown artist/00 bare/{stem}"


def test_stems_in_one_file_are_called_as_their_song_or_as_anybody_likes() -> None:
    songs = [Song(Path("a.mp3"), Path("Album")), Song(Path("x.m4a")), Song(Path("x.flac"))]
    assert places_of(songs, Template(in_one_file=True)) == ["Album/a", "x.m4a", "x.flac"]
    assert places_of(songs[:2], Template("all/{name} {stem}", in_one_file=True)) == ["all/a {stem}", "all/x {stem}"]


@pytest.mark.parametrize(
    "template", ["{name}", "{stem}/{composer}", "../{stem}", "{stem", "{0}/{stem}", "{stem:>{name}}"]
)
def test_a_template_that_would_lose_stems_or_leads_elsewhere_is_refused(template: str) -> None:
    with pytest.raises(InputError) as caught:
        Template(template)
    assert caught.value.code == "bad_template"


def test_an_absolute_template_stays_in_the_output_folder() -> None:
    assert places(Song(Path("a.mp3")), template="/x/./{name}/{stem}") == ["x/a/{stem}"]


def test_two_runs_may_deliver_into_one_folder(tmp_path: Path) -> None:
    first, second = make(tmp_path, "first.mp3", "second.mp3")
    out = tmp_path / "out"
    runs = {first: Deliveries(out), second: Deliveries(out)}
    with runs[first].folder() as one, runs[second].folder() as another:
        for song, made in ((first, one), (second, another)):
            (vocals,) = make(made, "vocals.mp3")
            runs[song].deliver(song, f"{song.stem}/{{stem}}", {}, {"vocals": vocals})
    assert sorted(file.name for file in out.iterdir()) == [NOTES, "first", "second"]
    for song in runs:
        files = Deliveries(out).of(song, f"{song.stem}/{{stem}}", {})
        assert files == {"vocals": out / song.stem / "vocals.mp3"}


def test_a_file_for_dj_programs_keeps_the_ending_by_which_they_know_it(tmp_path: Path) -> None:
    song, made = make(tmp_path, "song.mp3", "made/stems.stem.mp4")
    files = Deliveries(tmp_path / "out").deliver(song, "song/{stem}", {}, {"stems": made})
    assert files == {"stems": tmp_path / "out" / "song" / "stems.stem.mp4"}

#!/usr/bin/env python3
"""The guided tour over plain HTTP: send songs, look at the queue, and fetch the stems.

    ./sample-requests.py                      sends every data/*.mp3
    ./sample-requests.py song.mp3 --wait      waits for the song and saves its stems in stems/song/
    REST=host:port ./sample-requests.py …     asks another server than localhost:5000
    REST=key@host:port ./sample-requests.py   asks one that wants a key; UNMIX_KEY=key does the same

It needs nothing of Track-Unmix: copy it, `pip install requests jsonpickle`, and start from here.
"""

import argparse
import base64
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

try:
    import jsonpickle
    import requests
except ImportError as error:
    advice = "after `make setup`, run .venv/bin/python sample-requests.py; elsewhere, pip install requests jsonpickle"
    sys.exit(f"there is no {error.name} here: {advice}")

URL = os.getenv("REST") or "localhost:5000"
SERVER = urlsplit(URL if "://" in URL else f"http://{URL}")
REST = SERVER.netloc.rpartition("@")[2]
API = f"{SERVER.scheme}://{REST}{SERVER.path.rstrip('/')}/apiv1"
#: What a server wants that knows its clients: before the @ of its address, or in UNMIX_KEY.
KEY = SERVER.username or SERVER.password or os.getenv("UNMIX_KEY")
HEADERS = {"Authorization": f"Bearer {KEY}"} if KEY else {}
#: Seconds to wait for one answer; a large song takes a while to be checked.
ANSWER_SECONDS = 120


def main() -> int:
    """Send the songs, show the queue, fetch the stems if asked; 0 only if all of that worked."""
    arguments = parse_arguments()
    songs = arguments.songs or sorted(Path("data").glob("*.mp3"))
    if not songs:
        print("no songs: put some into data/ or name them, as in: ./sample-requests.py song.mp3", file=sys.stderr)
        return 2
    jobs: list[tuple[Path, str, str]] = []
    failed = False
    for song, folder in zip(songs, folders_of(songs), strict=True):
        try:
            jobs.append((song, folder, separate(song, arguments.model)))
        except (OSError, ValueError) as error:  # what requests raises is an OSError
            failed = True
            print(f"{song}: {explain(error)}", file=sys.stderr)
    try:
        show_queue()
        for song, folder, job in jobs if arguments.wait else ():
            target = arguments.output / folder
            failed = not fetch(job, target, label=song.name, patience_seconds=arguments.timeout) or failed
    except (OSError, ValueError) as error:
        failed = True
        print(explain(error), file=sys.stderr)
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Send songs to Track-Unmix, and fetch their stems.")
    parser.add_argument("songs", nargs="*", type=Path, metavar="SONG", help="songs to send (default: data/*.mp3)")
    parser.add_argument("--wait", action="store_true", help="wait for the stems and save them")
    parser.add_argument("--timeout", type=float, default=math.inf, help="seconds to wait for each (for ever)")
    parser.add_argument("-o", "--output", type=Path, default=Path("stems"), help="folder for the stems (%(default)s)")
    parser.add_argument("--model", help="model to separate with (default: the server's)")
    return parser.parse_args()


def folders_of(songs: list[Path]) -> list[str]:
    """Name a folder for the stems of each song, as the song is called; those of one name are numbered."""
    folders: list[str] = []
    for song in songs:
        name = song.stem if song.stem.strip(". ") else song.name  # of `...mp3` only dots would be left
        number = 1
        while (folder := name if number == 1 else f"{name} ({number})") in folders:
            number += 1
        folders.append(folder)
    return folders


def separate(song: Path, model: str | None) -> str:
    """Send a song and return the hash under which the server knows it."""
    request = {"mp3": base64.b64encode(song.read_bytes()).decode("ascii")}
    if model is not None:
        request["model"] = model
    answer = requests.post(
        f"{API}/separate",
        data=jsonpickle.encode(request, unpicklable=False, keys=True),
        headers={**HEADERS, "Content-Type": "application/json"},
        timeout=ANSWER_SECONDS,
    )
    print(f"Answer to {song.name}:")
    return str(show(answer)["hash"])


def show_queue() -> None:
    """Print what waits at the server."""
    print("Queue:")
    show(requests.get(f"{API}/queue", headers=HEADERS, timeout=ANSWER_SECONDS))


def fetch(job: str, folder: Path, *, label: str, patience_seconds: float) -> bool:
    """Wait until the job is over and save its stems in `folder`; False if it did not succeed, or not in time."""
    status: dict[str, Any] = {}
    deadline = time.monotonic() + patience_seconds
    while status.get("status") not in ("done", "failed", "cancelled"):
        if status and time.monotonic() > deadline:
            print(f"{label}: still {status['status']} after {patience_seconds:g} s", file=sys.stderr)
            return False
        if status:
            time.sleep(0.5)
        status = parse(requests.get(f"{API}/jobs/{job}", headers=HEADERS, timeout=ANSWER_SECONDS))
        show_progress(label, status)
    if status["status"] != "done":
        print(f"{label}: {status['status']}: {status.get('error')}", file=sys.stderr)
        return False
    folder.mkdir(parents=True, exist_ok=True)
    for stem in status["stems"]:
        target = folder / f"{stem}.mp3"
        url = f"{API}/track/{job}/{stem}.mp3"
        with requests.get(url, headers=HEADERS, stream=True, timeout=ANSWER_SECONDS) as answer:
            answer.raise_for_status()
            with target.open("wb") as file:
                for chunk in answer.iter_content(1 << 16):
                    file.write(chunk)
        print(f"saved {target}")
    return True


def show_progress(label: str, status: dict[str, Any]) -> None:
    """Draw the progress bar anew; where nobody watches, only say the end."""
    done = float(status.get("progress") or 0)
    bar = f"{label} [{'#' * round(30 * done):.<30}] {done:4.0%} {status['status']}"
    is_over = status["status"] in ("done", "failed", "cancelled")
    if sys.stdout.isatty():
        print(f"\r{bar:<79}", end="\n" if is_over else "", flush=True)
    elif is_over:
        print(bar, flush=True)


def show(answer: requests.Response) -> dict[str, Any]:
    """Print the JSON of an answer, and return it."""
    fields = parse(answer)
    print(json.dumps(fields, indent=2))
    return fields


def parse(answer: requests.Response) -> dict[str, Any]:
    """Return the JSON of an answer; an answer that is no success is an error in the server's own words."""
    fields = answer.json() if "json" in answer.headers.get("Content-Type", "") else None
    if not answer.ok or not isinstance(fields, dict):
        reason = fields.get("error") or fields.get("reason") if isinstance(fields, dict) else "is this Track-Unmix?"
        raise ValueError(f"{answer.url} answers {answer.status_code}: {reason}")
    return fields


def explain(error: Exception) -> str:
    """Say what went wrong, and what to do about it."""
    if isinstance(error, requests.ConnectionError):
        return f"no connection to {REST}: start the service with `make run`, or name another server in REST"
    return str(error)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

"""What REST, a worker and the janitor tell Prometheus, held against the page and what alerts and dashboard ask."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from manifests.monitoring import rules_of
from manifests.rendering import ROOT, combination
from manifests.workloads import Manifests
from stack import Stack
from support import CallbackServer, RedisServer, free_port, make_song
from unmix.errors import InputError
from unmix.runtime.metrics import serve_metrics
from unmix.settings import Settings

PROCESSES = ("rest", "worker", "janitor")
#: More series than this of each worker, and Prometheus gets dear with hundreds of them.
MOST_SERIES_OF_A_WORKER = 200
CALLED = 'unmix_callbacks_total{outcome="delivered"}'
#: What only Linux says.
NOT_HERE: set[str] = set() if sys.platform == "linux" else {"unmix_memory_bytes"}
DASHBOARD = ROOT / "k8s" / "components" / "monitoring" / "dashboard.json"

_ROW = re.compile(r"^\| `(unmix_\w+)` \| (\w+) \|([^|]*)\|([^|]*)\|", re.MULTILINE)
_NAMED = re.compile(r"\b(unmix_\w+)(?:{([^}]*)})?")
_LABEL = re.compile(r"(\w+)=~?\"")


class Scraped(Stack):
    """A service whose processes tell their metrics, each on a port of its own."""

    def __init__(self, folder: Path, redis_url: str, **settings: str) -> None:
        super().__init__(folder, redis_url, **settings)
        self.ports = {name: free_port() for name in ("janitor", "worker")}
        self.settings["UNMIX_METRICS_PORT"] = str(self.ports["janitor"])

    def start_worker(self) -> subprocess.Popen[bytes]:
        self.settings["UNMIX_METRICS_PORT"] = str(self.ports["worker"])
        return super().start_worker()

    def scrape(self, process: str) -> str:
        url = self.url if process == "rest" else f"http://127.0.0.1:{self.ports[process]}"
        return requests.get(f"{url}/metrics", timeout=30).text


@dataclass(frozen=True)
class Family:
    """A metric as it is told, or as a page has it."""

    name: str  # with the ending that counters have
    kind: str
    labels: frozenset[str]


@pytest.fixture(scope="module")
def scrapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What each process tells after a song with a callback, and something that is none."""
    folder = tmp_path_factory.mktemp("service")
    server = RedisServer(folder)
    server.start()
    stack = Scraped(folder, server.url, UNMIX_CALLBACK_ALLOW="127.0.0.1")
    try:
        stack.start()
        with CallbackServer() as receiver:
            job_id = stack.post(make_song(3, 1), format="flac", callback={"url": receiver.url})
            assert stack.wait_until_over(job_id)["status"] == "done"
            stack.wait_for(lambda: value(stack.scrape("janitor"), CALLED) == 1, "the callback is counted")
        assert requests.post(f"{stack.url}/apiv1/jobs", data=b"no song", timeout=30).status_code == 415
        stack.wait_for(lambda: value(stack.scrape("worker"), "unmix_worker_busy") == 0, "the worker is done")
        yield {process: stack.scrape(process) for process in PROCESSES}
    finally:
        stack.stop()
        server.kill()


def families(text: str) -> set[Family]:
    """Return what is told; of a histogram the label of its buckets is left out."""
    told = set()
    for family in text_string_to_metric_families(text):
        assert family.samples, f"{family.name} has no series"
        labels = frozenset[str]().union(*(sample.labels.keys() for sample in family.samples))
        ending = "_total" if family.type == "counter" else ""
        told.add(Family(family.name + ending, family.type, labels - {"le"} if family.type == "histogram" else labels))
    return told


def value(text: str, series: str) -> float | None:
    lines = (line.rpartition(" ") for line in text.splitlines())
    return next((float(number) for name, _, number in lines if name == series), None)


@pytest.mark.parametrize("process", PROCESSES)
def test_the_page_tells_of_every_metric_and_of_no_other(scrapes: dict[str, str], process: str) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    documented = {
        Family(name, kind, frozenset(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels, told_by in _ROW.findall(page)
        if name not in NOT_HERE and (process in told_by.strip().split(", ") or told_by.strip() == "all")
    }
    assert families(scrapes[process]) == documented


def test_a_song_is_counted_on_its_way(scrapes: dict[str, str]) -> None:
    for process, series in (
        ("rest", "unmix_songs_accepted_total"),
        ("rest", 'unmix_songs_rejected_total{code="not_audio"}'),
        ("worker", "unmix_queue_wait_seconds_count"),
        ("worker", "unmix_fetch_duration_seconds_count"),
        ("worker", "unmix_separation_duration_seconds_count"),
        ("worker", "unmix_realtime_factor_count"),
        ("worker", "unmix_upload_duration_seconds_count"),
        ("worker", 'unmix_attempts_total{code="ok"}'),
        ("worker", 'unmix_jobs_total{code="",outcome="done"}'),
        ("worker", "unmix_model_loaded"),
        ("janitor", "unmix_queue_up"),
        ("janitor", CALLED),
    ):
        assert value(scrapes[process], series) == 1, series
    assert 'unmix_model_info{backend="' in scrapes["worker"]
    assert 'model="demo"' in scrapes["worker"]


def test_a_worker_has_few_series(scrapes: dict[str, str]) -> None:
    lines = [line for line in scrapes["worker"].splitlines() if not line.startswith("#")]
    assert len(lines) <= MOST_SERIES_OF_A_WORKER


def test_one_process_tells_of_the_queue(scrapes: dict[str, str]) -> None:
    queue = {name for name in re.findall(r"^# TYPE (\S+)", scrapes["janitor"], re.MULTILINE) if "queue" in name}
    assert len(queue) > 3
    for process in ("rest", "worker"):
        assert not queue & set(re.findall(r"^# TYPE (\S+)", scrapes[process], re.MULTILINE)) - {"unmix_queue_up"}


def test_no_label_names_a_song_a_job_or_a_host(scrapes: dict[str, str]) -> None:
    for text in scrapes.values():
        labels = " ".join(re.findall("{.*}", text))
        assert "code=" in labels
        assert not re.search(r"[0-9a-f]{16}|127\.0\.0\.1|localhost", labels)


def asked() -> dict[str, str]:
    """Return what alerts and panels ask, by what they are called."""
    alerts = {rule["alert"]: rule["expr"] for rule in rules_of(Manifests(combination("local", "monitoring")))}
    panels = {
        f"panel {panel['title']}: {target['refId']}": target["expr"]
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel.get("targets", [])
    }
    assert len(alerts) > 10
    assert len(panels) > 20
    return alerts | panels


def test_alerts_and_dashboard_ask_for_what_is_told(scrapes: dict[str, str]) -> None:
    labels: dict[str, set[str]] = {}
    for text in scrapes.values():
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels.setdefault(sample.name, set()).update(sample.labels)
    for title, expression in asked().items():
        named = _NAMED.findall(expression)
        assert named, title
        for name, matchers in named:
            assert name in labels.keys() | NOT_HERE, f"{title} asks for {name}, which nobody tells"
            assert set(_LABEL.findall(matchers)) <= labels.get(name, set()), f"{title}: {name} has no such label"


def test_a_port_that_is_taken_is_told_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=rf"127.0.0.1:{port} \(UNMIX_METRICS_HOST, UNMIX_METRICS_PORT\)") as caught:
            serve_metrics(CollectorRegistry(), Settings(metrics_port=port))
    assert (caught.value.code, caught.value.retryable) == ("port_in_use", True)


def test_without_a_port_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().metrics_port is None
    monkeypatch.setenv("UNMIX_METRICS_PORT", "")
    assert Settings().metrics_port is None
    serve_metrics(CollectorRegistry(), Settings())

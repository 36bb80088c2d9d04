"""The alerts of components/monitoring: what they fire for, as Prometheus itself has it, and what operators are told."""

import json
import re
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from manifests.monitoring import rules_of
from manifests.rendering import ROOT, combination
from manifests.workloads import Manifests
from programs import program

#: When alerts are looked for, in minutes: after whatever they wait for.
LATE = 120

WAITING, RUNNING = 'unmix_queue_jobs{place="waiting"}', 'unmix_queue_jobs{place="running"}'
LOADED = 'unmix_model_loaded{pod="worker-1"}'
LAST_PASS = "unmix_reconciler_last_pass_timestamp_seconds"


@dataclass(frozen=True)
class Case:
    """Series in Prometheus' shorthand, a value a minute, for which an alert fires at the end, and others without it."""

    fires: dict[str, str]
    quiet: tuple[dict[str, str], ...]
    labels: dict[str, str] = field(default_factory=dict)  # of the alert that fires, beside its own


def failures(code: str) -> str:
    return f'unmix_failures_total{{code="{code}",pod="rest-1"}}'


#: A counter that stands still, and one that has grown once, three minutes before the end, or by one in each minute.
STANDS, ONCE, GROWS = "7x120", "7x117 8x3", "0+1x120"

CASES: dict[str, Case] = {
    "UnmixRedisAway": Case(
        {'unmix_queue_up{pod="rest-1"}': "1x110 0x10", 'unmix_queue_up{pod="rest-2"}': "1x120"},
        ({'unmix_queue_up{pod="rest-1"}': "1x119 0"}, {'unmix_queue_up{pod="rest-1"}': "0x60 1x60"}),
        {"pod": "rest-1"},
    ),
    "UnmixDenied": Case(
        {failures("queue_denied"): ONCE}, ({failures("queue_denied"): STANDS},), {"code": "queue_denied"}
    ),
    "UnmixStoreAway": Case(
        {failures("store_unavailable"): GROWS}, ({failures("store_unavailable"): ONCE},), {"code": "store_unavailable"}
    ),
    "UnmixDiskFull": Case({failures("store_full"): ONCE}, ({failures("store_full"): STANDS},), {"code": "store_full"}),
    "UnmixSongsRefused": Case(
        {'unmix_requests_total{status="200"}': "0+90x120", 'unmix_requests_total{status="503"}': "0+10x120"},
        ({'unmix_requests_total{status="200"}': "0+99x120", 'unmix_requests_total{status="503"}': "0+1x120"},),
    ),
    "UnmixFaults": Case({failures("internal_error"): ONCE}, ({failures("internal_error"): STANDS},)),
    "UnmixNoWorker": Case(
        {WAITING: "3x120", LOADED: "0x120"},
        ({WAITING: "3x120", LOADED: "0x115 1x5"}, {WAITING: "0x120"}),
    ),
    "UnmixQueueStuck": Case(
        {WAITING: "3x120", RUNNING: "0x120", LOADED: "1x120"},
        (
            {WAITING: "3x120", RUNNING: "0x115 1x5", LOADED: "1x120"},
            {WAITING: "0x120", RUNNING: "0x120", LOADED: "1x120"},
            {WAITING: "3x120", RUNNING: "0x120", LOADED: "0x120"},  # that is another alert
        ),
    ),
    "UnmixJobsTooOld": Case(
        {"unmix_queue_oldest_job_age_seconds": "3000+60x120"}, ({"unmix_queue_oldest_job_age_seconds": "7000x120"},)
    ),
    "UnmixJobsFail": Case(
        {'unmix_jobs_total{outcome="failed",code="poison",pod="worker-1"}': GROWS},
        (
            {'unmix_jobs_total{outcome="failed",code="poison",pod="worker-1"}': ONCE},
            {'unmix_jobs_total{outcome="done",code="",pod="worker-1"}': GROWS},
        ),
        {"code": "poison"},
    ),
    "UnmixWorkersDie": Case(
        {'unmix_leases_swept_total{reason="lapsed"}': GROWS},
        ({'unmix_leases_swept_total{reason="lapsed"}': ONCE}, {'unmix_leases_swept_total{reason="retry"}': GROWS}),
    ),
    "UnmixChildCrashes": Case(
        {'unmix_child_crashes_total{code="stalled",pod="worker-1"}': GROWS},
        ({'unmix_child_crashes_total{code="stalled",pod="worker-1"}': ONCE},),
        {"code": "stalled"},
    ),
    "UnmixCrashLoop": Case(
        {'unmix_start_time_seconds{pod="worker-1"}': "0+1x120"},
        ({'unmix_start_time_seconds{pod="worker-1"}': "5x100 9x20"},),
        {"pod": "worker-1"},
    ),
    "UnmixCallbacksFail": Case(
        {'unmix_callbacks_total{outcome="failed"}': "0+2x120", 'unmix_callbacks_total{outcome="delivered"}': GROWS},
        (
            {'unmix_callbacks_total{outcome="failed"}': GROWS, 'unmix_callbacks_total{outcome="delivered"}': "0+2x120"},
            {'unmix_callbacks_total{outcome="failed"}': ONCE, 'unmix_callbacks_total{outcome="delivered"}': STANDS},
        ),
    ),
    "UnmixCallbacksPileUp": Case({"unmix_queue_deliveries": "300x120"}, ({"unmix_queue_deliveries": "300x90 3x30"},)),
    "UnmixReconcilerStands": Case({LAST_PASS: "0x120"}, ({LAST_PASS: "0+60x120"},)),
    "UnmixBadDocuments": Case({"unmix_damaged_documents": "1x120"}, ({"unmix_damaged_documents": "0x120"},)),
}


@cache
def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules_of(Manifests(combination("local", "monitoring")))}


def promtool(*arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [program("promtool", package="prometheus"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def write_rules(folder: Path) -> None:
    rules = {"groups": [{"name": "track-unmix", "rules": list(alerts().values())}]}
    (folder / "rules.yaml").write_text(json.dumps(rules))  # JSON is YAML


def trial(name: str, series: dict[str, str], *expected: dict[str, Any]) -> dict[str, Any]:
    """Return what promtool calls a test: one alert at the end of these series."""
    return {
        "interval": "1m",
        "input_series": [{"series": series_name, "values": values} for series_name, values in series.items()],
        "alert_rule_test": [{"eval_time": f"{LATE}m", "alertname": name, "exp_alerts": list(expected)}],
    }


def test_every_alert_is_tried() -> None:
    assert set(CASES) == set(alerts())


def test_prometheus_understands_the_rules(tmp_path: Path) -> None:
    write_rules(tmp_path)
    done = promtool("check", "rules", "rules.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    write_rules(tmp_path)
    trials = []
    for name, case in CASES.items():
        rule = alerts()[name]
        alert = {"exp_labels": rule["labels"] | case.labels, "exp_annotations": rule["annotations"]}
        trials.append(trial(name, case.fires, alert))
        trials += [trial(name, series) for series in case.quiet]
    tests = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": trials}
    (tmp_path / "tests.yaml").write_text(json.dumps(tests))
    done = promtool("test", "rules", "tests.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", CASES)
def test_the_runbook_tells_what_to_do(name: str) -> None:
    page, _, anchor = alerts()[name]["annotations"]["runbook"].partition("#")
    assert page == "docs/operations.md"
    sections = re.split(r"^### (.+)$", (ROOT / page).read_text(), flags=re.MULTILINE)[1:]
    told = {title.lower().replace(" ", "-"): text for title, text in zip(sections[::2], sections[1::2], strict=True)}
    assert f"`{name}`" in told[anchor]

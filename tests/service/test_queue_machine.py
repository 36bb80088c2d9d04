"""A state machine that tries orders of events which no soak meets, on a real Redis server and a real file store.

Workers, REST and the reconciler are the product's own code, each in a thread that stands still before every call to
the queue or the store (`step_by_step`). The machine lets one of them on at a time, freezes it, kills it, and meanwhile
posts, cancels and removes songs, loses Redis' memory, or lets leases lapse. After every step, and at the end when all
who stand have gone on and one honest worker has served what is owed, the promises of docs/architecture.md are checked.

Time passes by moving what Redis holds into the past. The same 100 runs are made each time; with the option
`--hypothesis-seed=random` and as many as `TESTS_MACHINE_RUNS` says others are, and what they find is shrunk.
"""

import base64
import logging
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from machine_bench import MAX_LAPSES, PARTS_KIND, POLICY, STEMS, Bench, WorkerActor
from step_by_step import Actor, store_point
from support import RedisServer, folder_in_memory
from unmix import names
from unmix.audio.probe import ProbedSong
from unmix.errors import LeaseLostError
from unmix.janitor.audit import Audit
from unmix.janitor.reconciler import Reconciler
from unmix.janitor.retention import Retention
from unmix.job import JobRequest, JobStatus, SeparationOptions
from unmix.outcome import Outcome, SongPart
from unmix.queue import keys
from unmix.queue.records import Claim
from unmix_worker import parts as worker_parts

RUNS = int(os.environ.get("TESTS_MACHINE_RUNS", 100))
#: Steps of one run: enough for a job to be overtaken, removed and posted again.
STEPS = 20

#: No actor needs so many calls for what it does: it goes round in circles.
MOST_CALLS = 500

SONG = b"a song"
#: Two jobs of one song: the second asks for another format.
DEFAULTS = SeparationOptions(model="demo")
JOBS = (
    DEFAULTS.job_id(names.hash_song(SONG), DEFAULTS),
    SeparationOptions("demo", format="flac").job_id(names.hash_song(SONG), DEFAULTS),
)
OUTCOMES = tuple(map(names.outcome_object, JOBS))
WORKERS = (0, 1)

END = "end"
#: Where a worker, a request to REST and the reconciler may be left standing; what is named more often is so chosen.
WORKER_STOPS = st.sampled_from([
    *[END] * 5, *["put outcome"] * 2, *["finish"] * 2, *["claim"] * 2, "read request", "separate", "put stem",
    "read outcome", "put copy", "fail", "drop", "make part", "put file of a part", "put part", "wait for parts",
])  # fmt: skip
#: Where a worker freezes while others go on.
FREEZES = st.sampled_from([
    "put part", "make part",
    *["put outcome"] * 3, *["separate"] * 2, "claim", "read outcome", "read request", "put stem", "put copy", "finish",
])  # fmt: skip
OTHER_STOPS = st.sampled_from([END, END, "separate", "put outcome", "finish", "put part"])
#: Where a worker may be left standing that helps with another's song.
HELPER_STOPS = st.sampled_from([END, "read request", "make part", "put file of a part", "put part", "put part"])
REST_STOPS = st.sampled_from([
    *[END] * 6, "put song", "put mark", "put request", "submit", "remove request", "remove song", "remove outcome",
    "remove stem", "put outcome", "settle", "forget",
])  # fmt: skip
JANITOR_STOPS = st.sampled_from([
    *[END] * 4, "list output", "read request", "remove mark", "put mark", "requeue", "settle", "remove stem",
    "remove song", "put song", "put copy", "forget",
])  # fmt: skip
FATES = st.sampled_from([*["done"] * 6, "fails", "may pass", "crashes"])
FATES_OF_LATE = st.sampled_from(["done", "done", "may pass", "has to stop"])
NUMBERS = st.sampled_from([0, 0, 0, 1])


class QueueMachine(RuleBasedStateMachine):
    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        self.queue, self.ledger, self.raw = bench.bare_queue, bench.bare_ledger, bench.raw
        bench.reset(self)
        self.claims: dict[str, Claim] = {}  # the last of each worker
        self.ended_at_claim: dict[str, Outcome | None] = {}  # by token
        self.first_commits: dict[tuple[str, str], Outcome] = {}  # of each generation
        self.ends: Counter[tuple[str, str]] = Counter()  # accepted, of each generation
        self.faults: Counter[tuple[str, str]] = Counter()  # (job id, fate)
        #: Jobs that Redis may have lost through the machine's doing: the reconciler has to find them.
        self.lost: set[str] = set()
        self.is_audit_due = False  # a mark may be lost
        self.undone: set[str] = set()  # jobs that a late removal has made owed again
        self.born = 0
        self.workers = [self._new_worker() for _ in WORKERS]
        self.requests: list[Actor] = []  # to REST, under way
        self.janitor: Actor | None = None
        self.reconciler = self._new_reconciler()

    @initialize(also_the_other=st.booleans())
    def first_songs(self, also_the_other: bool) -> None:
        for number in (0, 1) if also_the_other else (0,):
            self._post(number, END)

    # Clients

    @precondition(lambda self: len(self.requests) < 2)
    @rule(number=NUMBERS, until=REST_STOPS)
    def post(self, number: int, until: str) -> None:
        self._post(number, until)

    @precondition(lambda self: len(self.requests) < 2)
    @rule(number=NUMBERS, until=REST_STOPS)
    def remove(self, number: int, until: str) -> None:
        self._ask("DELETE", f"/apiv1/remove/{JOBS[number]}", number, until)

    @precondition(lambda self: len(self.requests) < 2)
    @rule(number=NUMBERS, until=REST_STOPS, what=st.sampled_from(["cancel", "cancel", "retry"]))
    def cancel_or_retry(self, number: int, until: str, what: str) -> None:
        self._ask("POST", f"/apiv1/jobs/{JOBS[number]}/{what}", number, until)

    @precondition(lambda self: self.requests)
    @rule(which=st.sampled_from([0, 1]), until=REST_STOPS)
    def request_goes_on(self, which: int, until: str) -> None:
        self._go_on(self.requests[which % len(self.requests)], until)

    @precondition(lambda self: not self.requests and self.janitor is None)  # who removes a song knows nothing of pushes
    @rule()
    def foreign_push(self) -> None:
        self.bench.bare_store.put(names.song_object(names.hash_song(SONG)), SONG)
        self.raw.lpush(keys.TO_WORKER, JOBS[0])
        self.faults[JOBS[0], "pushed"] += 1

    # Workers

    @precondition(lambda self: self._has_work())
    @rule(worker=st.sampled_from(WORKERS), until=WORKER_STOPS, fate=FATES)
    def work(self, worker: int, until: str, fate: str) -> None:
        self._work(worker, until, fate)

    @precondition(lambda self: self._has_work())
    @rule(worker=st.sampled_from(WORKERS), until=WORKER_STOPS, fate=FATES)
    def work_on(self, worker: int, until: str, fate: str) -> None:
        self._work(worker, until, fate)

    @precondition(lambda self: self._has_work())
    @rule(worker=st.sampled_from(WORKERS), until=FREEZES, other_until=OTHER_STOPS, then=FATES_OF_LATE)
    def overtake(self, worker: int, until: str, other_until: str, then: str) -> None:
        """One worker freezes, its lease lapses, the other one claims the job, and the first one wakes."""
        self._work(worker, until)
        self._lapse()
        self._work(1 - worker, other_until)
        if then == "has to stop":
            self.workers[worker].shutdown.request()
        self._work(worker, END, then)

    @precondition(lambda self: self._has_work() and len(self.requests) < 2)
    @rule(worker=st.sampled_from(WORKERS), until=FREEZES, number=NUMBERS, is_served=st.booleans())
    def remove_and_post_meanwhile(self, worker: int, until: str, number: int, is_served: bool) -> None:
        """A worker freezes, its job is removed and posted anew, perhaps served too, and the worker wakes."""
        self._work(worker, until)
        self._ask("DELETE", f"/apiv1/remove/{JOBS[number]}", number, END)
        self._post(number, END)
        if is_served:
            self._work(1 - worker, END)
        self._work(worker, END)

    @precondition(lambda self: len(self.requests) < 2)
    @rule(
        leads=st.sampled_from(WORKERS),
        until=HELPER_STOPS,
        fate=FATES,
        then=st.sampled_from(["goes on", "sleeps", "dies"]),
    )
    def help(self, leads: int, until: str, fate: str, then: str) -> None:
        """One is in the middle of a song; the other finds none and helps, and may die or sleep over it."""
        number = 1 - leads
        if not self._has_work():
            self._post(0, END)
        self._work(leads, "make part", fate)
        self._work(number, END)
        if self.workers[leads].point != "make part" or self.workers[number].point != "take":
            return
        self._run(self.workers[number], until)
        if then == "dies":
            self.workers[number].kill()
            self.workers[number] = self._new_worker()
        self._work(leads, END, fate)
        if then == "goes on":
            self._work(number, END)

    @precondition(lambda self: any(not worker.is_idle for worker in self.workers))
    @rule(worker=st.sampled_from(WORKERS))
    def shut_down(self, worker: int) -> None:
        self.workers[worker].shutdown.request()
        self._work(worker, END)

    @rule(who=st.sampled_from(["worker 0", "worker 0", "worker 1", "request", "janitor"]))
    def die(self, who: str) -> None:
        if who.startswith("worker"):
            number = int(who[-1])
            self.workers[number].kill()
            self.workers[number] = self._new_worker()
        elif who == "request" and self.requests:
            self.lost.update(JOBS)
            self.is_audit_due = True
            self.requests.pop(0).kill()
        elif who == "janitor" and self.janitor is not None:
            self.lost.update(JOBS)
            self.is_audit_due = True  # the next one begins with it
            self.janitor.kill()
            self.janitor, self.reconciler = None, self._new_reconciler()

    # Time, the janitor, and what happens to Redis

    @rule(seconds=st.sampled_from([0, 2, 30]))
    def time_passes(self, seconds: float) -> None:
        self.bench.advance(seconds)
        self.queue.sweep()

    @rule()
    def leases_lapse(self) -> None:
        self._lapse()

    @rule(worker=st.sampled_from(WORKERS))
    def a_lease_is_renewed(self, worker: int) -> None:
        """Its own thread does so while the worker stands between two calls, or has just lost it."""
        claim = self.claims.get(self.workers[worker].name)
        if claim is not None:
            with suppress(LeaseLostError):
                self.bench.queue.renew(claim, progress=0.5)

    @rule(until=JANITOR_STOPS)
    def reconcile(self, until: str) -> None:
        """Go on with a pass, or make two, as a difference counts only when it is seen twice.

        A mark is lost only with a janitor, which begins with an audit when it is started again, or with whoever died
        before a song was accepted.
        """
        if self.janitor is not None:
            self._go_on(self.janitor, until)
            return
        if self.is_audit_due:
            self.is_audit_due = False
            self._start_pass(self._audit(), END)
        self._start_pass(self.reconciler, END)
        self._start_pass(self.reconciler, until)
        if self.janitor is None and not self.requests:
            self.lost.clear()

    @precondition(lambda self: self.janitor is None and len(self.requests) < 2)
    @rule(number=NUMBERS)
    def post_while_it_is_found_missing(self, number: int) -> None:
        """The reconciler finds that a job is missing, freezes, and wakes when the client has sent the song again."""
        self.raw.lrem(keys.TO_WORKER, 0, JOBS[number])
        self._start_pass(self.reconciler, END)
        self._start_pass(self.reconciler, "requeue")
        self._post(number, END)
        if self.janitor is not None:
            self._go_on(self.janitor, END)

    @precondition(lambda self: self.janitor is None)
    @rule(what=st.sampled_from(["songs_hours", "stems_days"]), until=JANITOR_STOPS)
    def retire(self, what: str, until: str) -> None:
        """Audit the store of a service where the time of what is over has come."""
        self.faults.update((job_id, "removed") for job_id in JOBS)
        times = {"songs_hours": 0.0, "stems_days": 0.0, what: 1e-9}
        self._start_pass(self._audit(**times), until)

    @rule(what=st.sampled_from(["everything", "one that waits", "one that is over"]), number=NUMBERS)
    def redis_forgets(self, what: str, number: int) -> None:
        """By FLUSHALL, by a foreign consumer that pops one and dies, or in time."""
        job_id = JOBS[number]
        if what == "everything":
            self.raw.flushall()
            self._redis_forgot(*JOBS)
        elif what == "one that waits":
            self.raw.lrem(keys.TO_WORKER, 0, job_id)
            self.lost.add(job_id)
        elif self.raw.ttl(keys.JOB_PREFIX + job_id) > 0:
            self.raw.delete(keys.JOB_PREFIX + job_id)
            self._redis_forgot(job_id)

    # What must be true

    @invariant()
    def an_owed_job_is_in_a_key(self) -> None:
        present = self._present()
        if self.requests or self.janitor is not None:
            return
        for job_id in set(JOBS) - self.lost:
            request, outcome = self.ledger.end(job_id)
            if request is not None and outcome is None and not self._pushed_while_removed(job_id):
                assert job_id in present, f"{job_id} is owed and in no key"
                song = self.ledger.inventory.song(request.song_hash)
                assert song.song or song.retired, f"{job_id} is owed and its song is gone"

    @invariant()
    def what_has_a_round_is_open(self) -> None:
        """In the rounds of all, and in those of one share."""
        in_rounds = self.raw.zrange(keys.ROUNDS, 0, -1)
        shares = self.raw.keys(f"{keys.ROUNDS_OF_PREFIX}*")
        assert sorted(in_rounds) == sorted(job_id for share in shares for job_id in self.raw.zrange(share, 0, -1))
        assert set(in_rounds) <= set(self.raw.zrange(keys.OPEN, 0, -1))

    @invariant()
    def a_done_job_has_the_stems_of_one_attempt(self) -> None:
        for job_id in JOBS:
            _, outcome = self.ledger.end(job_id)
            if outcome is not None and outcome.status is JobStatus.DONE:
                assert set(outcome.stems) == set(STEMS)
                for stem, file in outcome.stems.items():
                    data, _ = self.bench.bare_store.get(names.ObjectName(names.OUTPUT_BUCKET, file.key))
                    assert data.decode() == f"{stem} by {outcome.token}", f"{job_id} is mixed"
                    assert names.hash_song(data) == file.sha256

    @invariant()
    def a_part_that_is_there_is_whole(self) -> None:
        for job_id in JOBS:
            request = self.ledger.request(job_id)
            if request is None:
                continue
            of_this = names.part_folder(job_id, request.generation, PARTS_KIND)
            for info in list(self.bench.bare_store.list(names.OUTPUT_BUCKET, of_this)):
                if info.name.key.endswith(".json"):
                    part = SongPart.from_json(self.bench.bare_store.get(info.name)[0], of_this)
                    for file in part.stems.values():
                        data, _ = self.bench.bare_store.get(names.ObjectName(names.OUTPUT_BUCKET, file.key))
                        assert names.hash_song(data) == file.sha256, "half of a part"

    def watch(self, operation: str, args: tuple[Any, ...], call: Callable[[], Any]) -> Any:
        """Make a call for an actor, and check what it has done."""
        if operation in ("renew", "finish", "release", "fail"):
            claim: Claim = args[0]
            is_valid = self.raw.hget(keys.JOB_PREFIX + claim.job_id, "token") == claim.token
            result = call()
            assert is_valid, f"{operation} was accepted with a token that is not valid any more"
        elif operation == "requeue":
            is_present = args[0] in self._present()
            result = call()
            assert not (result and is_present), "a job was queued that somebody has"
        else:
            result = call()

        if operation == "claim" and result is not None:
            self.claims[args[2]] = result
            self.ended_at_claim[result.token] = self.ledger.end(result.job_id)[1]
        elif operation == "finish":
            request = self.ledger.request(args[0].job_id)
            if request is not None:
                self._ended(request.job_id, request.generation, args[1])
        elif operation == "settle" and result:
            self._ended(args[0], args[1], args[2])
        elif operation == "forget":
            self._may_end_again(args[0])
        elif operation in ("put", "put_if") and args[0] in OUTCOMES:
            outcome = Outcome.from_json(args[1])
            first = self.first_commits.setdefault((outcome.job_id, outcome.generation), outcome)
            assert outcome.token == first.token, "a commit undid an earlier one"
        elif operation == "remove" and args[0] in OUTCOMES:
            self._outcome_removed(args[0].key.removesuffix(".json"))
        return result

    def _outcome_removed(self, job_id: str) -> None:
        self.first_commits = {key: outcome for key, outcome in self.first_commits.items() if key[0] != job_id}
        if self.ledger.request(job_id) is not None:  # a later submission's: what was over is owed again
            self.undone.add(job_id)

    def separation_begins(self, claim: Claim, fate: str) -> None:
        """Check that the job was not over when it was claimed."""
        _, outcome = self.ledger.end(claim.job_id)
        assert outcome is None or outcome != self.ended_at_claim[claim.token], "what was over is separated again"
        self.faults[claim.job_id, fate] += 1

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self._recover()
        finally:
            self.bench.machine = None
            for actor in (*self.workers, *self.requests, *([self.janitor] if self.janitor else [])):
                actor.kill()

    # How it is done

    def _recover(self) -> None:
        """Let all who stand go on, then one honest worker, and look at what is left."""
        while self.requests:
            self._go_on(self.requests[0], END)
        if self.janitor is not None:
            self._go_on(self.janitor, END)
        for worker in WORKERS:
            self._work(worker, END)
        if self.is_audit_due:
            self._start_pass(self._audit(), END)
        for _ in range(10):
            for _ in range(2):
                self._start_pass(self.reconciler, END)
            self.bench.advance(3600)
            self._lapse()
            while self.queue.views.waiting(limit=1)[1]:
                self._work(0, END)
            if not self.queue.views.counts().open and not self._owed():
                break
        self._start_pass(self._audit(), END)
        for _ in range(3):
            self._start_pass(self.reconciler, END)
        assert not self._owed(), "owed for ever"
        assert not self._present()
        assert self.queue.views.counts().open == 0
        assert self.raw.hlen(keys.MARKS) == 0
        assert not self.raw.exists(keys.ROUNDS)
        self.a_done_job_has_the_stems_of_one_attempt()
        for job_id in JOBS:
            self._check_end(job_id)

    def _check_end(self, job_id: str) -> None:
        request, outcome = self.ledger.end(job_id)
        listed = [info.name for info in self.bench.bare_store.list(names.OUTPUT_BUCKET, job_id)]
        listed = [name for name in listed if names.owner_of(name) == job_id]
        if request is None or outcome is None:
            assert listed == [], "left over of a removed job"
            return
        kept = {
            names.outcome_object(job_id),
            *(names.ObjectName(names.OUTPUT_BUCKET, file.key) for file in outcome.stems.values()),
        }
        if outcome.status is JobStatus.DONE:
            self._check_copies(outcome)
        parts = f"{names.parts_prefix(job_id)}{outcome.generation}."  # they stay a while
        listed = [name for name in listed if not (outcome.stems and name.key.startswith(parts))]
        # The copies of an earlier submission stay when a later one fails.
        assert {name for name in listed if store_point("stat", (name,)) != "read copy"} == kept
        outbox = self.queue.views.snapshot().outbox
        assert {(job_id, index) for index in range(len(request.callbacks))} <= outbox, "a callback is not owed"
        if outcome.status is JobStatus.FAILED:
            self._check_failure(job_id, outcome)

    def _check_failure(self, job_id: str, outcome: Outcome) -> None:
        """A job may fail only for what was done to it."""
        faults = Counter({fate: count for (of, fate), count in self.faults.items() if of == job_id})
        assert job_id in self.queue.views.failed(limit=10)[0]
        if outcome.error_code == "separation_failed":
            assert faults["fails"]
        elif outcome.error_code == "poison":
            assert faults["crashes"] >= POLICY.max_crashes
        elif outcome.error_code == "gave_up":
            assert faults["may pass"] >= POLICY.max_attempts or faults["lapses"] >= MAX_LAPSES
        elif outcome.error_code == "input_missing":
            assert self._pushed_while_removed(job_id)
        else:
            raise AssertionError(f"failed for no reason: {outcome.error_code}: {outcome.error}")

    def _ended(self, job_id: str, generation: str, status: JobStatus) -> None:
        """Check an end that Redis has accepted."""
        self.ends[job_id, generation] += 1
        if job_id in self.undone:
            return
        assert self.ends[job_id, generation] == 1, "ended twice"
        if self.requests or self.janitor is not None:
            return
        _, outcome = self.ledger.end(job_id)
        assert outcome is not None, "over in Redis before it is over in the store"
        assert outcome.status is status
        others = [worker for worker in self.workers if worker.point in ("put copy", "read outcome", "read request")]
        if not others:
            self._check_copies(outcome)

    def _check_copies(self, outcome: Outcome) -> None:
        for stem in outcome.stems:
            name = names.stem_object(outcome.job_id, stem, outcome.format)
            assert self.bench.bare_store.stat(name) is not None, "over, and its copies are not there"
            assert self.bench.bare_store.get(name)[0].decode() == f"{stem} by {outcome.token}", "another's copy"

    def _post(self, number: int, until: str) -> None:
        body: dict[str, Any] = {"mp3": base64.b64encode(SONG).decode()}
        if number == 1:
            body["format"] = "flac"
            body["callback"] = {"url": "http://127.0.0.1:9/done"}
        self._ask("POST", "/apiv1/separate", number, until, json=body)

    def _ask(self, method: str, path: str, number: int, until: str, **fields: Any) -> None:
        """Send a request to REST and let it on until `until`; the clients of the two jobs have a share each."""
        client = {"REMOTE_ADDR": f"10.0.0.{number}"}

        def send() -> None:
            answer = self.bench.app.test_client().open(path, method=method, environ_base=client, **fields)
            assert answer.status_code in (200, 404, 409, 410), answer.text

        self.faults[JOBS[number], "removed"] += method == "DELETE"
        actor = Actor(f"{method} {path}", send)
        self.requests.append(actor)
        self._run(actor, until)

    def _go_on(self, actor: Actor, until: str) -> None:
        """Let on what stood still while others went on: it may queue, settle or forget a job as it was long ago."""
        self._redis_forgot(*JOBS)
        self._run(actor, until)

    def _start_pass(self, reconciler: Reconciler | Audit, until: str) -> None:
        self.janitor = Actor("janitor", reconciler.run)
        self._run(self.janitor, until)

    def _work(self, number: int, until: str, fate: str = "done") -> None:
        """Let a worker on until it stands before `until`, or is idle; an idle one begins if there is something."""
        worker = self.workers[number]
        if worker.point == "take" and not self.queue.views.waiting(limit=1)[1]:
            return
        worker.engine.fate = fate
        self._run(worker, until)
        if worker.point is None:  # it was told to stop
            self.workers[number] = self._new_worker()

    def _run(self, actor: Actor, until: str) -> None:
        for _ in range(MOST_CALLS):
            if actor.point == "wait for parts":
                self.bench.lapse_runs()  # whoever has one stands still
            if actor.point is not None:
                actor.step()
            if actor.point in (None, "take", until):
                break
        else:
            raise AssertionError(f"{actor.name} goes round in circles before {actor.point}")
        if actor.point is None:
            self.requests = [request for request in self.requests if request is not actor]
            self.janitor = None if self.janitor is actor else self.janitor

    def _lapse(self) -> None:
        """Let every lease end that nobody renews, and its grace, with sweeps as the janitor makes them."""
        for job_id in self.queue.views.running():
            self.faults[job_id, "lapses"] += 1
        self.bench.advance(POLICY.lease_seconds + 1)
        for _ in range(3):
            self.queue.sweep()
            self.bench.advance(POLICY.grace_seconds + 1)

    def _redis_forgot(self, *job_ids: str) -> None:
        """Jobs may be lost to Redis, and may end in it once more."""
        self.lost.update(job_ids)
        self._may_end_again(*job_ids)

    def _may_end_again(self, *job_ids: str) -> None:
        """Redis knows nothing of how jobs ended, though the store may still do: of a removal that stands or died."""
        for key in [key for key in self.ends if key[0] in job_ids]:
            del self.ends[key]

    def _new_worker(self) -> WorkerActor:
        self.born += 1
        return WorkerActor(self, f"worker-{self.born}")

    def _new_reconciler(self) -> Reconciler:
        return Reconciler(self.bench.queue, self.bench.ledger)

    def _audit(self, *, songs_hours: float = 0, stems_days: float = 0) -> Audit:
        retention = Retention(self.bench.queue, self.bench.ledger, songs_hours=songs_hours, stems_days=stems_days)
        return Audit(self.bench.queue, self.bench.ledger, retention)

    def _has_work(self) -> bool:
        return bool(self.raw.llen(keys.TO_WORKER)) or any(not worker.is_idle for worker in self.workers)

    def _pushed_while_removed(self, job_id: str) -> bool:
        """Tell whether a foreign producer may have pushed a hash as its song was removed, of which nobody can know."""
        return bool(self.faults[job_id, "pushed"] and self.faults[job_id, "removed"])

    def _present(self) -> set[str]:
        pipe = self.raw.pipeline()
        pipe.lrange(keys.TO_WORKER, 0, -1)
        pipe.lrange(keys.TAKEN, 0, -1)
        pipe.zrange(keys.LEASES, 0, -1)
        pipe.zrange(keys.DELAYED, 0, -1)
        return {element for elements in pipe.execute() for element in elements}

    def _owed(self) -> list[JobRequest]:
        ends = map(self.ledger.end, JOBS)
        return [request for request, outcome in ends if request is not None and outcome is None]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A server and a store in memory where the system has a place for that: nothing here dies for real."""
    probe = SimpleNamespace(check=lambda path, **_: ProbedSong(1.0, ()))
    monkeypatch.setattr("unmix_rest.app.Probe", lambda **_: probe)
    monkeypatch.setattr(worker_parts, "_LOOK_SECONDS", 0)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory(prefix="unmix-machine-", dir=folder_in_memory()) as name:
        server = RedisServer(Path(name))
        server.start()
        try:
            bench = Bench(Path(name), server.url)
            yield bench
            bench.close()
        finally:
            server.kill()
            structlog.reset_defaults()


@pytest.mark.timeout(300 + RUNS)
def test_no_order_of_events_loses_or_mixes_a_job(bench: Bench, pytestconfig: pytest.Config) -> None:
    is_search = pytestconfig.getoption("--hypothesis-seed") is not None

    def machine() -> QueueMachine:
        return QueueMachine(bench)

    run_state_machine_as_test(
        machine,  # type: ignore[arg-type]
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            derandomize=not is_search,
            database=None,
            deadline=None,
            phases=[Phase.generate, *([Phase.shrink] if is_search else [])],
            suppress_health_check=list(HealthCheck),
        ),
    )

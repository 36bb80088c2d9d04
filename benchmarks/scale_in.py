"""Whom a scale-in takes while some workers are busy: with what the janitor writes on their pods, and without.

    PYTHONPATH=tests .venv/bin/python -m benchmarks.scale_in

The queue, the janitor's part and the API server that it asks are real. The cluster is not: it ranks pods as ReplicaSets
do (`ActivePodsWithRanks` in Kubernetes' pkg/controller/controller_utils.go), and its workers separate nothing. All goes
ten times as fast as in a deployment: songs of 1 to 4 s, and ten looks of the janitor in the time of one.
"""

import argparse
import math
import secrets
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from kubernetes_api import KubernetesApi
from support import RedisServer
from unmix.janitor.deletion_costs import ANNOTATION, BUSY, LOOK_SECONDS, DeletionCosts
from unmix.janitor.pods import Pods
from unmix.job import JobStatus
from unmix.queue.job_queue import JobQueue
from unmix.queue.records import Claim, WorkerState
from unmix_worker.presence import Presence

#: How much faster than in a deployment.
SPEED: Final = 10
WORKERS: Final = 8
#: Pods beside each other on a node go first, other things being equal.
NODES: Final = 3
#: Songs that are there on average: about half of the workers have one.
SONGS_AT_ONCE: Final = 4
SONG_SECONDS: Final = (10 / SPEED, 40 / SPEED)
#: Pauses between two scale-ins. In a deployment there is one a minute at most.
PAUSE_SECONDS: Final = (2 / SPEED, 8 / SPEED)
#: What is left of a song is finished in the grace of a pod if it takes no longer, as with UNMIX_SHUTDOWN_SECONDS=25.
GRACE_SECONDS: Final = 15 / SPEED
#: What is not done so long after the last song came in is lost.
LONGEST_END_SECONDS: Final = 60


class Pod:
    """A pod with a worker that takes songs and lets time pass."""

    def __init__(self, name: str, node: int, queue: JobQueue, random: Random) -> None:
        self.name = name
        self.node = node
        self.created_at = time.monotonic()
        self.gave_back = 0
        self._queue = queue
        self._random = random
        self._asked_to_end = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    @property
    def worker(self) -> str:
        """The worker's id."""
        return f"{self.name}-7"

    def end(self) -> None:
        """Ask it to end, as with SIGTERM."""
        self._asked_to_end.set()

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    def _work(self) -> None:
        with Presence(self._queue.attendance, self.worker, self.name, lambda: WorkerState.READY):
            while not self._asked_to_end.is_set():
                job_id = self._queue.take(block_seconds=1 / SPEED)
                claim = self._queue.claim(job_id, job_id, self.worker) if job_id else None
                if claim:
                    self._serve(claim)

    def _serve(self, claim: Claim) -> None:
        """Take the time of a song; finish it if that fits into the grace, else give it back."""
        over_at = time.monotonic() + self._random.uniform(*SONG_SECONDS)
        if self._asked_to_end.wait(over_at - time.monotonic()):
            left = over_at - time.monotonic()
            if left > GRACE_SECONDS:
                self.gave_back += 1
                self._queue.release(claim)
                return
            time.sleep(max(0.0, left))
        self._queue.finish(claim, JobStatus.DONE, error_code=None, callbacks=0)


@dataclass(slots=True)
class Taken:
    """What came of the scale-ins."""

    times: int = 0
    busy: int = 0  # workers that were taken though an idle one was there
    raced: int = 0  # of them had taken their songs since the janitor's last look
    gave_back: int = 0
    songs: int = 0
    lost: int = 0

    def __str__(self) -> str:
        return (
            f"scale-in while busy, {self.times} times: {self.busy - self.raced} busy workers chosen while an idle one "
            f"is there, and {self.raced} that had begun since the last look; {self.lost} of {self.songs} songs lost, "
            f"{self.gave_back} given back"
        )


@dataclass(slots=True)
class Cluster:
    """Pods, and whoever decides which of them go."""

    queue: JobQueue
    api: KubernetesApi
    random: Random
    pods: list[Pod] = field(default_factory=list)
    ended: list[Pod] = field(default_factory=list)

    def grow(self) -> None:
        """Start pods until there are enough."""
        while len(self.pods) < WORKERS:
            pod = Pod(f"worker-{secrets.token_hex(3)}", self.random.randrange(NODES), self.queue, self.random)
            self.api.pods[pod.name] = {}
            self.pods.append(pod)

    def shrink(self) -> Pod:
        """Take one pod away, as a ReplicaSet with one replica less does, and return which."""
        pod = min(self.pods, key=self._rank)
        self.pods.remove(pod)
        del self.api.pods[pod.name]
        pod.end()
        self.ended.append(pod)
        return pod

    def finish(self) -> None:
        """Let the songs that are there be done, and end all pods."""
        deadline = time.monotonic() + LONGEST_END_SECONDS
        while self.queue.views.counts().open and time.monotonic() < deadline:
            time.sleep(1 / SPEED)
        for pod in self.pods:
            pod.end()
        self.ended += self.pods
        for pod in self.ended:
            pod.join()

    def _rank(self, pod: Pod) -> tuple[int, int, float]:
        """The lowest goes first. All pods are assigned, running and ready here, and none was ever restarted."""
        cost = int(self.api.pods[pod.name].get(ANNOTATION, 0))
        beside = sum(other.node == pod.node for other in self.pods)
        ready_for = time.monotonic() - pod.created_at
        return cost, -beside, math.floor(math.log2(ready_for * SPEED + 1))  # the younger first, in powers of two


def scale_in(times: int, *, spares: bool, folder: Path) -> Taken:
    """Take pods away so often while songs come in, with the janitor's costs or without, and return whom it took."""
    server = RedisServer(folder)
    server.start()
    try:
        with JobQueue(server.url) as queue, KubernetesApi(folder) as api:
            return _scale_in(times, spares, Cluster(queue, api, Random(18)))
    finally:
        server.kill()


def _scale_in(times: int, spares: bool, cluster: Cluster) -> Taken:
    taken, stop, jobs = Taken(), threading.Event(), list[str]()
    queue, random = cluster.queue, Random(17)
    costs = DeletionCosts(queue.attendance, Pods(cluster.api.url, cluster.api.account))

    def look() -> None:
        while not stop.wait(LOOK_SECONDS / SPEED):
            costs.note(lambda: None)

    def send() -> None:
        while not stop.wait(random.expovariate(SONGS_AT_ONCE / (sum(SONG_SECONDS) / 2))):
            jobs.append(secrets.token_hex(32))
            queue.submit(jobs[-1], "g")

    cluster.grow()
    threads = [threading.Thread(target=work) for work in ([send, look] if spares else [send])]
    for thread in threads:
        thread.start()
    while taken.times < times:
        time.sleep(cluster.random.uniform(*PAUSE_SECONDS))
        busy = queue.attendance.busy()
        if not 0 < sum(pod.worker in busy for pod in cluster.pods) < len(cluster.pods):
            continue  # nobody to spare, or nobody to take in their place
        known = {pod.name: cluster.api.pods[pod.name].get(ANNOTATION) for pod in cluster.pods}
        pod = cluster.shrink()
        cluster.grow()
        taken.times += 1
        if pod.worker in busy:
            taken.busy += 1
            taken.raced += spares and known[pod.name] != str(BUSY)
    stop.set()
    for thread in threads:
        thread.join()
    cluster.finish()
    records = [queue.views.record(job_id) for job_id in jobs]
    taken.songs, taken.gave_back = len(jobs), sum(pod.gave_back for pod in cluster.ended)
    taken.lost = sum(record is None or record.status is not JobStatus.DONE for record in records)
    return taken


def main() -> int:
    """Print whom scale-ins take; the exit status is 1 if one took a worker known to be busy, or lost a song."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=100)
    times = parser.parse_args().times
    results = []
    for spares in (True, False):
        with tempfile.TemporaryDirectory(prefix="unmix-scale-in-") as folder:
            results.append(scale_in(times, spares=spares, folder=Path(folder)))
        print(f"{results[-1]}{'' if spares else ' (without the component scale-in)'}", flush=True)
    spared, blind = results
    return int(spared.busy > spared.raced or spared.lost > 0 or blind.lost > 0)


if __name__ == "__main__":
    sys.exit(main())

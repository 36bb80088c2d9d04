"""Which delivery goes next: nobody waits for the pile of another, and each host is called in order."""

from unmix.janitor.lanes import KEPT, LANE_KEPT, Lanes, Waiting


def due(*hosts: str | None) -> list[tuple[tuple[str, int], str | None]]:
    """Deliveries of a job each, in the order in which they are due."""
    return [((f"job-{number}", 0), host) for number, host in enumerate(hosts)]


def filled(*hosts: str | None, at_once: int = 1) -> Lanes:
    lanes = Lanes(at_once=at_once)
    lanes.refill(due(*hosts), now=0)
    return lanes


def take_all(lanes: Lanes, now: float = 0) -> list[Waiting]:
    taken = []
    while waiting := lanes.take(now=now):
        taken.append(waiting)
    return taken


def take_one(lanes: Lanes, now: float = 0) -> Waiting:
    waiting = lanes.take(now=now)
    assert waiting is not None
    return waiting


def test_the_pile_of_one_host_lets_another_pass() -> None:
    lanes = filled(*["slow"] * 50, *["quick"] * 3)
    assert take_one(lanes).host == "slow"
    for _ in range(3):
        quick = take_one(lanes)
        assert quick.host == "quick"
        lanes.end(quick)
    assert lanes.take(now=0) is None


def test_a_host_is_called_in_the_order_in_which_its_deliveries_were_due() -> None:
    lanes = filled("a", "b", "a", "a", "b")
    order = []
    while taken := take_all(lanes):
        order += taken
        for waiting in taken:
            lanes.end(waiting)
    assert [waiting.job_id for waiting in order if waiting.host == "a"] == ["job-0", "job-2", "job-3"]
    assert [waiting.job_id for waiting in order if waiting.host == "b"] == ["job-1", "job-4"]


def test_a_host_has_so_many_at_once_and_the_next_when_one_of_them_has_ended() -> None:
    lanes = filled("a", "a", "a", "a", at_once=2)
    first, second = take_all(lanes)
    lanes.end(second)
    (third,) = take_all(lanes)
    assert [each.job_id for each in (first, second, third)] == ["job-0", "job-1", "job-2"]


def test_what_is_under_way_is_not_taken_again_after_a_refill() -> None:
    lanes = filled("a", "a", at_once=9)
    take_one(lanes)
    lanes.refill(due("a", "a"), now=0)
    assert [waiting.job_id for waiting in take_all(lanes)] == ["job-1"]


def test_hosts_take_turns_over_refills_too() -> None:
    lanes = filled("a", "b")
    lanes.end(take_one(lanes))
    lanes.refill([(("again", 0), "a"), (("job-1", 0), "b")], now=0)
    assert take_one(lanes).host == "b"


def test_a_delivery_whose_host_turns_out_to_be_busy_waits_in_its_place() -> None:
    lanes = filled("a", None, "a")
    busy = take_one(lanes)
    unknown = take_one(lanes)
    assert (busy.host, unknown.host) == ("a", "")
    assert not lanes.route(unknown, "a", now=0)
    lanes.put_back(unknown, "a")
    lanes.end(busy)
    assert take_one(lanes) == Waiting(1, "job-1", 0, "a")


def test_a_delivery_whose_host_turns_out_to_be_free_counts_there() -> None:
    lanes = filled(None, "a")
    unknown = take_one(lanes)
    assert lanes.route(unknown, "a", now=0)
    assert take_all(lanes) == []
    lanes.end(unknown)
    assert [waiting.job_id for waiting in take_all(lanes)] == ["job-1"]


def test_a_host_that_was_noted_wrongly_is_corrected() -> None:
    lanes = filled("was", "was", "is")
    moved = take_one(lanes)
    assert lanes.route(moved, "is", now=0)
    assert [waiting.host for waiting in take_all(lanes)] == ["was"]


def test_a_host_that_has_to_wait_is_left_until_then_and_goes_on_where_it_was() -> None:
    lanes = filled("a", "a", "b")
    lanes.pause("host:a", until=5)
    lanes.put_back(take_one(lanes, now=5), "a")
    assert [waiting.host for waiting in take_all(lanes, now=4)] == ["b"]
    assert take_one(lanes, now=5).job_id == "job-0"


def test_a_job_that_has_to_wait_lets_others_of_the_same_host_pass() -> None:
    lanes = filled("a", "a", at_once=2)
    lanes.pause("job:job-0", until=5)
    assert [waiting.job_id for waiting in take_all(lanes, now=4)] == ["job-1"]
    assert [waiting.job_id for waiting in take_all(lanes, now=5)] == ["job-0"]


def test_a_pause_outlives_a_refill() -> None:
    lanes = filled("a")
    lanes.pause("host:a", until=5)
    lanes.refill(due("a"), now=4)
    assert take_all(lanes, now=4) == []
    assert len(take_all(lanes, now=5)) == 1


def test_however_many_wait_few_are_kept_here_and_of_each_host_the_first() -> None:
    lanes = filled(*["a"] * (5 * KEPT), "b", at_once=KEPT)
    taken = take_all(lanes)
    assert [waiting.job_id for waiting in taken if waiting.host == "a"] == [f"job-{n}" for n in range(LANE_KEPT)]
    assert [waiting.host for waiting in taken].count("b") == 1
    many_hosts = filled(*[f"host-{number}" for number in range(2 * KEPT)])
    assert len(take_all(many_hosts)) == KEPT

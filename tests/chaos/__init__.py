"""Proof by fault injection: the service as real processes, killed, frozen and cut off, and judged by a history.

    python -m chaos [--seed N] [--quick] [--only SCENARIO]      (with tests/ on PYTHONPATH; `make chaos`)

A seed repeats what is chosen, not when it happens: that is up to the machine.

| module | what it owns |
|---|---|
| `history` | what happened, appended by every process to one file outside Redis and the store |
| `checker` | the verdict on a run, by the history, the store's bytes and Redis' keys; without code of the product |
| `stand_in`, `stand_in_child` | the engine of the mass runs: writes its attempt's token into the stems |
| `points` | the named points of the work at which a process dies, freezes or is told to stop |
| `zygote` | forks processes that have everything imported, and signals them by pid |
| `roles` | what those processes run: the product's own main functions, clients, the naive control |
| `clients` | submissions, cancels and removals as REST does them, from outside HTTP |
| `service` | one service under test: Redis, store, janitor, workers |
| `monkey` | random faults by a seed |
| `run` | what all scenarios of a run share |
| `scenarios` | one function for each claim |
| `table` | the claims, their targets and what was measured |
"""

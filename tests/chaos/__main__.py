"""`python -m chaos`: run all scenarios and print one table; the exit status is 1 if a target is missed."""

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import environment
from benchmarks.machine import conditions
from chaos.run import Run
from chaos.scenarios import SCENARIOS
from chaos.table import Claim, table, write_json
from chaos.zygote import Zygote
from support import folder_in_memory

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of all that is chosen at random")
    parser.add_argument("--quick", action="store_true", help="few trials, to see that everything works: 3 minutes")
    names = [scenario.__name__ for scenario in SCENARIOS]
    parser.add_argument("--only", choices=names, action="append", help="this scenario; may be given several times")
    arguments = parser.parse_args()
    environment.settle()

    kept = Path(tempfile.mkdtemp(prefix=f"unmix-chaos-{arguments.seed}-"))
    folder = Path(tempfile.mkdtemp(prefix="unmix-chaos-", dir=folder_in_memory()))
    history = kept / "history.jsonl"
    history.touch()
    print(f"seed {arguments.seed}, history {history}, logs beside it", flush=True)
    claims: list[Claim] = []
    minutes: dict[str, float] = {}
    started = time.monotonic()
    try:
        with Zygote(kept) as zygote:
            run = Run(arguments.seed, arguments.quick, folder, history, zygote)
            for scenario in SCENARIOS:
                if arguments.only is None or scenario.__name__ in arguments.only:
                    begun = time.monotonic()
                    try:
                        claims += scenario(run)
                    except AssertionError as error:
                        why = str(error).partition("\n")[0]
                        claims.append(Claim(f"the scenario {scenario.__name__} runs to its end", why, "yes", False))
                    minutes[scenario.__name__] = round((time.monotonic() - begun) / 60, 2)
                    print(f"{scenario.__name__}: {minutes[scenario.__name__]} minutes", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\nseed {arguments.seed}, {(time.monotonic() - started) / 60:.1f} minutes\n\n{table(claims)}")
    if arguments.only is None and not arguments.quick:
        command = f"make chaos SEED={arguments.seed}"
        write_json(
            RESULTS / f"chaos-{arguments.seed}.json",
            claims,
            {"kind": "chaos", "seed": arguments.seed, "command": command, "minutes": minutes, **conditions()},
        )
    return 0 if all(claim.holds for claim in claims) else 1


if __name__ == "__main__":
    sys.exit(main())

"""One function for each claim: it makes a service, lets it come to harm, and says what was measured.

Intervals are scaled, but for `retake` and `rebuild`. The engine is the stand-in, but for `engine`. The store is a
folder, but in `stores`.
"""

from collections.abc import Callable
from typing import Final

from chaos.run import Run
from chaos.scenarios.contract import blpop, control
from chaos.scenarios.drains import drains
from chaos.scenarios.engine import engine
from chaos.scenarios.freezes import freezes
from chaos.scenarios.kills import http, kills, poison
from chaos.scenarios.parts import continued, parts
from chaos.scenarios.stores import s3_freezes, s3_kills, store_faults
from chaos.scenarios.times import rebuild, retake, undisturbed
from chaos.table import Claim

SCENARIOS: Final[list[Callable[[Run], list[Claim]]]] = [
    kills,
    freezes,
    retake,
    undisturbed,
    drains,
    rebuild,
    poison,
    parts,
    continued,
    blpop,
    http,
    s3_kills,
    s3_freezes,
    store_faults,
    engine,
    control,
]

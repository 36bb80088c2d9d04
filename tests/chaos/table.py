"""The claims of a run, with what was measured, as one table and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chaos.checker import Verdict


@dataclass(frozen=True)
class Claim:
    """One line of the table."""

    what: str
    measured: str
    target: str
    holds: bool
    #: Independent trials in which something was seen no single time; None where that is not what is claimed.
    trials_without: int | None = None

    @property
    def bound(self) -> str:
        """What the true share may still be, with 95 % confidence: at most three in so many trials (rule of three)."""
        if self.trials_without is None:
            return ""
        return f"≤ {min(100, 300 / max(1, self.trials_without)):.3g} %"


def never(what: str, count: int, trials: int, target: str = "0", *, trials_met: bool = True) -> Claim:
    """Claim that something was not seen in `trials` trials, if these were as many as they should."""
    holds = count == 0 and trials_met
    return Claim(what, f"{count:,} of {trials:,}", target, holds, trials if holds else None)


def nothing_wrong(verdict: Verdict, where: str) -> Claim:
    """Claim that at the end of a run nothing at all was wrong or left over."""
    wrong = verdict.wrong
    return Claim(f"anything wrong or left over at the end of {where}", f"{len(wrong)}", "0", not wrong)


def table(claims: Sequence[Claim]) -> str:
    """Return the claims as a Markdown table."""
    head = ("claim", "measured", "target", "true share, 95 %", "")
    rows = [(each.what, each.measured, each.target, each.bound, "" if each.holds else "MISSED") for each in claims]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [head, tuple("-" * width for width in widths), *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def write_json(path: Path, claims: Sequence[Claim], conditions: dict[str, Any]) -> None:
    """Write the claims, and the conditions under which they were measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(claim) | {"true_share_bound": claim.bound} for claim in claims]
    path.write_text(json.dumps(conditions | {"claims": rows}, indent=1, ensure_ascii=False) + "\n")

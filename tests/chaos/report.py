"""What a person gets to read."""

from collections import Counter

from tests.chaos.checker import Verdict
from tests.chaos.history import Event

MOST_PROBLEMS = 25


def fault_line(event: Event, began: float) -> str:
    """Return one fault in words."""
    pids = ", ".join(map(str, event["victims"]))
    moment = f" ({event['moment']})" if event["moment"] else ""
    return f"{event['since'] - began:7.2f} s  {event['kind']}{moment}: pid {pids}: {event['proof']}"


def summary(verdict: Verdict) -> list[str]:
    """Return the table."""
    kinds = verdict.kinds
    rows = {
        "tasks": f"{verdict.promises.total()} ({_counts(verdict.promises)})",
        "executions": str(verdict.executions),
        "faults": f"{verdict.faults.total()} ({_counts(verdict.faults)}); missed: {verdict.missed}",
        "children killed": _counts(verdict.moments) or "none",
        "workers taken over": str(verdict.takeovers),
        "run again, explained": str(verdict.explained),
        "given up after three": str(verdict.given_up - kinds["failed"]),
        "run again, unexplained": str(kinds["repeated"]),
        "lost": str(kinds["lost"] + kinds["unrun"]),
        "stuck": str(kinds["stuck"]),
        "other breaches": _counts(
            kinds - Counter({name: kinds[name] for name in ("repeated", "lost", "unrun", "stuck")})
        )
        or "0",
    }
    return [f"  {name:24}{value}" for name, value in rows.items()]


def problems(verdict: Verdict) -> list[str]:
    """Return the worst of what was found, in words."""
    shown = [f"  {problem}" for problem in verdict.problems[:MOST_PROBLEMS]]
    more = len(verdict.problems) - len(shown)
    return [*shown, f"  ... and {more} more"] if more else shown


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counter.items()))

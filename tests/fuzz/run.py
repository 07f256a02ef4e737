"""Runs cases of a target, and keeps count of what became of them."""

import json
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.machine import TARGETS as OF_THE_MACHINE
from tests.fuzz.messages import TARGETS as OF_MESSAGES
from tests.fuzz.messages import use_our_tasks
from tests.fuzz.mutator import Fields, joined, mutated
from tests.fuzz.results import TARGETS as OF_RESULTS
from tests.fuzz.target import ACCEPTED, Target

__all__ = ["TARGETS", "Tally", "run", "use_our_tasks"]

TARGETS = {one.name: one for one in (*OF_MESSAGES, *OF_RESULTS, *OF_THE_MACHINE)}
#: Samples of each reason that are kept, and bytes of one at most.
SAMPLES, LARGEST_SAMPLE = 2, 600
MOST_REASONS = 400
#: Seconds after which a case is a finding of its own.
SLOW = 5.0
OTHER = "(other reasons)"

#: How a case came about: as it was made, changed in up to four places, or what coverage has made of changed ones.
VALID, MUTATED, EVOLVED = "valid", "mutated", "evolved"


@dataclass(slots=True)
class Tally:
    """What became of the cases of one target."""

    target: Target
    origins: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[str]] = field(default_factory=dict)
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)
    slowest: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def note(self, fields: Fields, origin: str) -> None:
        """Check a case."""
        self.origins[origin] += 1
        began = time.perf_counter()
        try:
            reason = self.target.check(fields)
        except Exception as error:  # noqa: BLE001 - whatever comes out of a check is a finding
            self._find(error, fields)
            return
        took = time.perf_counter() - began
        self.slowest = max(self.slowest, took)
        if took > SLOW:
            self._find(TimeoutError(f"a case took {took:.1f} s"), fields)
        if reason not in self.reasons and len(self.reasons) >= MOST_REASONS:
            reason = OTHER
        self.reasons[reason] += 1
        self._sample(reason, fields)

    def _sample(self, reason: str, fields: Fields) -> None:
        """Keep the smallest cases of each reason."""
        kept = self.samples.setdefault(reason, [])
        size = sum(map(len, fields))
        if reason == ACCEPTED or size > LARGEST_SAMPLE or (len(kept) == SAMPLES and 2 * size >= len(kept[-1])):
            return
        self.samples[reason] = sorted({*kept, joined(fields).hex()}, key=len)[:SAMPLES]

    def _find(self, error: Exception, fields: Fields) -> None:
        text = "".join(traceback.format_exception(error)).encode("ascii", "backslashreplace").decode()
        place = traceback.extract_tb(error.__traceback__)[-1] if error.__traceback__ else None
        key = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}" if place else repr(error)
        known = self.findings.setdefault(key, {"count": 0, "case": joined(fields).hex()[:20_000], "text": text[-3000:]})
        known["count"] += 1

    def as_json(self) -> str:
        """Return it as text."""
        plain = {name: getattr(self, name) for name in ("origins", "reasons", "samples", "findings", "slowest")}
        return json.dumps({"target": self.target.name, "seconds": time.monotonic() - self.began, **plain})


def run(target: Target, *, cases: int, seed: int) -> Tally:
    """Check `cases` cases, of which each twentieth is as valid as it was made."""
    chance = Random(f"{seed} {target.name}")
    tally = Tally(target)
    for number in range(cases):
        fields = target.valid(chance)
        if number % 20:
            tally.note(mutated(fields, chance), MUTATED)
        else:
            tally.note(fields, VALID)
    return tally

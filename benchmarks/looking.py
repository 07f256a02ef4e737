"""How often it is looked whether the work is done.

Counting the rows of a table costs its server the more, the more rows there are: 30,000 counted every 20 ms would take a
good part of a core from those who are measured. So the looks come seldom far from the end, and often near it.
Each contender is looked at in the same way: about ten times a second, and a dozen times more at the end of each drain.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

SHORTEST, LONGEST = 0.01, 0.1  # seconds
PART_OF_WHAT_IS_LEFT = 0.25


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one moment (of `time.perf_counter`), and how long looking took."""

    moment: float
    count: int
    took: float


def looks(count: Callable[[], int], expected: int, patience: float) -> Iterator[Look]:
    """Look until `count` reaches `expected`; TimeoutError when it stands still for `patience` seconds."""
    began = previous = _look(count)
    yield began
    moved_at = began.moment
    while previous.count < expected:
        time.sleep(pause(began, previous, expected))
        found = _look(count)
        yield found
        if found.count != previous.count:
            moved_at = found.moment
        elif found.moment - moved_at > patience:
            raise TimeoutError(f"{found.count} of {expected}, and no more comes")
        if not previous.count and found.count:
            began = found
        previous = found


def pause(first: Look, last: Look, expected: int) -> float:
    """Seconds until the next look: a quarter of what is left, at the rate seen so far."""
    done, elapsed = last.count - first.count, last.moment - first.moment
    if done <= 0 or elapsed <= 0:
        return SHORTEST
    left = (expected - last.count) * elapsed / done
    return min(max(left * PART_OF_WHAT_IS_LEFT, SHORTEST), LONGEST)


def longest_pause(seen: Sequence[Look]) -> float:
    """The longest time, in seconds, in which nothing was seen to come; at least that between two looks."""
    moves = [seen[0].moment, *(after.moment for before, after in pairwise(seen) if after.count > before.count)]
    return max((after - before for before, after in pairwise(moves)), default=0.0)


def _look(count: Callable[[], int]) -> Look:
    before = time.perf_counter()
    found = count()
    after = time.perf_counter()
    return Look(before, found, after - before)

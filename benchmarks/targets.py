"""What is aimed at, as data. benchmarks/verdicts.py tells whether it was reached.

A target that is not held stays in the table; docs/performance.rst says what would be needed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from benchmarks import labels
from benchmarks.labels import OURS_POSTGRESQL, OURS_RABBITMQ, OURS_SQLITE
from benchmarks.ratios import short
from benchmarks.rounds import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One row: what a figure has to be at least, or at most.

    With `against` it is a ratio that is judged: how many times better the figure is than that one, in the same rounds.
    """

    measure: str
    compared: str
    figure: Key
    wanted: float
    aimed: float | None = None
    against: Key | None = None
    at_most: bool = False
    unit: str = ""

    @property
    def words(self) -> str:
        """What is wanted, as text."""
        sign = "at most" if self.at_most else "at least"
        aim = f", aim {short(self.aimed)}" if self.aimed is not None else ""
        return f"{sign} {short(self.wanted)} {self.unit}".rstrip() + aim


#: MB. 5,000 waiting calls, kept in the worker, would take more: 400 bytes each at the very least.
NO_GROWTH: Final = 2.0
#: MB that a producer may gain by a million calls: the ids that it returns, 16 bytes each, and what one batch takes.
FLAT: Final = 24.0


def _times(ours: Key, theirs: Key, wanted: float, aimed: float | None = None) -> Target:
    return Target(
        measure=f"{ours.scenario}, {_place(ours)}, {ours.measure}",
        compared=f"times {theirs.contender}",
        figure=ours,
        against=theirs,
        wanted=wanted,
        aimed=aimed,
    )


def _part_of_limit(place: str, measure: str, wanted: float) -> Target:
    """Both sides are taken from the scenario of limits, which measures them one after the other."""
    ours = Key(labels.LIMITS, measure, place)
    limit = labels.raw_limit(ours)
    return Target(
        measure=f"{ours.scenario}, {_place(ours)}, {measure}",
        compared="of the raw limit",
        figure=ours,
        against=limit,
        wanted=wanted,
    )


def _at_most(figure: Key, wanted: float, unit: str, aimed: float | None = None) -> Target:
    name = f"{figure.scenario}, {_place(figure)}, {figure.measure}"
    return Target(measure=name, compared="", figure=figure, wanted=wanted, aimed=aimed, unit=unit, at_most=True)


def _at_least(figure: Key, wanted: float, unit: str) -> Target:
    name = f"{figure.scenario}, {_place(figure)}, {figure.measure}"
    return Target(measure=name, compared="", figure=figure, wanted=wanted, unit=unit)


def _everywhere(scenario: str, measure: str, wanted: float, unit: str) -> Iterator[Target]:
    for contender in (OURS_RABBITMQ, OURS_POSTGRESQL, OURS_SQLITE):
        yield _at_most(Key(scenario, measure, contender), wanted, unit)


def _place(key: Key) -> str:
    return key.contender.removeprefix("ours, ")


def _stored(contender: str) -> Key:
    return Key(labels.DRAIN, labels.STORED, contender)


def _ignored(contender: str) -> Key:
    return Key(labels.DRAIN, labels.IGNORED, contender)


def _trip(contender: str, measure: str) -> Key:
    return Key(labels.ROUND_TRIP, measure, contender)


def _enqueue(contender: str, measure: str) -> Key:
    return Key(labels.ENQUEUE, measure, contender)


def _producers(number: int) -> Key:
    return Key(labels.PRODUCERS, labels.NUMBERS_OF_PRODUCERS[number], f"{OURS_POSTGRESQL}, {labels.WATCHED}")


TARGETS: Final[tuple[Target, ...]] = (
    _times(_stored(OURS_RABBITMQ), _stored(labels.CELERY), 12, 17),
    _times(_stored(OURS_RABBITMQ), _stored(labels.DRAMATIQ), 1),
    _times(_stored(OURS_RABBITMQ), _stored(labels.HUEY), 1),
    _times(_ignored(OURS_RABBITMQ), _ignored(labels.CELERY), 4, 7),
    _times(_ignored(OURS_RABBITMQ), _ignored(labels.TASKIQ), 1),
    _times(_ignored(OURS_RABBITMQ), _ignored(labels.TASKIQ_CLASSIC), 1),
    _times(_stored(OURS_POSTGRESQL), _stored(labels.DJANGO_TASKS), 20, 30),
    _times(_stored(OURS_POSTGRESQL), _stored(labels.DJANGO_TASKS_KEPT), 20, 30),
    _part_of_limit(OURS_SQLITE, labels.STORED, 0.5),
    _at_most(_trip(OURS_RABBITMQ, labels.P50), 2.0, "ms", aimed=1.5),
    _at_most(_trip(OURS_RABBITMQ, labels.P99), 6.0, "ms"),
    _at_most(_trip(OURS_POSTGRESQL, labels.P50), 5.0, "ms"),
    _at_most(_trip(OURS_SQLITE, labels.P50), 8.0, "ms"),
    *_everywhere(labels.IDLE, labels.IDLE_CPU, 1.0, "% of a core"),
    _part_of_limit(OURS_RABBITMQ, labels.ONE_BY_ONE, 0.9),
    _part_of_limit(OURS_POSTGRESQL, labels.ONE_BY_ONE, 0.75),
    _at_least(_enqueue(OURS_RABBITMQ, labels.IN_BULK), 12_000, "/s"),
    _at_least(_enqueue(OURS_POSTGRESQL, labels.IN_BULK), 15_000, "/s"),
    *_everywhere(labels.START, labels.FIRST_TASK, 0.8, "s"),
    *_everywhere(labels.IDLE, labels.IDLE_MEMORY, 120, "MB"),
    *_everywhere(labels.DELAYED, labels.BEYOND, 250, "ms"),
    *_everywhere(labels.DELAYED, labels.GROWTH, NO_GROWTH, "MB"),
    *(_at_least(Key(labels.DURATIONS, measure, OURS_RABBITMQ), 97, "%") for measure in labels.BUSY[1:]),
    *(
        _at_most(Key(labels.MILLIONS, measure, contender), 1.15, "times")
        for contender in (OURS_POSTGRESQL, OURS_SQLITE)
        for measure in labels.OF_EMPTY_TABLES
    ),
    _at_most(Key(labels.MILLION_SENT, labels.OF_EMPTY_TABLES[0], OURS_RABBITMQ), 1.15, "times"),
    *(
        _at_most(Key(labels.MILLION_SENT, labels.GROWTH_OF_SENDER, contender), FLAT, "MB")
        for contender in (OURS_RABBITMQ, OURS_POSTGRESQL)
    ),
    replace(_times(_producers(-1), _producers(0), 1), compared="times 1 producer"),
)

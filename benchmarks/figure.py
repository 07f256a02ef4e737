"""One measured value."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What was measured of whom. `details` explain the value; some are compared too, under their own names."""

    scenario: str
    measure: str
    unit: str
    contender: str
    value: float
    less_is_better: bool = False
    details: dict[str, float] = field(default_factory=dict)


def less_is_better(  # noqa: PLR0913, PLR0917 - what a figure has
    scenario: str, contender: str, measure: str, unit: str, value: float, details: Mapping[str, float] | None = None
) -> Figure:
    """A figure of what something costs, or of how late it is."""
    return Figure(
        scenario=scenario,
        measure=measure,
        unit=unit,
        contender=contender,
        value=value,
        less_is_better=True,
        details=dict(details or {}),
    )

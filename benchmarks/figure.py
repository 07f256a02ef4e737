"""One measured value."""

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

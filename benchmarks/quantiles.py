"""Quantiles of what was seen: values that did occur, none made up between two."""

from collections.abc import Sequence


def quantile(values: Sequence[float], part: float) -> float:
    """The value that `part` of all do not exceed; ValueError without values."""
    if not values:
        raise ValueError("nothing was measured")
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]

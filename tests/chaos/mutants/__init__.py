"""Planted faults: each is a module whose `plant` damages the worker in memory. The checker must catch every one."""

from importlib import import_module
from pathlib import Path

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))


def plant(name: str) -> None:
    """Damage the worker of this process."""
    import_module(f"{__name__}.{name}").plant()

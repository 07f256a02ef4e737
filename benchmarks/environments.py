"""The interpreter of each contender: our own, or that of an environment under `.peers` that holds what it requires.

An environment is made when it is first asked for, before anything is measured, and kept while its recipe is the same;
``tests/interop/environment.py`` makes it, for the tests as well.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.interop import environment


def python_of(name: str, requirements: Sequence[str]) -> Path:
    """Return the interpreter that imports `requirements`; RuntimeError, with what pip said, if there can be none."""
    if not environment.is_ready(name, requirements):
        print(f"Making the environment of {name}: {', '.join(requirements)}", file=sys.stderr, flush=True)
    return environment.python_of(name, requirements)

"""The demonstration's work: which files, what is measured in each, and how two answers are compared.

Knows nothing of Django nor of celery: it is also the yardstick that the worker's results are held against.
"""

import hashlib
import io
import os
import sysconfig
import tokenize
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

PACKAGE_FOLDERS = frozenset({"site-packages", "dist-packages"})
BRACKETS = str.maketrans("[]", "()")  # JSON has no tuples: a list says as much
SKIPPED_FOLDERS = frozenset({"__pycache__"})


class Figures(TypedDict):
    """What is measured in one file."""

    sha256: str
    size: int
    lines: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An exception as far as it must be the same on both sides."""

    name: str
    args: object
    text: str


Answers = dict[str, Figures | Failure]  # by path


def measure(path: str) -> Figures:
    """Return sha256, bytes, lines and tokens of the Python file at `path`; whatever `tokenize` refuses is raised."""
    data = Path(path).read_bytes()
    tokens = sum(1 for _ in tokenize.tokenize(io.BytesIO(data).readline))
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "lines": len(data.splitlines()),
        "tokens": tokens,
    }


def answer_for(path: str) -> Figures | Failure:
    """Return what a task for `path` must answer."""
    try:
        return measure(path)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the worker must report the same
        return failure_from(exc)


def failure_from(exc: Exception) -> Failure:
    name = f"{type(exc).__module__}.{type(exc).__qualname__}"
    return Failure(name=name, args=_as_json_keeps_it(exc.args), text=str(exc).translate(BRACKETS))


def _as_json_keeps_it(value: object) -> object:
    if isinstance(value, tuple | list):
        return [_as_json_keeps_it(item) for item in value]
    return value


def python_files() -> list[str]:
    """Return the real path of every .py file of the standard library and of the installed packages, sorted."""
    standard = sources_below(Path(sysconfig.get_path("stdlib")), skip=PACKAGE_FOLDERS | SKIPPED_FOLDERS)
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return sorted(standard.union(*(sources_below(Path(folder), skip=SKIPPED_FOLDERS) for folder in folders)))


def sources_below(root: Path, *, skip: AbstractSet[str]) -> set[str]:
    """Return the real paths of the readable .py files below `root`, outside of folders that are named in `skip`."""
    paths = (path for path in root.rglob("*.py") if skip.isdisjoint(path.relative_to(root).parts))
    return {str(path.resolve()) for path in paths if path.is_file() and os.access(path, os.R_OK)}


def differences(expected: Mapping[str, object], received: Mapping[str, object]) -> list[str]:
    """Return one sentence for each file whose answers differ; a missing answer is a difference too."""
    return [
        f"{path}: expected {expected.get(path)}, received {received.get(path)}"
        for path in sorted(expected.keys() | received.keys())
        if expected.get(path) != received.get(path)
    ]

"""Ties tests to rows of the list, and says what is open. `rows_of` marks tests; the functions below it look."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple, TypeVar

from tests.seed.names import SEED, Row

Test = TypeVar("Test", bound=Callable[..., Any])

IDENTIFIER: Final = re.compile(r"\w+")
FOLDER: Final = Path(__file__).parent
#: A test under one of these does not run, or may fail: it closes nothing.
MARKS_THAT_OPEN: Final = frozenset({"skip", "skipif", "xfail"})


class Key(NamedTuple):
    """A row by its module and name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}: {self.name}"


def rows_of(module: str) -> "Callable[..., Callable[[Test], Test]]":
    """Return the decorator that says which rows of `module` a test stands for."""

    def row(*names: str) -> Callable[[Test], Test]:
        def mark(test: Test) -> Test:
            marked = test.__dict__.setdefault("seed_rows", [])
            marked += [Key(module, name) for name in names]
            return test

        return mark

    return row


def rows() -> dict[Key, Row]:
    """Return the list, by keys."""
    return {Key(module, row.name): row for module, group in SEED.items() for row in group}


# -- what the tests stand for


def modules_with_tests() -> list[ModuleType]:
    """Import the tests of this folder."""
    return [import_module(f"{__package__}.{path.stem}") for path in sorted(FOLDER.glob("test_*.py"))]


def tests_in(modules: Iterable[ModuleType]) -> dict[str, Any]:
    """Return all test functions by their full names."""
    return {
        f"{module.__name__}.{name}": value
        for module in modules
        for name, value in vars(module).items()
        if name.startswith("test_") and inspect.isfunction(value)
    }


def keys_of(test: Any) -> list[Key]:
    """Return the rows that a test stands for; none if it is marked as one that does not run."""
    marks = {mark.name for mark in getattr(test, "pytestmark", ())}
    return [] if marks & MARKS_THAT_OPEN else list(getattr(test, "seed_rows", ()))


def open_rows(wanted: Iterable[Key], tests: Mapping[str, Any]) -> list[str]:
    """Return the rows that no test stands for."""
    closed = {key for test in tests.values() for key in keys_of(test)}
    return [str(key) for key in wanted if key not in closed]


def strange_rows(wanted: Iterable[Key], tests: Mapping[str, Any]) -> list[str]:
    """Return what tests stand for that is not in the list."""
    known = set(wanted)
    return [f"{name} says {key}" for name, test in tests.items() for key in keys_of(test) if key not in known]


def idle_rows(tests: Mapping[str, Any]) -> list[str]:
    """Return the rows whose own name the source of their tests does not even mention."""
    sources = {name: _words(test) for name, test in tests.items()}
    return [
        f"{name} never mentions {key}"
        for name, test in tests.items()
        for key in keys_of(test)
        if (word := _word(key.name)) and word not in sources[name]
    ]


def _word(name: str) -> str:
    """Return the identifier that a test of this row has to use; rows that are sentences have none."""
    last = name.rpartition(".")[2]
    return last if last.isidentifier() else ""


def _words(test: Any) -> set[str]:
    """Return the words in a test's body and examples, with those of the constants of its module that it names."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(test)))
    (function,) = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == test.__name__)
    examples = [one for one in function.decorator_list if "parametrize" in ast.unparse(one)]
    found: set[str] = set()
    for part in [*examples, function.args, *function.body]:
        texts = IDENTIFIER.findall(ast.unparse(part))
        data = [test.__globals__[text] for text in texts if isinstance(test.__globals__.get(text), str | list | tuple)]
        found.update(texts, IDENTIFIER.findall(repr(data)))
    return found


# -- what is callable as in 2009


def found(key: Key) -> Any:
    """Return what has this name. Raises AttributeError, ImportError."""
    value: Any = import_module(key.module)
    for part in key.name.split("."):
        value = getattr(value, part)
    return value


def differences(called: str, value: Any) -> list[str]:
    """Return in what `value` cannot be called by the classic parameters `called`, by position and by name."""
    classic = _parameters(called)
    ours = [one for one in inspect.signature(value).parameters.values() if one.name not in {"self", "cls"}]
    return [*_missing(classic, ours), *_in_the_way(classic, ours)]


def _parameters(called: str) -> list[inspect.Parameter]:
    scope: dict[str, Any] = {}
    exec(f"def classic({called}): ...", scope)  # noqa: S102 - our own list; nothing else reads a signature
    return list(inspect.signature(scope["classic"]).parameters.values())


def _missing(classic: list[inspect.Parameter], ours: list[inspect.Parameter]) -> list[str]:
    """Compare each classic parameter: its name, its position, and that it may still be left out."""
    differing: list[str] = []
    kinds = {one.kind for one in ours}
    by_position = [one for one in ours if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    for position, wanted in enumerate(classic):
        if wanted.kind in {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
            in_words = wanted.kind is inspect.Parameter.VAR_KEYWORD and inspect.Parameter.KEYWORD_ONLY in kinds
            differing += [] if wanted.kind in kinds or in_words else [f"takes no {wanted}"]
        elif position >= len(by_position) or by_position[position].name != wanted.name:
            differing.append(f"parameter {position + 1} is not {wanted.name}")
        elif wanted.default is not wanted.empty and by_position[position].default is wanted.empty:
            differing.append(f"{wanted.name} cannot be left out")
        elif wanted.default not in {wanted.empty, None} and by_position[position].default != wanted.default:
            differing.append(f"{wanted.name} is not {wanted.default!r} by default")
    return differing


def _in_the_way(classic: list[inspect.Parameter], ours: list[inspect.Parameter]) -> list[str]:
    """Return parameters that 2009 did not know and that have no default."""
    known = {one.name for one in classic}
    variable = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return [
        f"asks for {one.name}"
        for one in ours
        if one.kind not in variable and one.default is one.empty and one.name not in known
    ]

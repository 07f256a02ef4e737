"""The API reference: the nineteen pages of the interface of 2009, each with every name that it has to have.

Pages are read as text here, so that this needs no Sphinx. That they build without a warning is seen by `make docs`.
"""

import doctest
import importlib
import inspect
import re
import runpy
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from django.db.models import Model

from celery import conf, models
from celery.backends.base import BaseBackend
from tests.seed.names import SEED

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
API: Final = DOCS / "api"
PAGES: Final = sorted(API.glob("*.rst"))

#: The contents of 2009, word for word.
TITLES: Final = (
    "Tasks - celery.task",
    "Task Result - celery.result",
    "Task Registry - celery.registry",
    "Task Discovery - celery.discovery",
    "Multiprocessing Worker - celery.worker",
    "Backends - celery.backends",
    "Backend: Base - celery.backends.base",
    "Backend: Database - celery.backends.database",
    "Backend: Cache - celery.backends.cache",
    "Backend: Tokyo Tyrant - celery.backends.tyrant",
    "Configuration - celery.conf",
    "Datastructures - celery.datastructures",
    "Logging - celery.log",
    "Django Model Managers - celery.managers",
    "Django Models - celery.models",
    "Messaging - celery.messaging",
    "Platform Specific - celery.platform",
    "Timers - celery.timer",
    "Celery Worker Daemon - celery.bin.celeryd",
)
CLASSIC: Final = tuple(title.rpartition(" - ")[2] for title in TITLES)

#: Modules whose ``__all__`` is what projects use; elsewhere it only keeps other names from being taken for unused.
EXPORTING: Final = (
    "celery.task",
    "celery.registry",
    "celery.worker",
    "celery.backends.base",
    "celery.timer",
    "celery.exceptions",
    "celery.testing",
)

DIRECTIVE: Final = re.compile(r"^( *)\.\. ((?:auto|py:)\w+|celery-constants)::(?: ([\w.]+))?")
OPTION: Final = re.compile(r"^ +:([\w-]+):(?: (.+))?$")
TOCTREE: Final = re.compile(r"^\.\. toctree::\n(?:   :.*\n)*\n((?:   \S+\n)+)", re.MULTILINE)


class Described(NamedTuple):
    """A directive of a page: what it describes, by its full name, and with what."""

    kind: str
    name: str
    options: dict[str, str]
    content: str


# -- reading pages


def _page(module: str) -> Path:
    return API / f"{module}.rst"


def _read(page: Path) -> Iterator[Described]:
    """Yield what a page describes; names are relative to the last module, or to the class that they stand under."""
    module = owner = ""
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines):
        if not (found := DIRECTIVE.match(line)):
            continue
        indent, kind, name = found.group(1), found.group(2), found.group(3) or ""
        options, content = _block(lines[number + 1 :], len(indent))
        if kind == "automodule":
            module = name
        full = name if name.startswith("celery.") or kind == "automodule" else f"{owner if indent else module}.{name}"
        owner = owner if indent else full
        yield Described(kind, full, options, content)


def _block(lines: list[str], indent: int) -> tuple[dict[str, str], str]:
    """Return the options and the text of a directive; what stands below it is more indented."""
    options: dict[str, str] = {}
    content: list[str] = []
    for line in lines:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        if not content and (found := OPTION.match(line)):
            options[found.group(1)] = found.group(2) or ""
        elif line.strip() and not DIRECTIVE.match(line):
            content.append(line.strip())
    return options, " ".join(content)


def _found(name: str) -> Any:
    """Return the object of this full name. Raises ImportError, AttributeError."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            value = getattr(value, part)
        return value
    raise ImportError(name)


def _described(page: Path) -> dict[str, str]:
    """Return the full names that a page describes, and what it says of each; members of classes by their own names."""
    texts: dict[str, str] = {}
    for one in _read(page):
        if one.kind == "celery-constants":
            texts |= _constants()
        elif one.kind.startswith("py:"):
            texts[one.name] = one.content
        elif one.kind in {"autodata", "autoattribute"}:
            owner, _, name = one.name.rpartition(".")
            texts[one.name] = _comment(_found(owner), name)
        elif one.kind != "automodule":
            value = _found(one.name)
            texts[one.name] = inspect.getdoc(value) or ""
            if inspect.isclass(value):
                texts |= {f"{_name(value)}.{name}": text for name, text in _members(value, one.options)}
    return texts


def _constants() -> dict[str, str]:
    """Return what the directive of `celery.conf` writes: each constant with its setting, whose page has the rest."""
    names = {name: setting for setting in conf.SETTINGS for name in (setting.constant, setting.name)}
    texts = {f"celery.conf.{name}": setting.sentence for name, setting in names.items()}
    return texts | {f"celery.conf.DEFAULT_{name}": setting.sentence for name, setting in names.items()}


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _members(cls: type, options: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield what autodoc shows of a class: what is documented, or those members that the page names."""
    if "members" not in options:
        return
    listed = re.findall(r"\w+", options["members"])
    special = re.findall(r"\w+", options.get("special-members", ""))
    for name in [*(listed or _own(cls)), *special]:
        value = inspect.getattr_static(cls, name, None)
        is_code = callable(value) or isinstance(value, property | classmethod | staticmethod) or hasattr(value, "func")
        text = inspect.getdoc(getattr(cls, name)) if is_code else _comment(cls, name)
        if text:
            yield name, text


def _own(cls: type) -> set[str]:
    in_init = re.findall(r"^        self\.([a-z]\w*)", inspect.getsource(cls), re.MULTILINE)
    return {name for name in [*vars(cls), *in_init] if not name.startswith("_")}


def _comment(owner: Any, name: str) -> str:
    """Return what stands before an assignment after ``#:``."""
    found = re.search(rf"^ *#: (.*)\n(?: *#.*\n)* *(?:self\.)?{name}\b.*=", inspect.getsource(owner), re.MULTILINE)
    return found.group(1) if found else ""


def _own_names(module: str) -> list[str]:
    """Return the public names in the list of 2009 that are identifiers; `__str__` and its like are syntax."""
    return [row.name for row in SEED[module] if re.fullmatch(r"[A-Za-z]\w*(\.[A-Za-z]\w*)?", row.name)]


def _texts_of(module: str, name: str, texts: dict[str, str]) -> list[str]:
    """Return what is said of a name of a module, there or where its class has it from."""
    owner, _, member = name.rpartition(".")
    if not owner:
        return [texts[f"{module}.{name}"]] if f"{module}.{name}" in texts else []
    wanted = [f"{module}.{owner}", *map(_name, _found(f"{module}.{owner}").__mro__)]
    return [texts[f"{one}.{member}"] for one in wanted if f"{one}.{member}" in texts]


# -- the pages


def test_the_first_list_of_pages_is_that_of_2009() -> None:
    first, *_ = TOCTREE.findall((API / "index.rst").read_text())

    assert tuple(first.split()) == CLASSIC


@pytest.mark.parametrize(("title", "module"), list(zip(TITLES, CLASSIC, strict=True)), ids=CLASSIC)
def test_a_page_of_2009_has_its_title(title: str, module: str) -> None:
    over, found, under, *_ = _page(module).read_text().splitlines()

    assert found == title
    assert over == under == "=" * len(title)


def test_every_page_is_listed_once() -> None:
    listed = Counter(name for entries in TOCTREE.findall((API / "index.rst").read_text()) for name in entries.split())

    assert listed == Counter(page.stem for page in PAGES if page.stem != "index")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_describes_exists(page: Path) -> None:
    for one in _read(page):
        if one.kind.startswith("auto"):
            _found(one.name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_nothing_stands_on_a_page_without_a_word(page: Path) -> None:
    assert [name for name, text in _described(page).items() if not text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_nothing_is_described_twice_on_a_page(page: Path) -> None:
    counted = Counter(one.name for one in _read(page) if one.kind != "celery-constants")

    assert [name for name, number in counted.items() if number > 1] == []


# -- the names


@pytest.mark.parametrize("module", CLASSIC)
def test_a_page_of_2009_describes_every_name_of_2009(module: str) -> None:
    texts = _described(_page(module))

    assert [name for name in _own_names(module) if not any(_texts_of(module, name, texts))] == []


@pytest.mark.parametrize("module", EXPORTING)
def test_a_page_describes_all_that_its_module_exports(module: str) -> None:
    exported = {name: _found(f"{module}.{name}") for name in _found(module).__all__}
    ours = {f"{module}.{name}" for name, value in exported.items() if not _is_foreign(value)}

    assert ours - set(_described(_page(module))) == set()


def test_the_page_of_the_base_of_backends_leaves_nothing_out() -> None:
    """It has them in another order than the code, so it names each."""
    described = _described(_page("celery.backends.base"))

    assert {f"{_name(BaseBackend)}.{name}" for name in _own(BaseBackend)} - set(described) == set()


def _is_foreign(value: Any) -> bool:
    """Tell whether another project defines it, such as Django's ImproperlyConfigured."""
    return not getattr(value, "__module__", "celery").startswith("celery")


@pytest.mark.parametrize("module", CLASSIC)
def test_whatever_can_be_called_says_of_which_types(module: str) -> None:
    untyped = [f"{name}: {one}" for name in _described(_page(module)) for one in _untyped(name)]

    assert untyped == []


def _untyped(name: str) -> Iterator[str]:
    """Yield the parameters without a type; "return" where there is none for the value."""
    try:
        value = _found(name)
    except AttributeError:  # set on instances
        return
    code: Any = vars(value).get("__init__") if inspect.isclass(value) else getattr(value, "fget", value)
    if not hasattr(code, "__code__"):  # a value, or an exception without an __init__ of its own
        return
    signature = inspect.signature(code)
    parameters = [one for one in signature.parameters.values() if one.name not in {"self", "cls"}]
    yield from (one.name for one in parameters if one.annotation is one.empty)
    if signature.return_annotation is signature.empty:
        yield "return"


def test_every_model_is_described() -> None:
    ours = {
        _name(value)
        for value in vars(models).values()
        if inspect.isclass(value) and issubclass(value, Model) and value.__module__ == models.__name__
        if not value._meta.abstract
    }

    assert ours == {one.name for one in _read(_page("celery.models")) if one.kind == "autoclass"}


def test_every_column_is_described_once() -> None:
    described = Counter(one.name for one in _read(_page("celery.models")) if one.kind == "py:attribute")
    columns = {
        f"{one.name}.{field.name}": 1
        for one in _read(_page("celery.models"))
        if one.kind == "autoclass"
        for field in _found(one.name)._meta.local_concrete_fields
        if not field.auto_created
    }

    assert described == columns


# -- the examples, and how it is built


@pytest.mark.parametrize("page", [page for page in PAGES if ">>> " in page.read_text()], ids=lambda page: page.stem)
def test_the_examples_of_a_page_are_true(page: Path) -> None:
    assert doctest.testfile(str(page), module_relative=False).failed == 0


@pytest.fixture
def configuration(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What docs/conf.py says."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    return runpy.run_path(str(DOCS / "conf.py"))


def test_the_documentation_is_built_without_a_network(configuration: dict[str, Any]) -> None:
    fetching = {"sphinx.ext.intersphinx", "sphinx.ext.githubpages", "sphinx.ext.imgmath"}
    said = {name: value for name, value in configuration.items() if not name.startswith("__")}

    assert not fetching & set(configuration["extensions"])
    assert "intersphinx_mapping" not in said
    assert "//" not in str([value for value in said.values() if isinstance(value, str | list | dict)])


def test_a_name_that_leads_nowhere_is_a_warning(configuration: dict[str, Any]) -> None:
    assert configuration["nitpicky"] is True
    assert not any(re.fullmatch(pattern, "celery.task.nothing") for _, pattern in configuration["nitpick_ignore_regex"])


# -- names in docstrings become links


@pytest.fixture
def linked(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return a docstring as Sphinx is given it."""
    pytest.importorskip("sphinx", reason="Sphinx comes with the extra 'docs': make docs")
    monkeypatch.syspath_prepend(DOCS)
    hook = importlib.import_module("api_reference").link_words

    class App:
        class env:  # noqa: N801 - Sphinx's name
            note_dependency = staticmethod(print)

    def link(text: str) -> str:
        lines = text.splitlines()
        hook(App, "function", "name", None, None, lines)
        return "\n".join(lines)

    return link


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Raises InvalidTask.", "Raises :exc:`~celery.exceptions.InvalidTask`."),
        ("As CELERY_BACKEND says.", "As :confval:`CELERY_BACKEND` says."),
        ("Raises celery.timer.TimeoutError.", "Raises `celery.timer.TimeoutError`."),
        ("``CELERY_BACKEND`` and `InvalidTask` are marked.", "``CELERY_BACKEND`` and `InvalidTask` are marked."),
        ("Raises ValueError.", "Raises ValueError."),
        (">>> InvalidTask\nInvalidTask", ">>> InvalidTask\nInvalidTask"),
        ("======  ====\nTT_HOST  x\n======  ====", "======  ====\nTT_HOST  x\n======  ===="),
    ],
)
def test_names_in_prose_become_links(linked: Callable[[str], str], text: str, expected: str) -> None:
    assert linked(text) == expected

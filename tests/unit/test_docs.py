"""The documentation says what the code does: its examples run, its links lead somewhere, its names exist.

That it builds without a warning is seen by `make docs`.
"""

import ast
import doctest
import importlib
import os
import re
import subprocess
import sys
import textwrap
import unittest
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from types import ModuleType

import pytest

from celery import conf, exceptions, registry, result
from celery.task import base
from celery.testing import run_inline, worker

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
README = ROOT / "README.rst"
PAGES = sorted(path for path in DOCS.rglob("*.rst") if "_build" not in path.parts)
MODULES = sorted(path for path in (ROOT / "celery").rglob("*.py") if ">>> " in path.read_text())

#: A file below celery/, and perhaps a name in it, as the internals cite them.
CITATION = re.compile(r"``([\w/]+\.py)(?:: ([\w.]+))?``")
#: Targets of links: to files from anywhere, to pages by their role, directives that read a file.
FILE_LINK = re.compile(r"`[^`<]+<([^>:]+)>`_")
PAGE_LINK = re.compile(r":doc:`(?:[^`<]+<)?([^`>]+)>?`")
READING = re.compile(r"^\.\. (?:include|literalinclude):: (\S+)$", re.MULTILINE)
#: A block of Python that says what it imports is complete; on the other pages, where it also has a task.
BLOCK = re.compile(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", re.MULTILINE)
COMPLETE = [block for block in map(textwrap.dedent, BLOCK.findall(README.read_text())) if "import " in block]
#: The tutorial is followed by tests/integration/test_tutorial.py, the modules have tests of their own.
TOLD = [path for path in PAGES if path.name != "tutorial.rst" and path.parent.name != "api"]
SHOWN = [
    (path.name, block)
    for path in TOLD
    for block in map(textwrap.dedent, BLOCK.findall(path.read_text()))
    if "import task" in block
]
#: Pages on which what looks like a setting is one: not a variable of the environment, not one of Celery 5.
NAMING_SETTINGS = (
    *("errors", "faq", "from_02", "introduction", "operating", "rabbitmq", "sending", "states", "transactions"),
    *("backends", "brokers", "periodic", "retries", "tasksets", "testing", "tutorial"),
)
LOGGING = re.compile(r"logger\.(warning|error|exception|critical|log)$")
TOCTREE = re.compile(r"^\.\. toctree::\n(?:   :.*\n)*\n((?:   \S+\n)+)", re.MULTILINE)


@pytest.fixture
def _worker() -> Iterator[None]:
    """Every message is run at once."""
    with run_inline():
        yield


@pytest.fixture
def _patient_worker(transactional_db: None) -> Iterator[None]:
    """Messages are run beside the example, those for tomorrow are not."""
    with worker(background=True):
        yield


@pytest.fixture
def _examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The examples can be imported, and are new to whoever imports them."""
    monkeypatch.syspath_prepend(EXAMPLES)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(EXAMPLES) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def _failures(found: list[doctest.DocTest]) -> str:
    """Run doctests and return what went wrong."""
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    report: list[str] = []
    for one in found:
        runner.run(one, out=report.append)
    assert runner.tries, "there is no example"
    return "".join(report)


def _in_text(path: Path) -> list[doctest.DocTest]:
    return [doctest.DocTestParser().get_doctest(path.read_text(), {}, path.name, str(path), 0)]


def _in_module(module: ModuleType) -> list[doctest.DocTest]:
    return [found for found in doctest.DocTestFinder().find(module) if found.examples]


# Examples


@pytest.mark.usefixtures("_patient_worker", "_examples")
def test_the_examples_of_the_readme_are_true() -> None:
    assert not _failures(_in_text(README))


@pytest.mark.usefixtures("_patient_worker", "_examples")
@pytest.mark.parametrize("path", [path for path in TOLD if ">>> " in path.read_text()], ids=lambda path: path.name)
def test_the_examples_of_a_page_are_true(path: Path) -> None:
    assert not _failures(_in_text(path))


@pytest.mark.usefixtures("_examples")
@pytest.mark.parametrize("number", range(len(SHOWN)), ids=[name for name, _ in SHOWN])
def test_the_tasks_that_a_page_shows_can_be_defined(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"shown_{number}.py").write_text(SHOWN[number][1])
    monkeypatch.syspath_prepend(tmp_path)

    importlib.import_module(f"shown_{number}")


@pytest.mark.django_db
@pytest.mark.usefixtures("_worker", "_examples")
@pytest.mark.parametrize(
    "name", ["classes", "failures", "listening", "own_backend", "periodic", "retries", "task_sets"]
)
def test_an_example_of_the_docs_is_true(name: str) -> None:
    assert not _failures(_in_module(importlib.import_module(name)))


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_examples")
def test_the_example_of_transactions_is_true() -> None:
    """It looks into the queue, so it has a real one, in the test's database."""
    assert not _failures(_in_module(importlib.import_module("transactions")))


@pytest.mark.usefixtures("_patient_worker", "_examples")
def test_the_example_of_options_is_true() -> None:
    assert not _failures(_in_module(importlib.import_module("options")))


@pytest.mark.parametrize(
    ("command", "passed"),
    [
        (["pytest", "-p", "no:cacheprovider", "docs/examples/testing_tasks.py"], "8 passed"),
        (["django", "test", "testing_tasks"], "Ran 6 tests"),
    ],
    ids=["pytest", "django"],
)
def test_the_examples_of_testing_pass(command: list[str], passed: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in {"SHOP_DATABASE", "PYTEST_ADDOPTS"}}
    environment |= {"PYTHONPATH": f"{ROOT}:{EXAMPLES}", "DJANGO_SETTINGS_MODULE": "tests.shop.settings"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert passed in done.stdout + done.stderr


def test_every_example_is_tested() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}

    assert names == {
        "classes",
        "failures",
        "listening",
        "options",
        "own_backend",
        "periodic",
        "retries",
        "task_sets",
        "testing_tasks",
        "transactions",
    }


def test_every_example_is_shown() -> None:
    pages = [
        (DOCS / page).read_text()
        for page in ("examples.rst", "backends.rst", "periodic.rst", "retries.rst", "tasksets.rst", "testing.rst")
    ]
    shown = [name for page in pages for name in READING.findall(page)]

    assert {DOCS / name for name in shown} == {*EXAMPLES.glob("*.py"), EXAMPLES / "shop" / "tasks.py"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_examples_in_docstrings_are_true(path: Path) -> None:
    parts = path.relative_to(ROOT).with_suffix("").parts

    assert not _failures(_in_module(importlib.import_module(".".join(parts).removesuffix(".__init__"))))


@pytest.mark.parametrize("module", [base, result, registry])
def test_the_public_api_has_examples(module: ModuleType) -> None:
    assert _in_module(module)


# The README


def test_the_readme_shows_the_very_task_that_its_example_runs() -> None:
    shown = (EXAMPLES / "shop" / "tasks.py").read_text()
    indented = "".join(f"    {line}" if line.strip() else line for line in shown.splitlines(keepends=True))

    assert f".. code-block:: python\n\n{indented}" in README.read_text()


@pytest.mark.django_db
@pytest.mark.usefixtures("_examples")
@pytest.mark.parametrize("number", range(len(COMPLETE)))
def test_the_code_of_the_readme_runs(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block is a module that can be imported, and where it has tests, they pass."""
    name, code = f"readme_{number}", COMPLETE[number]
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)

    module = importlib.import_module(name)
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromModule(module).run(result)

    assert [text for _, text in [*result.failures, *result.errors]] == []
    assert result.testsRun == code.count("def test_")


@pytest.mark.parametrize("command", ["make demo", "make test", "manage.py celeryd", "manage.py migrate"])
def test_the_readme_shows_the_command(command: str) -> None:
    assert command in README.read_text()


def test_every_target_of_make_in_the_texts_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = [path.read_text() for path in [README, ROOT / "CONTRIBUTING.rst", *PAGES]]
    named = {name for text in texts for name in re.findall(r"(?:``|\$ )make ([a-z]+)", text)}

    assert named
    assert named <= targets


def test_the_readme_says_that_it_is_not_the_celery_of_pypi() -> None:
    first_screen = "\n".join(README.read_text().splitlines()[:25])

    assert "not the Celery of PyPI" in first_screen
    assert "pip uninstall celery" in first_screen


@pytest.mark.parametrize(
    "path", [README, *(DOCS / f"{name}.rst" for name in NAMING_SETTINGS)], ids=lambda path: path.name
)
def test_a_setting_that_a_page_names_exists(path: Path) -> None:
    named = set(re.findall(r"`(CELERYD?_[A-Z_]+)`", path.read_text()))

    assert named <= {*conf.BY_NAME}


# The page of settings


@pytest.fixture
def text(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What the extension puts into the page."""
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("settings_text")


def test_the_page_of_settings_describes_each_of_them(text: ModuleType) -> None:
    described = [line.removeprefix(".. confval:: ") for line in text.page() if line.startswith(".. confval")]

    assert described == [setting.name for topic in conf.TOPICS.values() for setting in topic]


def test_the_page_of_settings_has_each_sentence_and_default(text: ModuleType) -> None:
    page = "\n".join(text.page())

    for setting in conf.SETTINGS:
        assert text.plain(setting.sentence) in page
        assert f":default: {text.default(setting)}" in page


def test_the_page_of_settings_is_made_by_the_extension() -> None:
    assert ".. celery-settings::" in (DOCS / "settings.rst").read_text()


# The pages of errors and of operating


@pytest.mark.parametrize("name", exceptions.__all__)
def test_an_error_is_on_the_page_of_errors(name: str) -> None:
    assert f"``{name}``" in (DOCS / "errors.rst").read_text()


def _log_lines(path: Path) -> Iterator[str]:
    """Yield the sentences that a module logs as a warning or worse, with ``...`` for what varies."""
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef):
            nodes = list(ast.walk(function))
            texts = {ast.unparse(node.targets[0]): node.value for node in nodes if isinstance(node, ast.Assign)}
            for node in nodes:
                if isinstance(node, ast.Call) and (found := LOGGING.search(ast.unparse(node.func))):
                    said = node.args[1 if found[1] == "log" else 0]
                    text = texts.get(ast.unparse(said), said)
                    is_fixed = isinstance(text, ast.Constant)
                    yield re.sub(r"%[.\d]*[a-z]", "...", ast.literal_eval(text) if is_fixed else ast.unparse(text))


LOG_LINES = sorted(
    {
        (path.relative_to(ROOT).as_posix(), line)
        for path in (ROOT / "celery").rglob("*.py")
        if "testing" not in path.parts and path.name != "inline.py"
        for line in _log_lines(path)
    }
)


def test_there_are_log_lines() -> None:
    assert len(LOG_LINES) > 30


@pytest.mark.parametrize(("file", "line"), LOG_LINES)
def test_a_warning_in_the_log_is_explained(file: str, line: str) -> None:
    explained = re.findall(r"^``(.+)``$", (DOCS / "operating.rst").read_text(), re.MULTILINE)

    assert line in {one for text in explained for one in text.split("``, ``")}, file


# Links and names


@pytest.mark.parametrize("path", [README, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file(path: Path) -> None:
    text = path.read_text()
    pages = [f"{name}.rst" for name in PAGE_LINK.findall(text)]

    for target in [*FILE_LINK.findall(text), *READING.findall(text), *pages]:
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_page_is_reached_from_the_first() -> None:
    reached: set[Path] = set()
    to_read = [DOCS / "index.rst"]
    while to_read:
        page = to_read.pop()
        reached.add(page)
        for entries in TOCTREE.findall(page.read_text()):
            to_read += [found for entry in entries.split() for found in page.parent.glob(f"{entry}.rst")]

    assert reached == set(PAGES)


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = [int(path.name[:4]) for path in sorted((DOCS / "decisions").glob("[0-9]*.rst"))]

    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("path", sorted((DOCS / "decisions").glob("[0-9]*.rst")), ids=lambda path: path.stem)
def test_a_decision_has_the_four_parts(path: Path) -> None:
    text = path.read_text()

    assert text.startswith(f"{path.name[:4]}: ")
    assert re.findall(r"^\*\*(.+?)\.\*\*", text, re.MULTILINE) == [
        "Context",
        "Choice",
        "Cost",
        "What would change our mind",
    ]


@pytest.mark.parametrize(("file", "name"), sorted(set(CITATION.findall((DOCS / "internals.rst").read_text()))))
def test_what_the_internals_cite_is_in_the_code(file: str, name: str) -> None:
    assert (ROOT / "celery" / file).is_file()

    module = importlib.import_module(f"celery.{file.removesuffix('.py').replace('/', '.')}".removesuffix(".__init__"))
    reduce(getattr, name.split(".") if name else [], module)


def test_the_internals_cite_every_module_of_the_worker() -> None:
    cited = {file for file, _ in CITATION.findall((DOCS / "internals.rst").read_text())}
    modules = {f"worker/{path.name}" for path in (ROOT / "celery" / "worker").glob("*.py")}

    assert modules - cited == {"worker/__init__.py"}

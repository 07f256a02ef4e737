"""The sdist and the wheel hold what users need and nothing else. Built without a network, from a copy."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

import celery

ROOT = Path(__file__).resolve().parents[2]
NOT_SOURCE = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "_build")


@dataclass(frozen=True, slots=True, kw_only=True)
class Distributions:
    """What was built: the names of the files in each, and the wheel's metadata."""

    sdist: frozenset[str]
    wheel: frozenset[str]
    metadata: Message
    entry_points: str


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Build both, the wheel from the sdist as an installer would."""
    source = tmp_path_factory.mktemp("packaging") / "source"
    shutil.copytree(ROOT, source, ignore=NOT_SOURCE)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist"]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return _read(source / "dist")


def test_the_wheel_holds_every_module_of_the_package(built: Distributions) -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "celery").rglob("*.py")}

    assert modules <= built.wheel


def test_the_wheel_holds_the_templates_and_files_of_the_admin(built: Distributions) -> None:
    folders = [ROOT / "celery" / name for name in ("templates", "static")]
    files = {str(path.relative_to(ROOT)) for folder in folders for path in folder.rglob("*.*")}

    assert {"celery/templates/admin/celery/overview/change_list.html", "celery/static/celery/overview.css"} <= files
    assert files <= built.wheel


def test_the_wheel_holds_the_mark_of_a_typed_package(built: Distributions) -> None:
    assert "celery/py.typed" in built.wheel


def test_the_wheel_holds_the_package_and_nothing_else(built: Distributions) -> None:
    assert {name.split("/")[0] for name in built.wheel} == {"celery", f"celery-{celery.__version__}.dist-info"}


@pytest.mark.parametrize("name", ["LICENSE", "AUTHORS"])
def test_the_wheel_says_under_which_terms_and_by_whom(built: Distributions, name: str) -> None:
    assert f"celery-{celery.__version__}.dist-info/licenses/{name}" in built.wheel


def test_the_wheel_is_described(built: Distributions) -> None:
    assert built.metadata["Name"] == "celery"
    assert built.metadata["Version"] == celery.__version__
    assert built.metadata["Requires-Python"] == ">=3.11"
    assert built.metadata.get_payload(decode=True) == (ROOT / "README.rst").read_bytes()


def test_the_wheel_names_the_versions_that_the_matrix_tests(built: Distributions) -> None:
    pairs = re.findall(r'\("(3\.\d+)", "(\d\.\d)"\)', (ROOT / "noxfile.py").read_text(encoding="utf-8"))
    assert len(pairs) >= 7

    classifiers = built.metadata.get_all("Classifier", [])

    assert _versions(classifiers, "Programming Language :: Python :: 3.") == {python for python, _ in pairs}
    assert _versions(classifiers, "Framework :: Django :: ") == {django for _, django in pairs}


def test_the_wheel_brings_the_command(built: Distributions) -> None:
    assert "celeryd = celery.bin.entry:main" in built.entry_points


@pytest.mark.parametrize(
    "name",
    [
        *("celery/py.typed", "tests/conftest.py", "tests/servers/base.py", "LICENSE", "CHANGELOG.rst", "Makefile"),
        *("docs/examples/deploy/celeryd.service", "docs/examples/deploy/Dockerfile"),
    ],
)
def test_the_sdist_holds_what_it_takes_to_test_the_package(built: Distributions, name: str) -> None:
    assert name in built.sdist


def _versions(classifiers: list[str], prefix: str) -> set[str]:
    return {classifier.rpartition(" ")[2] for classifier in classifiers if classifier.startswith(prefix)}


def _read(folder: Path) -> Distributions:
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    with tarfile.open(sdist) as archive:
        source_names = frozenset(name.partition("/")[2] for name in archive.getnames())
    with zipfile.ZipFile(wheel) as archive:
        info = f"celery-{celery.__version__}.dist-info"
        return Distributions(
            sdist=source_names,
            wheel=frozenset(archive.namelist()),
            metadata=message_from_bytes(archive.read(f"{info}/METADATA")),
            entry_points=archive.read(f"{info}/entry_points.txt").decode(),
        )

"""Virtual environments of other people's products: made at their first use, kept in `.peers`.

The tests of interop need PyPI's Celery; the benchmarks need that and more.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".peers"
REQUIREMENTS = ("celery==5.7.*", "django-celery-results==2.6.*", "Django==5.2.*", "psycopg[binary]>=3.2")


def python_of_celery() -> Path:
    """Return the interpreter that imports PyPI's Celery 5.7; makes its environment if there is none of that recipe."""
    return python_of("celery57", REQUIREMENTS)


def python_of(name: str, requirements: Sequence[str]) -> Path:
    """Return the interpreter of the environment `name` that holds `requirements`; RuntimeError if it cannot be made.

    It is kept while the recipe, which is the requirements and our own version of Python, stays the same. Of several
    processes that want it at once, one makes it.
    """
    PEERS.mkdir(exist_ok=True)
    (PEERS / ".gitignore").write_text("*\n")
    folder = PEERS / name
    with _alone(PEERS / f"{name}.lock"):
        if not is_ready(name, requirements):
            _make(folder, requirements)
            (folder / "ready").write_text(_recipe(requirements))
    return folder / "bin" / "python"


def is_ready(name: str, requirements: Sequence[str]) -> bool:
    """Say whether there is an environment `name` of this very recipe."""
    return _text(PEERS / name / "ready") == _recipe(requirements)


def clean_environment(**variables: str) -> dict[str, str]:
    """Return our environment without what chooses modules or settings, plus `variables`."""
    unwanted = ("PYTHON", "DJANGO_", "CELERY", "AMQP_", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)} | variables


def _make(folder: Path, requirements: Sequence[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    pip = (str(folder / "bin" / "python"), "-m", "pip", "-qq", "--no-input", "--disable-pip-version-check")
    for command in ((sys.executable, "-m", "venv", str(folder)), (*pip, "install", *requirements)):
        # not from the root of the repository, where `celery` is our own
        done = subprocess.run(command, env=clean_environment(), cwd=PEERS, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"cannot make the environment {folder.name!r}: {done.stdout}{done.stderr}")


def _recipe(requirements: Sequence[str]) -> str:
    return "\n".join((sys.version, *requirements))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""

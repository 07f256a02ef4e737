"""The virtual environment of PyPI's Celery: made at its first use, kept in `.peers`, shared with the benchmarks."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".peers"
REQUIREMENTS = ("celery==5.7.*", "django-celery-results==2.6.*", "Django==5.2.*", "psycopg[binary]>=3.2")


def python_of_celery() -> Path:
    """Return the interpreter that imports PyPI's Celery 5.7; makes its environment if there is none of that recipe."""
    PEERS.mkdir(exist_ok=True)
    (PEERS / ".gitignore").write_text("*\n")
    folder = PEERS / "celery57"
    recipe = "\n".join((sys.version, *REQUIREMENTS))
    with _alone(PEERS / "celery57.lock"):
        if _text(folder / "ready") != recipe:
            _make(folder)
            (folder / "ready").write_text(recipe)
    return folder / "bin" / "python"


def clean_environment(**variables: str) -> dict[str, str]:
    """Return our environment without what chooses modules or settings, plus `variables`."""
    unwanted = ("PYTHON", "DJANGO_", "CELERY", "AMQP_", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)} | variables


def _make(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    pip = ("-m", "pip", "-qq", "--no-input", "--disable-pip-version-check")
    for command in (
        (sys.executable, "-m", "venv", folder),
        (folder / "bin" / "python", *pip, "install", *REQUIREMENTS),
    ):
        # not from the root of the repository, where `celery` is our own
        done = subprocess.run(command, env=clean_environment(), cwd=PEERS, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"cannot make the environment of PyPI's Celery: {done.stdout}{done.stderr}")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""

"""The tests on every supported pair of Python and Django: ``nox``, or ``nox -s "tests(python='3.13', django='6.1')"``.

A pair is offered where its interpreter really runs: finding its name is not enough (version managers put names into
PATH that lead nowhere). The servers are started once around everything, unless their addresses are set already:

    python -m tests.servers run -- nox
"""

import os
import shutil
import subprocess

import nox

#: Django 5.2 is the long-term release; 6.0 and 6.1 need Python 3.12.
PAIRS = (
    ("3.11", "5.2"),
    ("3.12", "5.2"),
    ("3.12", "6.0"),
    ("3.12", "6.1"),
    ("3.13", "5.2"),
    ("3.13", "6.0"),
    ("3.13", "6.1"),
)
FOLDERS = ("tests/unit", "tests/contract", "tests/seed", "tests/integration")
JOBS = os.environ.get("JOBS", "4")

nox.options.error_on_missing_interpreters = True
nox.options.reuse_existing_virtualenvs = True


def runs(version: str) -> bool:
    """Tell whether this interpreter runs and can make an environment."""
    program = shutil.which(f"python{version}")
    if program is None:
        return False
    asked = "import ensurepip, ssl, sqlite3, sys, venv; print('{}.{}'.format(*sys.version_info))"
    done = subprocess.run([program, "-c", asked], capture_output=True, text=True, check=False)
    return done.stdout.strip() == version


FOUND = [(python, django) for python, django in PAIRS if runs(python)]


@nox.session(venv_backend="venv")
@nox.parametrize("python,django", FOUND)
def tests(session: nox.Session, django: str) -> None:
    """Unit, contract and integration tests."""
    session.install("--quiet", "setuptools>=77")
    session.install("--quiet", "--no-build-isolation", "--editable", ".[test]", f"Django~={django}.0")
    session.run("python", "-c", "import django, sys; print(sys.version, 'Django', django.__version__)")
    command = ["python", "-m", "pytest", "-n", JOBS, *(session.posargs or FOLDERS)]
    if "CELERY_TEST_POSTGRES_URL" in os.environ:
        session.run(*command)
    else:
        session.run("python", "-m", "tests.servers", "run", "--", *command)

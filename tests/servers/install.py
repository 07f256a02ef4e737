"""Getting servers and the browser from Debian: by apt-get if we are root, else by a sentence that names packages."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

POLICY = Path("/usr/sbin/policy-rc.d")
SAVED_POLICY = POLICY.with_name("policy-rc.d.before-celery-tests")
FORBID_START = "#!/bin/sh\n# Written by celery's tests while they install packages: no service may start.\nexit 101\n"
APT_GET = ("apt-get", "-qq", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300")


class NotInstalledError(Exception):
    """Programs are missing; the text names the packages."""


class Program(Protocol):
    """What can be installed: a kind of server, or the browser."""

    packages: ClassVar[tuple[str, ...]]

    @classmethod
    def is_installed(cls) -> bool:
        """Say whether it is on this machine."""


def ensure_installed(kinds: Sequence[type[Program]]) -> None:
    """Install what is missing, or raise NotInstalledError; quick when all is there."""
    if _missing_packages(kinds):
        with _alone():
            _install_missing(kinds)


def _install_missing(kinds: Sequence[type[Program]]) -> None:
    packages = _missing_packages(kinds)
    if not packages:
        return
    if os.geteuid() != 0:
        message = f"missing Debian packages: run 'apt-get install {' '.join(packages)}' as root"
        raise NotInstalledError(message)
    print(f"Installing {', '.join(packages)} ...", file=sys.stderr, flush=True)
    with _no_service_starts():
        _apt_get("update")
        _apt_get("install", *packages)
    still_missing = _missing_packages(kinds)
    if still_missing:
        message = f"apt-get installed {' '.join(still_missing)}, but the programs are not where Debian puts them"
        raise NotInstalledError(message)


@contextmanager
def _alone() -> Iterator[None]:
    """Wait for other test processes that install: they change the same policy."""
    with (Path(tempfile.gettempdir()) / f"celery-tests-install-{os.geteuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _missing_packages(kinds: Sequence[type[Program]]) -> list[str]:
    return [package for kind in kinds if not kind.is_installed() for package in kind.packages]


def _apt_get(*arguments: str) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        [*APT_GET, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        message = f"apt-get {' '.join(arguments)} failed with code {done.returncode}:\n{done.stdout}"
        raise NotInstalledError(message)


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Keep Debian from starting the services that it installs, and put back the policy that was there."""
    _restore_policy()
    if POLICY.exists() or POLICY.is_symlink():
        POLICY.rename(SAVED_POLICY)
    try:
        POLICY.write_text(FORBID_START, encoding="utf-8")
        POLICY.chmod(0o755)
        yield
    finally:
        _restore_policy()


def _restore_policy() -> None:
    """Take our policy away, also one that an installation killed half-way has left."""
    if POLICY.is_file() and POLICY.read_text(encoding="utf-8", errors="replace") == FORBID_START:
        POLICY.unlink()
    if (SAVED_POLICY.exists() or SAVED_POLICY.is_symlink()) and not POLICY.exists():
        SAVED_POLICY.rename(POLICY)

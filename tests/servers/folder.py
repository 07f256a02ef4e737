"""Where a server keeps its things: a temporary folder with a state file, and the removal of what a killed run left.

The folder is ours and others may only pass through it; the data in it belong to the server's user. The state file names
the server's processes and the process that owns them, so that another run can tell a leftover from a server in use.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

from tests.servers.processes import Identity, end

PREFIX = "celery-servers-"
STATE = "state.json"
STOP_SECONDS = 30.0


def create() -> Path:
    """Make a new folder that every user can pass through but only we can change."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_base()))
    folder.chmod(0o711)
    return folder


def write_state(folder: Path, *, owner: Identity | None, processes: list[tuple[Identity, signal.Signals]]) -> None:
    """Note who owns this folder, and which processes live on it with the signal that ends each.

    Without an owner they stay until they are stopped by name.
    """
    state = {
        "owner": None if owner is None else [owner.pid, owner.began],
        "processes": [[process.pid, process.began, number] for process, number in processes],
    }
    draft = folder / f"{STATE}.new"
    draft.write_text(json.dumps(state), encoding="utf-8")
    draft.replace(folder / STATE)


def remove(folder: Path) -> None:
    """End the processes that the state file names, the newest first, and delete the folder."""
    _owner, processes = _read_state(folder)
    for process, number in reversed(processes):
        end(process, number, within=STOP_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


def sweep() -> list[Path]:
    """Remove the folders whose owner has died without cleaning up, and return them."""
    leftovers = [folder for folder in sorted(_base().glob(f"{PREFIX}*")) if _is_ours(folder) and _is_abandoned(folder)]
    for folder in leftovers:
        remove(folder)
    return leftovers


def _is_ours(folder: Path) -> bool:
    """Trust only folders of our own: the temporary folder is open to all, and the state file names whom to kill."""
    return not folder.is_symlink() and folder.is_dir() and folder.lstat().st_uid == os.geteuid()


def _is_abandoned(folder: Path) -> bool:
    if not (folder / STATE).exists():
        return False
    owner, processes = _read_state(folder)
    if owner is None:
        return not any(process.is_alive() for process, _number in processes)
    return not owner.is_alive()


def _read_state(folder: Path) -> tuple[Identity | None, list[tuple[Identity, signal.Signals]]]:
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, []
    owner = state["owner"]
    processes = [(Identity(pid, began), signal.Signals(number)) for pid, began, number in state["processes"]]
    return None if owner is None else Identity(*owner), processes


def _base() -> Path:
    """Return the temporary folder, or the first usual one that the servers' users can enter."""
    candidates = (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - mkdtemp makes the folder
    return next((path for path in candidates if _can_be_entered(path.resolve())), candidates[0])


def _can_be_entered(path: Path) -> bool:
    if os.geteuid() != 0:
        return os.access(path, os.W_OK | os.X_OK)
    return path.is_dir() and all(step.stat().st_mode & 0o001 for step in (path, *path.parents))

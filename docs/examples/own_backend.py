"""A result backend of one's own: a file a result, in the folder that ``RESULTS_FOLDER`` names.

The settings of a project that has this module::

    CELERY_BACKEND = "own_backend.Backend"
    RESULTS_FOLDER = "/var/lib/shop/results"

>>> from tempfile import TemporaryDirectory
>>> from django.test import override_settings
>>> from shop.tasks import add
>>> folder = TemporaryDirectory()
>>> with override_settings(CELERY_BACKEND="own_backend.Backend", RESULTS_FOLDER=folder.name):
...     result = add.delay(2, 3)
...     result.get(timeout=5)
5
>>> folder.cleanup()
"""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from django.conf import settings
from django.core.checks import CheckMessage, Error

from celery.backends.base import BaseBackend, Result, may_replace, survivors
from celery.backends.records import from_text, to_text


class Backend(BaseBackend):
    """Results in files: for one machine, and for no more results than a folder should have files."""

    is_atomic = False

    def store(self, results: Sequence[Result]) -> set[str]:
        """Compare and write under one lock, so that of two writers of one attempt only the first wins."""
        with self._locked():
            wanted = survivors(results)
            found = self.fetch(list(wanted))
            winners = {
                task_id: result
                for task_id, result in wanted.items()
                if task_id not in found or may_replace(found[task_id], result)
            }
            for task_id, result in winners.items():
                self._write(self._path(task_id), to_text(result))
        return set(winners)

    def fetch(self, task_ids: Sequence[str]) -> dict[str, Result]:
        """Read files. One that is missing, or holds no whole result of this id, is none."""
        found = ((task_id, self._read(task_id)) for task_id in task_ids)
        return {task_id: result for task_id, result in found if result}

    def cleanup(self) -> int:
        """Delete the files that are older than CELERY_TASK_RESULT_EXPIRES."""
        oldest = time.time() - self.lifetime
        expired = [path for path in self._folder().glob("*.json") if path.stat().st_mtime < oldest]
        for path in expired:
            path.unlink(missing_ok=True)
        return len(expired)

    def check(self) -> list[CheckMessage]:
        """Refuse to work without a folder."""
        if self._folder().is_dir():
            return []
        return [Error("RESULTS_FOLDER names no folder.", hint="Make one, and name it.", id="own_backend.E001")]

    def _folder(self) -> Path:
        return Path(getattr(settings, "RESULTS_FOLDER", "results"))

    def _path(self, task_id: str) -> Path:
        return self._folder() / f"{sha256(task_id.encode()).hexdigest()}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder() / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _read(self, task_id: str) -> Result | None:
        try:
            return from_text(self._path(task_id).read_text(), task_id)
        except FileNotFoundError:
            return None

    def _write(self, path: Path, text: str) -> None:
        """Return when the file is on the disk: the message of the task is deleted next."""
        new = path.with_suffix(".new")
        with new.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)

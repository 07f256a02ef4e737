"""E-mails about failures: the processes of a worker share one ceiling."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.places import Place
from tests.integration.worker import WorkerProcess
from tests.mails import ADMINS, sent_by
from tests.shop import tasks

SOON = 15.0
ADDRESS = "To: ada@example.com"


def sent_to(folder: Path) -> int:
    return sum(path.read_text().count(ADDRESS) for path in folder.iterdir())


def test_a_task_that_fails_in_many_processes_causes_few(sqlite_place: Place) -> None:
    """Each process runs one task, so a ceiling of its own would never be reached."""
    # given
    folder = sqlite_place.folder / "mails"
    folder.mkdir()
    settings: dict[str, Any] = {
        **sent_by("django.core.mail.backends.filebased.EmailBackend", file_path=str(folder)),
        "ADMINS": ADMINS,
        "SEND_CELERY_TASK_ERROR_EMAILS": True,
        "CELERY_TASK_ERROR_EMAILS_PER_HOUR": 3,
        "CELERYD_MAX_TASKS_PER_CHILD": 1,
    }

    # when
    with WorkerProcess(sqlite_place, children=1, settings=settings) as worker:
        for _ in range(8):
            with pytest.raises(ValueError, match="no money"):
                tasks.fail.delay("no money").get(timeout=SOON)
        assert worker.stop() == 0

        # then
        assert sent_to(folder) == 3
        assert worker.said("Task shop.fail failed more than 3 times within an hour; its e-mails pause.") == 1

"""A mail server that takes its time."""

import time
from collections.abc import Sequence
from typing import Any

from django.core.mail.backends import filebased

SECONDS = 1.0


class SlowBackend(filebased.EmailBackend):
    """Writes e-mails into files, each after a while."""

    def send_messages(self, email_messages: Sequence[Any]) -> int:
        time.sleep(SECONDS)
        return super().send_messages(email_messages)

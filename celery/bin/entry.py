"""The console script ``celeryd``: a ping is answered before anything is imported that takes time."""

import importlib
import sys
from collections.abc import Sequence

from celery.bin import ping


def main(argv: Sequence[str] | None = None) -> None:
    """Ping a worker, or start one."""
    given = sys.argv[1:] if argv is None else list(argv)
    if "--ping" in given:
        sys.exit(ping.main(given))
    importlib.import_module("celery.bin.celeryd").main(given)

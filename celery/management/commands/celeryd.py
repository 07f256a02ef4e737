"""``manage.py celeryd``: start a worker."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from celery.bin import celeryd


class Command(BaseCommand):
    """Start a worker for this project."""

    help = "Run tasks of this project until told to stop (TERM drains, QUIT stops at once, HUP starts anew)."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return the parser, whose help ends with the way to ask a worker that runs."""
        return super().create_parser(prog_name, subcommand, epilog=celeryd.EPILOG, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options of celeryd."""
        celeryd.add_arguments(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run, and exit with the worker's code."""
        sys.exit(celeryd.run(options))

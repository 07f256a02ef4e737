"""Our producer: ``python -m tests.interop.ours.send TOKEN ...``."""

import sys

import django
from django.utils.module_loading import import_string

from tests.interop.theirs.calls import produce

if __name__ == "__main__":
    django.setup()
    produce(import_string("tests.interop.ours.tasks.echo"), sys.argv[1:])

# mypy: ignore-errors
"""Their producer: ``send.py TOKEN ...``."""

import sys

from application import echo
from calls import produce

if __name__ == "__main__":
    produce(echo, sys.argv[1:])

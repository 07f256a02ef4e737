"""A producer: sends as many thousand tasks as each line of its input says, and answers when they are sent.

It finds its place in the environment, as the worker does. One alone does not keep a worker busy.
"""

import sys

import django
from django.db import DEFAULT_DB_ALIAS

from tests.soak import feed


def main() -> None:
    django.setup()
    for line in sys.stdin:
        feed.send(int(line), DEFAULT_DB_ALIAS)
        print("sent", flush=True)


if __name__ == "__main__":
    main()

"""Django's command line for the shop: `python -m tests.shop.manage celeryd -c 4`."""

import os
import sys

from django.core.management import execute_from_command_line


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.shop.settings")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()

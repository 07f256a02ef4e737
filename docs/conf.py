"""Sphinx's configuration: `make docs`, or `make check`, where a warning is an error. It needs no network."""

import sys
from pathlib import Path

import django
from django.conf import settings

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from celery import __version__  # noqa: E402 - found by the line above

# The pages of the API are made by importing the modules, of which some are models and views.
if not settings.configured:
    settings.configure(
        SECRET_KEY="for the documentation only",  # noqa: S106 - nothing is signed with it
        USE_TZ=True,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=[
            "django.contrib.admin.apps.SimpleAdminConfig",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            "celery",
        ],
    )
    django.setup()

project = "celery"
project_copyright = "the celery contributors"
version = release = __version__

extensions = ["sphinx.ext.autodoc", "settings_page", "api_reference"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"celery {release}"
html_static_path: list[str] = []
html_show_copyright = False
highlight_language = "none"
nitpicky = True

# What stands in single backticks in docstrings; see api_reference.py.
default_role = "name"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
toc_object_entries_show_parents = "hide"
# Links to the documentation of Python and Django would need the network: what is theirs is plain text. So are type
# variables, and types of ours that are seen in signatures and are nobody's business.
THEIRS = "|".join([*sorted(sys.stdlib_module_names), "django"])
HIDDEN = ("result.OpenTransaction", "backends.tyrant.client.Client", "task.periodic.PeriodicFunction")
nitpick_ignore = [("py:class", f"celery.{name}") for name in HIDDEN]
nitpick_ignore_regex = [
    ("py:.*", rf"({THEIRS})\..+"),
    ("py:.*", r"(celery\..+\.)?[PR](\.args|\.kwargs)?|datetime|timedelta"),
]

"""Sphinx's configuration: `make docs`, or `make check`, where a warning is an error."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from celery import __version__  # noqa: E402 - found by the line above

project = "celery"
project_copyright = "the celery contributors"
version = release = __version__

extensions = ["settings_page"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"celery {release}"
html_static_path: list[str] = []
html_show_copyright = False
highlight_language = "none"
nitpicky = True

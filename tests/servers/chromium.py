"""Chromium and its driver: no server, but a program that tests need and that Debian has."""

from __future__ import annotations

import shutil
from typing import ClassVar


class Chromium:
    """Where the browser and its driver are."""

    name: ClassVar[str] = "chromium"
    packages: ClassVar[tuple[str, ...]] = ("chromium", "chromium-driver")

    @classmethod
    def is_installed(cls) -> bool:
        """Look for both."""
        return cls.browser() is not None and cls.driver() is not None

    @staticmethod
    def browser() -> str | None:
        """Return the path of the browser."""
        return shutil.which("chromium")

    @staticmethod
    def driver() -> str | None:
        """Return the path of the program that drives it."""
        return shutil.which("chromedriver")

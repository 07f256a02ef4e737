"""libfaketime: another clock for one process and its forks."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

LIBRARY = "*/faketime/libfaketimeMT.so.1"


class Faketime:
    """Where the library is."""

    name: ClassVar[str] = "faketime"
    packages: ClassVar[tuple[str, ...]] = ("libfaketime",)

    @classmethod
    def is_installed(cls) -> bool:
        """Look where Debian puts it."""
        return cls.library() is not None

    @staticmethod
    def library() -> Path | None:
        """Return the path to be put into LD_PRELOAD."""
        return next(Path("/usr/lib").glob(LIBRARY), None)

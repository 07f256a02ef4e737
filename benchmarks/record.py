"""What a run has measured so far, on disk after every scenario: an interrupted run keeps what it has."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure
from benchmarks.plan import Sizes
from benchmarks.rounds import Rounds


@dataclass(kw_only=True)
class Record:
    """The content of one file of results."""

    path: Path
    facts: Mapping[str, Any]
    sizes: Sizes
    rounds: Rounds = field(default_factory=Rounds)
    broken: list[str] = field(default_factory=list)

    def add(self, number: int, figure: Figure) -> None:
        """Keep a figure of round `number`."""
        self.rounds.add(number, figure)

    def write(self) -> None:
        """Replace the file with all that is known."""
        content = {
            "facts": self.facts,
            "sizes": vars(self.sizes),
            "broken": self.broken,
            "figures": self.rounds.as_data(),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @property
    def name(self) -> str:
        """The path as a person would type it."""
        return str(self.path.relative_to(Path.cwd())) if self.path.is_relative_to(Path.cwd()) else str(self.path)

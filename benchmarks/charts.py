"""Figures and tables of docs/performance.rst: ``python -m benchmarks.charts benchmarks/results/FILE.json``.

It writes docs/images/performance-*.svg and benchmarks/results/tables/*.rst. Rounds of several
files are put together; no ratio crosses files. Nobody is left out of a figure, whoever wins.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks import pages
from benchmarks.drawings import DRAWINGS
from benchmarks.rounds import Run, read

IMAGES: Final = Path(__file__).resolve().parents[1] / "docs" / "images"
PREFIX: Final = "performance-"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.charts", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="files of benchmarks/results")
    run = read(parser.parse_args(argv).files)
    for path in [*IMAGES.glob(f"{PREFIX}*.svg"), *pages.FOLDER.glob("*.rst")]:
        path.unlink()
    pages.FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in made(run).items():
        path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {len(text.encode()):,} bytes")
    return 0


def made(run: Run) -> dict[Path, str]:
    """Return every file that is made from `run`."""
    drawn = {drawing: svg for drawing in DRAWINGS if (svg := drawing.of(run))}
    images = {IMAGES / f"{PREFIX}{drawing.name}.svg": svg for drawing, svg in drawn.items()}
    shown = [pages.Image(f"{PREFIX}{one.name}.svg", one.scenario, one.alternative) for one in drawn]
    return images | {pages.FOLDER / name: text for name, text in pages.texts(run, shown).items()}


if __name__ == "__main__":
    sys.exit(main())

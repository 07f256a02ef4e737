"""The long form: runs in parts, each with servers, database, seed and folder of its own, until enough has been done.

A finished part is one JSON file in the folder of the long form, written at once; its history is deleted if it passed.
Who starts the long form again with the same folder goes on behind the parts that are there. At the end `summary.json`,
and `summary.rst` and `faults.rst`, which docs/reliability.rst includes, say what all parts came to.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.chaos import report, summary, victims
from tests.chaos.place import unmount
from tests.chaos.report import Part
from tests.servers.processes import kill_family
from tests.shop.daemon import ROOT

#: Seconds of a part, starting and coming to rest included, and tasks a second: some 50,000 tasks and 25 faults.
PART_SECONDS: Final = 200.0
PACE: Final = 330.0
#: Parts in a row that end without a report, after which a place is given up: the check itself is broken there.
CRASHES: Final = 2
#: How often the planned time of a part it may take at most; with all its waiting it is about one and a half.
PATIENCE: Final = 4
#: Seconds between two looks at the parts that run.
PAUSE: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What all places together have to reach; each does its share."""

    places: tuple[str, ...]
    tasks: int
    faults: int
    seed: str
    part_seconds: float = PART_SECONDS
    pace: float = PACE

    def share_done(self, parts: Sequence[Part]) -> float:
        """Return how much of a place's share its parts are; 1 is all of it."""
        tasks = sum(part["tasks"] for part in parts)
        faults = sum(sum(part["faults"].values()) for part in parts)
        return min(_ratio(tasks, self.tasks / len(self.places)), _ratio(faults, self.faults / len(self.places)))

    def seed_of(self, place: str, number: int) -> str:
        """Return the seed of a part: the same every time, and another one for each."""
        return f"{self.seed}-{place}-{number}"


def _ratio(done: int, wanted: float) -> float:
    return done / wanted if wanted else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The folder of a long form."""

    folder: Path

    def seed(self, wanted: str | None) -> str:
        """Return the main seed: that of the parts that are there, else `wanted`, else a new one. Raises ValueError."""
        note = self.folder / "seed"
        if not note.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            note.write_text(wanted or str(random.randrange(10**6)), encoding="utf-8")
        seed = note.read_text(encoding="utf-8").strip()
        if wanted not in (None, seed):
            raise ValueError(f"{self.folder} holds parts of seed {seed}: leave --seed away, or take another folder")
        return seed

    def report_of(self, place: str, number: int) -> Path:
        return self.folder / f"{place}-{number:03}.json"

    def room_of(self, place: str, number: int) -> Path:
        """Where the part has its history and logs while it runs, and afterwards if it failed."""
        return self.folder / f"{place}-{number:03}"

    def parts(self, place: str) -> dict[int, Part]:
        """Return the finished parts by their numbers."""
        paths = [path for path in self.folder.glob(f"{place}-*.json") if path.stem.removeprefix(f"{place}-").isdigit()]
        return {int(path.stem.rpartition("-")[2]): json.loads(path.read_text(encoding="utf-8")) for path in paths}

    def all_parts(self, places: Sequence[str]) -> list[Part]:
        return [part for place in places for _, part in sorted(self.parts(place).items())]

    def clear(self, place: str, number: int) -> None:
        """Remove what an interrupted part left: its processes, its disk, its folder."""
        room = self.room_of(place, number)
        for process in victims.with_variable("CHAOS_HISTORY", str((room / "history").resolve())):
            kill_family(process)
        unmount(room / "database")
        with suppress(FileNotFoundError):
            shutil.rmtree(room)


@dataclass(slots=True, kw_only=True)
class _Running:
    place: str
    number: int
    process: subprocess.Popen[bytes]
    #: When it is told to end, being stuck.
    deadline: float = float("inf")


@dataclass(slots=True, kw_only=True)
class LongForm:
    """Starts parts, so many side by side, until the goal is reached."""

    goal: Goal
    shelf: Shelf
    side_by_side: int = 3
    _running: list[_Running] = field(default_factory=list)
    _crashes: dict[str, int] = field(default_factory=dict)

    def run(self) -> int:
        """Return 0 if every part passed and the goal is reached; Ctrl-C and TERM end the parts that run."""
        self.shelf.folder.mkdir(parents=True, exist_ok=True)
        try:
            while self._start_some() or self._running:
                self._collect()
                time.sleep(PAUSE)
        except KeyboardInterrupt:
            self._end_all()
            raise
        parts = self.shelf.all_parts(self.goal.places)
        found = summary.of(parts, seed=self.goal.seed)
        report.write(self.shelf.folder / "summary.json", found)
        for name, text in (("summary.rst", summary.table(found)), ("faults.rst", summary.table_of_faults(found))):
            (self.shelf.folder / name).write_text(text, encoding="utf-8")
        print("\n".join(summary.lines(found)), flush=True)
        is_reached = all(self._share(place) >= 1 for place in self.goal.places)
        if not is_reached:
            print("chaos: the goal is not reached: parts ended without a report, see above.", flush=True)
        return 0 if is_reached and found["passed"] else 1

    def _start_some(self) -> bool:
        """Start the next parts where there is room; return whether anything was started."""
        before = len(self._running)
        while len(self._running) < self.side_by_side and (place := self._next_place()):
            self._running.append(self._started(place, self._next_number(place)))
        return len(self._running) > before

    def _next_place(self) -> str | None:
        """Return the place that is furthest behind, the parts that run counted as large as those that have finished."""
        behind = {
            place: self._share_expected(place) for place in self.goal.places if self._crashes.get(place, 0) < CRASHES
        }
        place = min(behind, key=lambda name: behind[name], default=None)
        return place if place is not None and behind[place] < 1 else None

    def _share_expected(self, place: str) -> float:
        share, finished = self._share(place), len(self.shelf.parts(place))
        running = sum(one.place == place for one in self._running)
        return share + running * (share / finished if finished else 1.0)

    def _share(self, place: str) -> float:
        return self.goal.share_done(list(self.shelf.parts(place).values()))

    def _next_number(self, place: str) -> int:
        taken = {*self.shelf.parts(place), *(one.number for one in self._running if one.place == place)}
        return next(number for number in range(1, len(taken) + 2) if number not in taken)

    def _started(self, place: str, number: int) -> _Running:
        self.shelf.clear(place, number)
        command = [sys.executable, "-m", "tests.chaos", f"--place={place}", f"--seconds={self.goal.part_seconds}"]
        command += [f"--seed={self.goal.seed_of(place, number)}", f"--pace={self.goal.pace}"]
        command += [f"--folder={self.shelf.room_of(place, number)}", f"--report={self.shelf.report_of(place, number)}"]
        command += [f"--hits={json.dumps(summary.hits(self.shelf.parts(place).values()))}"]
        ends_with_us = ("setpriv", "--pdeathsig", "TERM", "--")
        process = subprocess.Popen([*ends_with_us, *command], cwd=ROOT, env=os.environ, process_group=0)
        deadline = time.monotonic() + PATIENCE * self.goal.part_seconds
        return _Running(place=place, number=number, process=process, deadline=deadline)

    def _collect(self) -> None:
        """Take note of parts that have ended, and end those that are stuck."""
        for stuck in [one for one in self._running if time.monotonic() > one.deadline]:
            print(f"chaos: part {stuck.number} of {stuck.place} is stuck, and is ended", flush=True)
            stuck.deadline = float("inf")
            stuck.process.terminate()
        for one in [one for one in self._running if one.process.poll() is not None]:
            self._running.remove(one)
            if not self.shelf.report_of(one.place, one.number).exists():
                self._crashes[one.place] = self._crashes.get(one.place, 0) + 1
                name = f"part {one.number} of {one.place}"
                print(f"chaos: {name} ended with code {one.process.returncode} and no report", flush=True)
            else:
                self._crashes[one.place] = 0
                print(f"chaos: {one.place} has done {self._share(one.place):.0%} of its share", flush=True)

    def _end_all(self) -> None:
        for one in self._running:
            one.process.terminate()
        for one in self._running:
            one.process.wait()

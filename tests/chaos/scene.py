"""What the history tells while it grows: which process is which, and what each is doing now."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.chaos.history import Event, Reader
from tests.servers.processes import Identity


class Scene:
    """Follows a history. `look` before asking."""

    def __init__(self, path: Path) -> None:
        self._reader = Reader(path)
        #: Of each supervisor, the latest process in each place.
        self._cast: defaultdict[int, dict[tuple[str, int], Identity]] = defaultdict(dict)
        self._running: dict[int, str] = {}
        self._unsettled: defaultdict[int, set[str]] = defaultdict(set)
        self._worker_of: dict[int, int] = {}
        self._settled_at: defaultdict[int, float] = defaultdict(float)
        #: What was confirmed since somebody emptied this set, and will leave a result.
        self.confirmed: set[str] = set()
        #: Every task of which an id is known.
        self.named: set[str] = set()
        #: What the injector and the observer noted.
        self.chronicle: list[Event] = []
        self.events = 0

        self._handlers: dict[str, Callable[[Event], None]] = {
            "born": self._note_born,
            "started": self._note_started,
            "finished": self._note_finished,
            "ending": self._note_ending,
            "settled": self._note_settled,
            "confirmed": self._note_confirmed,
            "rolled_back": self._note_rolled_back,
            **dict.fromkeys(("fault", "missed", "healed", "left", "dead"), self.chronicle.append),
        }

    def look(self) -> None:
        """Take in what is new."""
        news = self._reader.news()
        self.events += len(news)
        for event in news:
            if handler := self._handlers.get(event["event"]):
                handler(event)

    def _note_born(self, event: Event) -> None:
        if process := Identity.of(event["pid"]):
            self._cast[event["worker"]][event["role"], event["index"]] = process
            self._worker_of[event["pid"]] = event["worker"]

    def _note_started(self, event: Event) -> None:
        self._running[event["pid"]] = event["id"]
        self.named.add(event["id"])

    def _note_finished(self, event: Event) -> None:
        self._running.pop(event["pid"], None)
        self._unsettled[event["pid"]].add(event["id"])

    def _note_ending(self, event: Event) -> None:
        self._running.pop(event["pid"], None)

    def _note_settled(self, event: Event) -> None:
        self._unsettled[event["pid"]].discard(event["id"])
        self._settled_at[self._worker_of.get(event["pid"], 0)] = event["at"]

    def _note_confirmed(self, event: Event) -> None:
        ids = [task_id for task_id, _token in event["pairs"]]
        if event.get("awaited", True):
            self.confirmed.update(ids)
        self.named.update(ids)

    def _note_rolled_back(self, event: Event) -> None:
        self.named.update(task_id for task_id, _token in event["pairs"])

    def living(self, supervisor: int, role: str) -> list[Identity]:
        """Return the processes of a worker in this role."""
        cast = self._cast[supervisor].items()
        return [process for (its_role, _), process in cast if its_role == role and process.is_alive()]

    def settled_at(self, supervisor: int) -> float:
        """Return the moment at which a worker last stored a result, or 0."""
        return self._settled_at[supervisor]

    def busy(self, processes: Iterable[Identity]) -> list[Identity]:
        """Return those that run a task."""
        return [process for process in processes if process.pid in self._running]

    def moment_of(self, process: Identity) -> str:
        """Return what a child is doing: running a task, or not, perhaps with results that are not stored yet."""
        if process.pid in self._running:
            return "in a task"
        return "unsettled" if self._unsettled[process.pid] else "idle"

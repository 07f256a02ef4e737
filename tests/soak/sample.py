"""One look at everything that must not grow."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.integration.places import Place
from tests.integration.worker import WorkerProcess
from tests.servers.processes import Identity
from tests.servers.rabbitmq import RabbitMQ
from tests.soak.processes import Held, held
from tests.soak.storage import Stored, stored

COUNTS = (
    "{length(rabbit_amqqueue:list()), length(rabbit_networking:connections()), length(rabbit_channel:list()),"
    " lists:sum([begin [{messages, N}] = rabbit_amqqueue:info(Q, [messages]), N end || Q <- rabbit_amqqueue:list()])}."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What was found after so many tasks had been sent, in so many `seconds`; looking is not counted."""

    label: str
    tasks: int
    seconds: float
    waiting: int
    processes: dict[str, Held]
    stored: Stored
    rabbitmq: dict[str, int] = field(default_factory=dict)

    def total(self, what: str) -> int:
        """Sum one figure of `Held` over the processes of the worker."""
        return sum(getattr(one, what) for one in self.processes.values())


class Sampler:
    """Takes samples of one worker at its place; remembers who the processes were."""

    def __init__(self, place: Place, worker: WorkerProcess, rabbitmq: RabbitMQ | None) -> None:
        self._place = place
        self._rabbitmq = rabbitmq
        self._family = _by_role(worker)
        self.samples: list[Sample] = []

    def take(self, label: str, tasks: int, seconds: float) -> Sample:
        """Take a sample. Raises ProcessLookupError when a process of the worker is not the one it was."""
        sample = Sample(
            label=label,
            tasks=tasks,
            seconds=round(seconds, 2),
            waiting=self._place.waiting(),
            processes=self._held(),
            stored=stored(self._place.alias),
            rabbitmq=_counts(self._rabbitmq) if self._rabbitmq else {},
        )
        self.samples.append(sample)
        return sample

    def _held(self) -> dict[str, Held]:
        if gone := [f"{role} ({one.pid})" for role, one in self._family.items() if not one.is_alive()]:
            raise ProcessLookupError(f"ended in the middle of the soak: {', '.join(gone)}")
        return {role: held(one) for role, one in self._family.items()}


class Clock:
    """Seconds that tasks took; stopped while we look."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._before = 0.0
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        return self._before + (self._now() - self._since if self._since is not None else 0.0)

    def __enter__(self) -> None:
        self._since = self._now()

    def __exit__(self, *_: object) -> None:
        self._before, self._since = self.seconds, None


def _by_role(worker: WorkerProcess) -> dict[str, Identity]:
    supervisor = Identity.of(worker.pid)
    assert supervisor is not None
    children = {f"child {number}": child for number, child in enumerate(worker.children, 1)}
    return {"supervisor": supervisor, "dispatcher": worker.dispatcher, "steward": worker.steward, **children}


def _counts(server: RabbitMQ) -> dict[str, int]:
    """Ask the server itself; the management plugin would hold connections of its own."""
    numbers = server.ctl("eval", COUNTS).strip().strip("{}").split(",")
    return dict(zip(("queues", "connections", "channels", "messages"), map(int, numbers), strict=True))

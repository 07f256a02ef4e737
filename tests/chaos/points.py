"""Where in the product the gates are: each is planted around one function, in memory, as the mutants are."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final

from django.db import connections

from celery import backends, states
from celery.bin import celeryd
from celery.broker import base
from celery.broker.amqp import AmqpConsumer
from celery.broker.database import DatabaseConsumer
from celery.broker.outbox import OutboxBroker
from celery.broker.store.base import Store
from celery.broker.store.mysql import MysqlStore
from celery.broker.store.workers import WorkerRows
from celery.worker import dispatcher, errands, watchdog, writes
from celery.worker.child import Child
from celery.worker.crew import Member
from celery.worker.dispatcher import Dispatcher
from celery.worker.heartbeat import Heartbeat
from celery.worker.relay import Relay
from celery.worker.rescue import Rescue
from celery.worker.steward import Steward
from celery.worker.supervisor import Supervisor
from celery.worker.writer import Writer
from tests.chaos.gates import NUMBERS, Gates, beside
from tests.chaos.history import History

#: Seconds for which rows of the outbox belong to their hook, in a run: a producer that is killed leaves them.
OUTBOX_GRACE: Final = 5
#: Seconds of silence after which a supervisor kills, in a run: more than it waits for an answer of a database.
STALLED: Final = 24.0

#: What was seen at the gate: ids of tasks, and a process that is concerned. None: this is not the moment.
Seen = tuple[Sequence[str], int] | None
#: Called with the arguments and the value of the function (None before it), only while the gate is armed.
Look = Callable[[Sequence[Any], Any], Seen]


class _Inside(threading.local):
    """Which of the functions in `SURROUNDINGS` this thread is in."""

    def __init__(self) -> None:
        self.names: list[str] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.names.append(name)
        try:
            yield
        finally:
            self.names.pop()


_inside = _Inside()


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A gate stands before or after `function` of `owner`; or only where that is called within `inside`."""

    gate: str
    owner: Any
    function: str
    is_after: bool = False
    look: Look
    inside: str = ""


def always(_arguments: Sequence[Any], _value: Any) -> Seen:
    return (), 0


def if_any(_arguments: Sequence[Any], value: Any) -> Seen:
    return ((), 0) if value else None


def _if_room(arguments: Sequence[Any], _value: Any) -> Seen:
    return ((), 0) if arguments[1] > 0 else None


def _claimed(_arguments: Sequence[Any], value: Any) -> Seen:
    return ([str(row[0]) for row in value], 0) if value else None


def _taken(_arguments: Sequence[Any], value: Any) -> Seen:
    return ([delivery.task_id for delivery in value], 0) if value else None


def _handed(arguments: Sequence[Any], value: Any) -> Seen:
    member, held = arguments
    return ([held.delivery.task_id], member.pid) if value else None


def _deliveries(arguments: Sequence[Any], _value: Any) -> Seen:
    return ([delivery.task_id for delivery in arguments[1]], 0) if arguments[1] else None


def _started(arguments: Sequence[Any], _value: Any) -> Seen:
    _, event, *facts = arguments
    return (facts[:1], 0) if event == "started" else None


def _outcomes(arguments: Sequence[Any], _value: Any) -> Seen:
    group = next(one for one in arguments if isinstance(one, Sequence))
    return [outcome.job.delivery.task_id for outcome in group], 0


def _retries(arguments: Sequence[Any], _value: Any) -> Seen:
    ids = [outcome.job.delivery.task_id for outcome in arguments[0] if outcome.kind == states.RETRY]
    return (ids, 0) if ids else None


def _retried(arguments: Sequence[Any], _value: Any) -> Seen:
    """Ask for the results: a dispatcher does not know what became of a job. It keeps no connection of its own."""
    ids = [delivery.task_id for delivery in arguments[1]]
    try:
        found = [task_id for task_id, result in backends.default().fetch(ids).items() if result.state == states.RETRY]
    finally:
        connections.close_all()
    return (found, 0) if found else None


def _plans(arguments: Sequence[Any], _value: Any) -> Seen:
    return [plan.result.task_id for plan in arguments[1] if plan.result], 0


def _rows(_arguments: Sequence[Any], value: Any) -> Seen:
    return ([message.task_id for _, message in value], 0) if value else None


def _messages(arguments: Sequence[Any], _value: Any) -> Seen:
    return [message.task_id for message in arguments[1]], 0


def _asked(arguments: Sequence[Any], _value: Any) -> Seen:
    asked = arguments[1] if isinstance(arguments[1], list) else [arguments[1]]
    return ([one.delivery.task_id for one in asked], 0) if asked else None


def _kept(arguments: Sequence[Any], _value: Any) -> Seen:
    return [arguments[1].task_id], 0


def _crashed(arguments: Sequence[Any], _value: Any) -> Seen:
    return [f"row {arguments[2]}"], 0


def _parked(arguments: Sequence[Any], _value: Any) -> Seen:
    _, kind, held, verdict, _ = arguments
    return ([held.delivery.task_id], 0) if (kind, verdict) == (errands.PARK, errands.RUN) else None


def _if_stopping(arguments: Sequence[Any], _value: Any) -> Seen:
    return ((), 0) if arguments[0]._is_stopping else None


def _of_a_child(arguments: Sequence[Any], _value: Any) -> Seen:
    return ((), int(arguments[3])) if arguments[1] == dispatcher.CHILD else None


def _new_dispatcher(arguments: Sequence[Any], _value: Any) -> Seen:
    supervisor, is_new = arguments
    return ((), supervisor._dispatcher.pid) if is_new else None


def _new_steward(arguments: Sequence[Any], _value: Any) -> Seen:
    supervisor, is_new = arguments
    return None if is_new else ((), supervisor._steward.pid)


def _new_owner(arguments: Sequence[Any], _value: Any) -> Seen:
    return ((), 0) if arguments[-1] else None


#: Functions within which a gate of the same function elsewhere is another moment, by the name that points use.
SURROUNDINGS: Final = (
    ("claim", Store, "claim"),
    ("relay", Relay, "_publish_to"),
    ("hook", OutboxBroker, "_forward_page"),
    ("take-over", Heartbeat, "_take_over"),
    ("retire", Steward, "_retire"),
)


def _before(gate: str, owner: Any, function: str, look: Look = always, inside: str = "") -> Point:
    return Point(gate=gate, owner=owner, function=function, look=look, inside=inside)


def _after(gate: str, owner: Any, function: str, look: Look = always, inside: str = "") -> Point:
    return Point(gate=gate, owner=owner, function=function, is_after=True, look=look, inside=inside)


POINTS: Final = (
    _before("before claim", DatabaseConsumer, "take", _if_room),
    _before("before claim", AmqpConsumer, "take", _if_room),
    _after("claimed, not committed", Store, "_change_some", _claimed, inside="claim"),
    _after("claimed, not committed", MysqlStore, "_change_some", _claimed, inside="claim"),
    _after("after claim", DatabaseConsumer, "take", _taken),
    _after("after claim", AmqpConsumer, "take", _taken),
    _after("handed over", Member, "hand_over", _handed),
    _after("in user code", History, "note", _started),
    _before("finished, not stored", Writer, "_store", _outcomes),
    _after("stored, not committed", writes, "_insert", _plans),
    _after("stored, not settled", writes, "write", _outcomes),
    _after("retry stored, not settled", writes, "write", _retries),
    _before("reported, not acked", AmqpConsumer, "settle", _deliveries),
    _before("retry reported, not acked", AmqpConsumer, "settle", _retried),
    _after("acked", AmqpConsumer, "settle", _deliveries),
    _after("parked, not answered", Rescue, "_park", _asked),
    _before("parked, not acked", Dispatcher, "_obey", _parked),
    _before("parked, not finished", Rescue, "_finish", _asked),
    _before("hook: locked, not published", OutboxBroker, "pass_on", _messages, inside="hook"),
    _after("hook: published, not deleted", OutboxBroker, "pass_on", _messages, inside="hook"),
    _after("relay: claimed, not published", Store, "take_for_relay", _rows),
    _after("relay: published, not deleted", OutboxBroker, "pass_on", _messages, inside="relay"),
    _before("promote: due, not promoted", Store, "promote"),
    _after("promote: promoted", Store, "promote", if_any),
    _before("crash: decided, not counted", Store, "count_crash", _crashed),
    _before("crash: decided, not counted", Rescue, "_keep_crashed", _kept),
    _after("crash: counted, not answered", Store, "count_crash", _crashed),
    _after("crash: counted, not answered", Rescue, "_keep_crashed", _kept),
    _after("suspect: examined, not answered", Rescue, "_examine", _asked),
    _after("suspect: marked, not answered", Rescue, "_mark", _asked),
    _before("suspect: marked, not started", Dispatcher, "_note_marked"),
    _after("take-over: not committed", WorkerRows, "_give_back_all", inside="take-over"),
    _after("retire: not committed", WorkerRows, "_give_back_all", inside="retire"),
    _after("give back: nacked", AmqpConsumer, "give_back", _deliveries),
    _before("give back: before", Rescue, "_release", _asked),
    _after("give back: not answered", Rescue, "_release", _asked),
    _after("shutdown: draining", Dispatcher, "_drain"),
    _before("shutdown: drained", Dispatcher, "_finish_draining"),
    _before("shutdown: child dismissed", Writer, "stop"),
    _before("shutdown: signing off", Steward, "_retire", _if_stopping),
    _before("shutdown: before exec", celeryd, "_begin_anew"),
    _before("fork: child not announced", Supervisor, "_tell_dispatcher", _of_a_child),
    _before("fork: child begins", Child, "run"),
    _before("fork: dispatcher not announced", Supervisor, "_introduce", _new_dispatcher),
    _after("fork: dispatcher known, not enlisted", Steward, "_serve", _new_owner),
    _after("fork: dispatcher enlisted", Steward, "_enlist"),
    _before("fork: steward not introduced", Supervisor, "_introduce", _new_steward),
)


def plant() -> None:
    """Put all gates up, in a process of a run."""
    if "CHAOS_HISTORY" not in os.environ:
        return
    gates = Gates(beside(Path(os.environ["CHAOS_HISTORY"])))
    vars(base)["OUTBOX_GRACE"] = OUTBOX_GRACE
    vars(watchdog)["STALLED"] = STALLED
    for name, owner, function in SURROUNDINGS:
        setattr(owner, function, surrounding(name, getattr(owner, function)))
    for point in POINTS:
        setattr(point.owner, point.function, gated(gates, point, getattr(point.owner, point.function)))


def surrounding(name: str, act: Any) -> Any:
    @wraps(act)
    def act_inside(*arguments: Any, **named: Any) -> Any:
        with _inside(name):
            return act(*arguments, **named)

    return act_inside


def gated(gates: Gates, point: Point, act: Any) -> Any:
    """Return `act` with a gate. Not armed, it costs the reading of one byte."""
    page, number, is_after = gates.page, NUMBERS[point.gate], point.is_after

    @wraps(act)
    def act_at_gate(*arguments: Any, **named: Any) -> Any:
        if is_after:
            value = act(*arguments, **named)
            if page[number]:
                _look(gates, point, arguments, named, value)
            return value
        if page[number]:
            _look(gates, point, arguments, named, None)
        return act(*arguments, **named)

    return act_at_gate


def _look(gates: Gates, point: Point, arguments: Sequence[Any], named: dict[str, Any], value: Any) -> None:
    if point.inside and point.inside not in _inside.names:
        return
    if seen := point.look([*arguments, *named.values()], value):
        ids, other = seen
        gates.stop_at(point.gate, ids=ids, other=other)

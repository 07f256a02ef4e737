"""Targets: results as they are found again, exceptions that are rebuilt, and what a Tokyo Tyrant server answers."""

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from types import SimpleNamespace
from typing import Any, cast

from celery import states
from celery.backends import exceptions as stored_exceptions
from celery.backends import records, tyrant
from celery.backends.base import Result
from celery.backends.tyrant import protocol
from celery.exceptions import CeleryError, UnpickleableExceptionWrapper, UnreadableResult
from celery.message import to_json
from tests.fuzz.guard import nothing_runs
from tests.fuzz.messages import VALUES
from tests.fuzz.mutator import Fields, field
from tests.fuzz.target import ACCEPTED, Target, reason_of, refusal
from tests.memory_backend import MemoryBackend
from tests.tyrant.recorded import recorded

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
BACKEND = MemoryBackend()


class ShopError(Exception):
    """An exception of an application, which does things when it is made."""

    def __init__(self, order: int) -> None:
        super().__init__(f"order {order}")
        self.order = order


#: What tasks raise.
MAKERS: tuple[Callable[[], BaseException], ...] = (
    lambda: ValueError("text", 1, NOW),
    lambda: OSError(2, "No such file", "orders.csv"),
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    lambda: SyntaxError("bad", ("shop.py", 1, 2, "x y")),
    lambda: ImportError("no module", name="x", path="y"),
    lambda: KeyError("door"),
    lambda: StopIteration(3),
    lambda: ShopError(7),
    lambda: SystemExit(2),
    lambda: ExceptionGroup("several", [ValueError(1)]),
    lambda: json.JSONDecodeError("bad", "{", 1),
    lambda: AttributeError("x", name="n", obj=None),
    lambda: UnpickleableExceptionWrapper("elsewhere", "Gone", ("x",)),
    lambda: RecursionError("too deep"),
)


def _error(chance: Random) -> str:
    error = chance.choice(MAKERS)()
    if chance.random() < 0.3:
        error.add_note("a note")
    return stored_exceptions.dump(error)


# -- exceptions


def _valid_exception(chance: Random) -> Fields:
    return [_error(chance).encode()]


def _check_exception(fields: Fields) -> str:
    """Any text is read as an exception that can be shown, stored again, and raised."""
    text = field(fields, 0).decode("utf-8", "surrogateescape")
    with nothing_runs():
        error = stored_exceptions.load(text)
    assert isinstance(error, Exception)
    _assert_shown(error)
    assert isinstance(stored_exceptions.load(stored_exceptions.dump(error)), Exception)
    assert isinstance(error.with_traceback(None), Exception)
    if type(error) is UnpickleableExceptionWrapper:
        return refusal(f"no exception that can be read ({error.exc_cls_name})")
    return refusal("a class that is not here") if isinstance(error, UnpickleableExceptionWrapper) else ACCEPTED


def _assert_shown(error: Exception) -> None:
    """Fail if it cannot be shown, as a log or a page does."""
    assert isinstance(f"{error} {error!r}", str)
    assert traceback.format_exception(error)


# -- results


def _result(chance: Random) -> Result:
    is_done = chance.random() < 0.5
    return Result(
        task_id=f"{chance.getrandbits(64):x}",
        state=states.DONE if is_done else chance.choice((states.FAILURE, states.RETRY)),
        result=to_json(chance.choice(VALUES)) if is_done else _error(chance),
        traceback="" if is_done else "Traceback (most recent call last):\n",
        attempt=chance.choice((1, 1, 3)),
        name="shop.tasks.add",
        worker="w@host",
        runtime=chance.choice((None, 0.5)),
        date_done=NOW,
    )


def _valid_result(chance: Random) -> Fields:
    result = _result(chance)
    return [records.to_text(result).encode(), result.task_id.encode(), b"", b""]


def _check_result(fields: Fields) -> str:
    """A result of this id or nothing; its value, an exception, or UnreadableResult."""
    task_id = field(fields, 1).decode("utf-8", "surrogateescape")
    with nothing_runs():
        found = records.from_text(field(fields, 0), task_id)
    if found is None:
        return refusal("no result of this id")
    if changed := field(fields, 2):
        found = replace(found, result=changed.decode("utf-8", "surrogateescape"))
    try:
        with nothing_runs():
            value = BACKEND.to_python(found)
    except UnreadableResult as error:
        return f"UnreadableResult: {reason_of(error.__cause__ or error)}"
    assert found.state == states.DONE or isinstance(value, BaseException)
    return ACCEPTED


# -- Tokyo Tyrant


class _Wire:
    """A socket that has these bytes to give, in pieces."""

    def __init__(self, data: bytes, piece: int) -> None:
        self._data = data
        self._piece = piece

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def recv(self, size: int) -> bytes:
        assert size <= protocol.MOST_RECEIVED
        found, self._data = self._data[: min(size, self._piece)], self._data[min(size, self._piece) :]
        return found


KEYS = [b"celery:r:1", b"celery:r:2"]
REQUESTS: dict[str, Callable[[], protocol.Request[Any]]] = {
    "put": lambda: protocol.put(b"k", b"v"),
    "out": lambda: protocol.out(b"k"),
    "get": lambda: protocol.get(b"k"),
    "vsiz": lambda: protocol.vsiz(b"k"),
    "mget": lambda: protocol.mget([b"one", b"two", b"three", *KEYS]),
    "misc": lambda: protocol.getpart(b"k", 0, 8),
    "stat": protocol.stat,
}
COMMANDS = {0x10: "put", 0x11: "put", 0x12: "put", 0x20: "out", 0x30: "get", 0x38: "vsiz", 0x31: "mget", 0x90: "misc"}
BY_COMMAND = {**COMMANDS, 0x88: "stat"}


def _transcripts() -> list[tuple[str, bytes]]:
    """Return what a real server answered, with the kind of the request."""
    found = [one for group in ("mem", "hash", "btree", "masked") for one in recorded(group)]
    return [
        (BY_COMMAND[one.request[1]], one.answer)
        for one in found
        if one.request[:1] == b"\xc8" and one.request[1] in BY_COMMAND and one.answer
    ]


TRANSCRIPTS = _transcripts()


def _answer_with_results(chance: Random) -> bytes:
    """Return what mget answers where two results are stored."""
    found = b""
    for key in KEYS:
        expiry = (2**40).to_bytes(tyrant.HEADER, "big")
        value = expiry + records.to_text(replace(_result(chance), task_id=key.decode().rpartition(":")[2])).encode()
        found += len(key).to_bytes(4, "big") + len(value).to_bytes(4, "big") + key + value
    return b"\0" + len(KEYS).to_bytes(4, "big") + found


def _valid_answer(chance: Random) -> Fields:
    kind, answer = chance.choice(TRANSCRIPTS)
    if chance.random() < 0.3:
        kind, answer = "fetch", _answer_with_results(chance)
    elif chance.random() < 0.1:
        entries = b"".join(len(one).to_bytes(2, "big") + one for one in (b"one", b"two", b"three"))
        kind, answer = "bucket", b"\0" + len(entries).to_bytes(4, "big") + entries
    elif chance.random() < 0.1:
        kind, answer = "purged", b"\0\0\0\0\x0829000000"
    return [kind.encode(), bytes([chance.choice((1, 7, 255))]), answer]


def _check_answer(fields: Fields) -> str:
    """An answer, or the two errors that end a connection; what is in it is a result or is passed over."""
    kind = field(fields, 0).decode("ascii", "replace")
    answers = protocol.Answers(cast("Any", _Wire(field(fields, 2), max(1, (field(fields, 1) or b"\xff")[0]))), 5.0)
    answers.begin()
    try:
        with nothing_runs():
            return _use(kind, answers)
    except (protocol.NonsenseError, OSError, CeleryError) as error:
        return reason_of(error)


def _use(kind: str, answers: protocol.Answers) -> str:
    if kind == "fetch":
        return _fetch(answers)
    if kind in {"bucket", "purged"}:
        value = protocol.get(b"k").read(answers) or b""
        answers.end()
        if kind == "bucket":
            assert all(len(key) <= len(tyrant.RESULT) + tyrant.LONGEST_ID for key in tyrant._keys(value))
        else:
            server = SimpleNamespace(call=lambda request: value if b"0" in request.data[:2] else (True, [b"12345678"]))
            last = int(time.time()) // tyrant.MINUTE
            first = tyrant.Backend("localhost", 1)._first_minute(cast("Any", server), last)
            assert last - tyrant.FARTHEST - tyrant.LOOK_BACK <= first <= last
        return ACCEPTED
    REQUESTS.get(kind, REQUESTS["get"])().read(answers)
    answers.end()
    return ACCEPTED


def _fetch(answers: protocol.Answers) -> str:
    def call(request: protocol.Request[Any]) -> Any:
        value = request.read(answers)
        answers.end()
        return value

    backend = tyrant.Backend("localhost", 1)
    vars(backend)["get_server"] = lambda: SimpleNamespace(call=call)
    found = backend.fetch(["1", "2"])
    assert set(found) <= {"1", "2"}
    return ACCEPTED if found else refusal("no result in it")


TARGETS = (
    Target(
        name="exception",
        share=0.14,
        valid=_valid_exception,
        check=_check_exception,
    ),
    Target(
        name="result",
        share=0.1,
        valid=_valid_result,
        check=_check_result,
    ),
    Target(
        name="tyrant",
        share=0.11,
        valid=_valid_answer,
        check=_check_answer,
    ),
)

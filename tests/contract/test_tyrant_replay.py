"""Recorded exchanges with a real Tokyo Tyrant 1.1.41, replayed both ways.

The stand-in answers what was asked with what was answered. The client writes what was written, and reads what was
answered to the right value.
"""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from celery.backends.tyrant.protocol import Request, get, getpart, mget, misc, out, put, putcat, putkeep, stat, vsiz
from celery.exceptions import ResultBackendUnreachable
from tests.tyrant.clients import connected
from tests.tyrant.recorded import GROUPS, Exchange, one, recorded
from tests.tyrant.records import HASH, MEMORY, TABLE, TREE
from tests.tyrant.scripted import Scripted, Turn
from tests.tyrant.stand_in import EVERYTHING, StandIn

#: Seconds after which no more is expected.
SILENCE = 0.01


# -- the stand-in

#: What the stand-in does not answer, and why.
NOT_STOOD_IN = {
    "lua": "no Lua: the result backend needs none",
    "memcached": "no text protocol: the result backend does not speak it",
    "table": "no columns and no queries: a table is refused by the client; what a plain put does to it is replayed",
}

KINDS = {"mem": MEMORY, "hash": HASH, "btree": TREE, "masked": MEMORY}

#: What a hash database answers in an order that is an accident of the hash.
UNORDERED = ("fwmkeys", "regex", "iternext")


def test_every_group_is_replayed_or_its_absence_explained() -> None:
    assert {*KINDS, *NOT_STOOD_IN} == set(GROUPS)


@pytest.mark.parametrize("group", KINDS)
def test_the_stand_in_answers_as_the_real_server_did(group: str) -> None:
    mask = EVERYTHING if group == "masked" else ()
    with StandIn(KINDS[group], mask=mask) as server, _replaying(server) as ask:
        for exchange in recorded(group):
            answer, closed = ask(exchange)

            assert _comparable(exchange, answer, group) == _comparable(exchange, exchange.answer, group), exchange.name
            assert closed == exchange.closed, exchange.name


@contextmanager
def _replaying(server: StandIn) -> Iterator[Callable[[Exchange], tuple[bytes, bool]]]:
    """Lend a function that sends a recorded request and returns all that comes back, and whether that was the end."""
    open_one: list[socket.socket] = []

    def ask(exchange: Exchange) -> tuple[bytes, bool]:
        if not open_one:
            open_one.append(socket.create_connection(("127.0.0.1", server.port), 5))
        client = open_one[0]
        client.sendall(exchange.request)
        answer, closed = _all_that_comes(client, len(exchange.answer), exchange)
        if closed:
            open_one.pop().close()
        return answer, closed

    yield ask
    for client in open_one:
        client.close()


def _all_that_comes(client: socket.socket, wanted: int, exchange: Exchange) -> tuple[bytes, bool]:
    """Read what was recorded; then, where more would be wrong, wait a moment for more."""
    answer = b""
    enough = 1 if exchange.is_volatile else wanted
    while True:
        client.settimeout(SILENCE if len(answer) >= enough and not exchange.closed else 5)
        try:
            chunk = client.recv(1024 * 1024)
        except TimeoutError:
            return answer, False
        if not chunk:
            return answer, True
        answer += chunk


def _comparable(exchange: Exchange, answer: bytes, group: str) -> Any:
    """Return what has to be equal: all of it, or its parts without their order, or its form."""
    if exchange.is_volatile:
        return answer[:1] if not exchange.name.startswith("stat") else _names_in_stat(answer)
    if group in {"mem", "hash"} and any(name in exchange.name for name in UNORDERED) and answer[:1] == b"\0":
        if exchange.name.startswith("iternext") or "max" in exchange.name:
            return answer[:1]
        return answer[:5], sorted(_parts(answer))
    return answer


def _names_in_stat(answer: bytes) -> bool:
    """Tell whether the answer names the type of its database, which is all that we read of it."""
    return b"\ntype\t" in answer


def _parts(answer: bytes) -> list[bytes]:
    parts, at = [], 5
    while at < len(answer):
        size = struct.unpack(">i", answer[at : at + 4])[0]
        parts.append(answer[at + 4 : at + 4 + size])
        at += 4 + size
    return parts


@pytest.mark.parametrize("number", ["1", "2"])
@pytest.mark.parametrize("group", ["mem", "hash"])
def test_a_recorded_walk_gives_keys_that_are_there(group: str, number: str) -> None:
    """Which ones, an accident of the hash decides; so does what ``fwmkeys`` leaves out where it stops early."""
    walked = one(group, f"iternext {number}").answer[5:]

    assert walked in {b"l2", b"empty", b"task-1", b"task-2"}


@pytest.mark.parametrize(
    ("group", "type_name"), [("mem", "on-memory hash"), ("hash", "hash"), ("btree", "B+ tree"), ("masked", None)]
)
def test_the_stand_in_tells_its_type_as_the_real_server_does(group: str, type_name: str | None) -> None:
    assert _read(stat(), one(group, "stat" if group != "masked" else "stat forbidden").answer).get("type") == type_name

    with StandIn(KINDS[group], mask=EVERYTHING if group == "masked" else ()) as server, _replaying(server) as ask:
        answer, _ = ask(one("mem", "stat"))
        assert _read(stat(), answer).get("type") == type_name


@pytest.mark.parametrize("name", ["plain put without column structure", "get of it"])
def test_a_stand_in_for_a_table_loses_a_plain_value_and_calls_it_success(name: str) -> None:
    with StandIn(TABLE) as server, _replaying(server) as ask:
        for before in ("plain put without column structure", "get of it"):
            exchange = one("table", before)
            assert ask(exchange) == (exchange.answer, False)
            if before == name:
                return


# -- the client

NO_SUCH_COMMAND = "a command that the client does not have"

#: Each recorded exchange of a plain database that the client can have: how it asks, and what it understands.
ASKED: dict[str, tuple[Callable[[], Request[Any]], Any]] = {
    "get missing": (lambda: get(b"task-1"), None),
    "vsiz missing": (lambda: vsiz(b"task-1"), None),
    "out missing": (lambda: out(b"task-1"), False),
    "mget all missing": (lambda: mget([b"task-1", b"task-2"]), {}),
    "put new": (lambda: put(b"task-1", b'{"status":"SUCCESS","result":4}'), True),
    "get": (lambda: get(b"task-1"), b'{"status":"SUCCESS","result":4}'),
    "vsiz": (lambda: vsiz(b"task-1"), 31),
    "put overwrite": (lambda: put(b"task-1", b"second"), True),
    "get overwritten": (lambda: get(b"task-1"), b"second"),
    "putkeep on existing fails": (lambda: putkeep(b"task-1", b"x"), False),
    "putkeep on new": (lambda: putkeep(b"task-2", b"two"), True),
    "putcat existing": (lambda: putcat(b"task-2", b"+cat"), True),
    "putcat new key": (lambda: putcat(b"task-3", b"abc"), True),
    "get after putcat": (lambda: get(b"task-2"), b"two+cat"),
    "get after putshl": (lambda: get(b"task-3"), b"efgh"),
    "get after putnr": (lambda: get(b"task-4"), b"nr"),
    "put empty value": (lambda: put(b"empty", b""), True),
    "get empty value": (lambda: get(b"empty"), b""),
    "vsiz empty value": (lambda: vsiz(b"empty"), 0),
    "put empty key": (lambda: put(b"", b"v"), True),
    "get empty key": (lambda: get(b""), b"v"),
    "out empty key": (lambda: out(b""), True),
    "put binary key and value with NULs": (lambda: put(b"n\0k\xff", b"\0\xc8\x10\r\n\xff"), True),
    "get binary": (lambda: get(b"n\0k\xff"), b"\0\xc8\x10\r\n\xff"),
    "put utf8 key": (lambda: put("ключ-✓".encode(), "значение".encode()), True),
    "get utf8 key": (lambda: get("ключ-✓".encode()), "значение".encode()),
    "put 3072 bytes": (lambda: put(b"big", bytes(range(256)) * 12), True),
    "get 3072 bytes": (lambda: get(b"big"), bytes(range(256)) * 12),
    "out big": (lambda: out(b"big"), True),
    "out again fails": (lambda: out(b"big"), False),
    "mget partly missing": (
        lambda: mget([b"task-1", b"nope", b"task-2"]),
        {b"task-1": b"second", b"task-2": b"two+cat"},
    ),
    "mget duplicate key": (lambda: mget([b"task-1", b"task-1"]), {b"task-1": b"second"}),
    "mget zero keys": (lambda: mget([]), {}),
    "mget with empty value": (lambda: mget([b"empty"]), {b"empty": b""}),
    "get of an addint value": (lambda: get(b"ctr"), b"\xfe\xff\xff\xff"),
    "get imin": (lambda: get(b"imin"), b"\0\0\0\x80"),
    "out imin": (lambda: out(b"imin"), True),
    "get of an adddouble value": (lambda: get(b"dbl"), b"\0\0\0\0\0\0\xf8?"),
    "misc put": (lambda: misc(b"put", b"m1", b"v1"), (True, [])),
    "misc putkeep existing fails": (lambda: misc(b"putkeep", b"m1", b"v2"), (False, [])),
    "misc putcat": (lambda: misc(b"putcat", b"m1", b"+"), (True, [])),
    "misc get": (lambda: misc(b"get", b"m1"), (True, [b"v1+"])),
    "misc get missing": (lambda: misc(b"get", b"nope"), (False, [])),
    "misc vsiz": (lambda: misc(b"vsiz", b"m1"), (False, [])),
    "misc vsiz missing": (lambda: misc(b"vsiz", b"nope"), (False, [])),
    "misc out": (lambda: misc(b"out", b"m1"), (True, [])),
    "misc out missing": (lambda: misc(b"out", b"m1"), (False, [])),
    "misc putlist": (lambda: misc(b"putlist", b"l1", b"v1", b"l2", b"v2", b"l3", b"v3"), (True, [])),
    "misc putlist odd argument count": (lambda: misc(b"putlist", b"odd"), (True, [])),
    "misc getlist partly missing": (
        lambda: misc(b"getlist", b"l1", b"nope", b"l3"),
        (True, [b"l1", b"v1", b"l3", b"v3"]),
    ),
    "misc outlist partly missing": (lambda: misc(b"outlist", b"l1", b"nope"), (True, [])),
    "misc getpart": (lambda: getpart(b"l2", 0, 1), (True, [b"v"])),
    "misc regex": (lambda: misc(b"regex", b"^l", b"10"), (True, [b"l2", b"v2", b"l3", b"v3"])),
    "misc unknown function": (lambda: misc(b"nosuch"), (False, [])),
    "put before vanish": (lambda: put(b"a", b"1"), True),
}

MASKED: dict[str, tuple[Callable[[], Request[Any]], Any]] = {
    "put forbidden": (lambda: put(b"a", b"b"), False),
    "get forbidden": (lambda: get(b"a"), None),
    "mget forbidden": (lambda: mget([b"a"]), {}),
    "misc put forbidden answers success": (lambda: misc(b"put", b"a", b"b"), (True, [])),
}

#: What the client cannot be made to ask, though it has the command.
NEVER_ASKED = {
    "misc no-ulog option": "its misc has no options",
    "misc error": "the text may be another request's: nobody should read it",
    "misc range l..m": "it differs between databases, see below",
    "negative key size": "nothing has a negative size",
    "key size above 256 MiB": "it is refused before it is sent",
    "value size above 256 MiB followed by a vanish: body bytes run as commands": "it is refused before it is sent",
    "3 requests in one write": "three requests, see below",
    "stat": "its answer is a set of lines, see above",
    "stat forbidden": "the same",
}

COMMANDS = b"\x10\x11\x12\x20\x30\x31\x38\x88\x90"


@pytest.mark.parametrize("group", ["mem", "hash", "btree", "masked"])
def test_every_recorded_exchange_of_a_command_that_the_client_has_is_replayed_or_its_absence_explained(
    group: str,
) -> None:
    of_the_client = {exchange.name for exchange in recorded(group) if exchange.request[1] in COMMANDS}

    assert of_the_client - NEVER_ASKED.keys() == (MASKED if group == "masked" else ASKED).keys()


@pytest.mark.parametrize(
    ("group", "name"),
    [
        *((group, name) for group in ("mem", "hash", "btree") for name in ASKED),
        *(("masked", name) for name in MASKED),
    ],
)
def test_the_client_asks_as_was_asked_and_understands_what_was_answered(group: str, name: str) -> None:
    make, meaning = {**ASKED, **MASKED}[name]
    exchange = one(group, name)

    assert make().data == exchange.request
    assert _read(make(), exchange.answer) == meaning


def test_a_range_is_understood_where_there_is_one_and_where_there_is_none() -> None:
    request = misc(b"range", b"l", b"-1", b"m")

    assert {request.data} == {one(group, "misc range l..m").request for group in ("mem", "hash", "btree")}
    assert _read(request, one("mem", "misc range l..m").answer) == (False, [])
    assert _read(request, one("btree", "misc range l..m").answer) == (True, [b"l2", b"v2", b"l3", b"v3"])


def test_several_requests_are_written_at_once_and_their_answers_told_apart() -> None:
    exchange = one("mem", "3 requests in one write")
    requests: list[Request[Any]] = [put(b"p1", b"a"), get(b"p1"), get(b"p2")]

    with (
        Scripted([[Turn(wait_for=len(exchange.request), say=exchange.answer)]]) as server,
        connected(server.port) as client,
    ):
        assert client.run(requests) == [True, b"a", None]

    assert server.heard[-1] == exchange.request


@pytest.mark.parametrize("group", ["mem", "hash", "btree"])
@pytest.mark.parametrize("name", ["unknown command 0xff", "negative key size", "key size above 256 MiB"])
def test_a_connection_that_the_server_closes_without_a_word_is_an_error_that_says_so(group: str, name: str) -> None:
    exchange = one(group, name)
    request = Request(exchange.request, get(b"").read, may_repeat=False)
    script = [Turn(wait_for=len(exchange.request), say=exchange.answer, then_close=True)]
    with (
        Scripted([script]) as server,
        connected(server.port) as client,
        pytest.raises(ResultBackendUnreachable, match="the server closed the connection"),
    ):
        client.call(request)


def _read(request: Request[Any], answer: bytes) -> Any:
    """Return what the client understands when it asks `request` and a server answers so."""
    with Scripted([[Turn(wait_for=len(request.data), say=answer)]]) as server:
        with connected(server.port) as client:
            found = client.call(request)
        assert server.heard[-1] == request.data
    return found

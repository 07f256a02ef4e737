"""The recorded exchanges with a real server; see README.rst."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

GROUPS = ("mem", "hash", "btree", "table", "lua", "masked", "memcached")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What was sent, what came back, and whether the server closed the connection then."""

    name: str
    request: bytes
    answer: bytes
    closed: bool
    is_volatile: bool


@cache
def recorded(group: str) -> tuple[Exchange, ...]:
    """Return the exchanges of a group, in their order."""
    entries = json.loads((Path(__file__).parent / "recorded.json").read_text(encoding="utf-8"))["groups"][group]
    return tuple(
        Exchange(
            name=entry["name"],
            request=bytes.fromhex(entry["request"]),
            answer=bytes.fromhex(entry["answer"]),
            closed=entry.get("closed", False),
            is_volatile=entry.get("volatile", False),
        )
        for entry in entries
    )


def one(group: str, name: str) -> Exchange:
    """Return the exchange of this name."""
    (found,) = (exchange for exchange in recorded(group) if exchange.name == name)
    return found

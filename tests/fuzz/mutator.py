"""Cases and their mutations. A case is a list of fields of bytes; what is JSON in them is also changed as JSON."""

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Fields = list[bytes]

LARGEST_CASE = 64 * 1024

#: Pieces that have been trouble somewhere.
TOKENS = (
    *(b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\xf0\x9f\x98\x80", b"\r\n", b"\t", b" " * 40),
    *(b"1e999", b"-1", b"0", b"9" * 4301, b"NaN", b"-Infinity", b"1E+999999999999999999", b"32768", b"2147483648"),
    *(b"18446744073709551616", b'"__type__"', b'"__value__"', b"celery.mapping", b"datetime", b"uuid", b"decimal"),
    *(b"null", b"true", b"[]", b"{}", b'""', b"[" * 1200, b'{"a":' * 1200, b"os.system", b"builtins", b"eval"),
    *(b"__class__", b"__reduce__", b"subprocess", b"exc_args", b"with_traceback", b"celery.exceptions"),
    *(b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x10\x00\x00\x01", b"\x7f\xff\xff\xff"),
)


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


#: Values to stand where another one stood.
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**15, 2**31 - 1, 2**31, 2**63, 10**400, 1.5, float("nan"), float("inf"), 1e308),
    *("", "x" * 256, "x" * 5000, "a\0b", "\ud800", "é", "٣", "__class__", "builtins", "ValueError", "os", "system"),
    *([], {}, [[]], [None], {"": None}, [1, 2, 3], {"a": 1}, _nested(300)),
    *({"__type__": kind, "__value__": value} for kind in ("datetime", "decimal", "uuid") for value in (1, "x", [1])),
    {"__type__": "decimal", "__value__": "sNaN"},
    {"__type__": "decimal", "__value__": "1E+999999"},
    {"__type__": "celery.mapping", "__value__": [["__type__", 1], ["__value__", 2]]},
    {"__type__": "celery.mapping", "__value__": [[[], 1]]},
    {"__type__": "bytes", "__value__": "x"},
    {"__type__": "base64", "__value__": "!"},
    {"__type__": [], "__value__": {}},
    {"__type__": "uuid", "__value__": {"hex": "0" * 32, "int": 5}},
    {"__type__": "uuid", "__value__": {"int": -1}},
    {"__type__": "time", "__value__": "25:00"},
)


def joined(fields: Sequence[bytes]) -> bytes:
    """Return the fields as one text of bytes, as libFuzzer keeps a case."""
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def parted(data: bytes) -> Fields:
    """Return the fields in `data`, whatever it is."""
    fields = []
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        fields.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return fields


def field(fields: Sequence[bytes], position: int) -> bytes:
    """Return a field; empty where the case has none."""
    return fields[position] if position < len(fields) else b""


def mutated(fields: Sequence[bytes], chance: Random) -> Fields:
    """Return a case that differs from `fields` in one to four places."""
    changed = list(fields) or [b""]
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
        position = _position(changed, chance)
        changed[position] = _mutated_field(changed[position], chance)[:LARGEST_CASE]
    return changed


def _position(fields: Fields, chance: Random) -> int:
    """Choose a field; those with more in them are chosen more often."""
    return chance.choices(range(len(fields)), [2 + min(len(one), 512) for one in fields])[0]


def _mutated_field(data: bytes, chance: Random) -> bytes:
    if data[:1] in {b"{", b"["} and chance.random() < 0.6:
        try:
            return _mutated_json(data, chance)
        except (ValueError, RecursionError):
            pass
    return chance.choice(BYTEWISE)(data, chance)


# -- as bytes


def _at(data: bytes, chance: Random) -> int:
    return chance.randrange(len(data) + 1)


def _flipped(data: bytes, chance: Random) -> bytes:
    at = _at(data, chance)
    return data[:at] + bytes([(data[at : at + 1] or b"\0")[0] ^ (1 << chance.randrange(8))]) + data[at + 1 :]


def _replaced(data: bytes, chance: Random) -> bytes:
    at = _at(data, chance)
    return data[:at] + chance.randbytes(1) + data[at + 1 :]


def _inserted(data: bytes, chance: Random) -> bytes:
    at = _at(data, chance)
    return data[:at] + chance.choice(TOKENS) + data[at:]


def _overwritten(data: bytes, chance: Random) -> bytes:
    at, token = _at(data, chance), chance.choice(TOKENS)
    return data[:at] + token + data[at + len(token) :]


def _cut(data: bytes, chance: Random) -> bytes:
    return data[: _at(data, chance)]


def _thinned(data: bytes, chance: Random) -> bytes:
    start, end = sorted((_at(data, chance), _at(data, chance)))
    return data[:start] + data[min(end, start + 16) :]


def _doubled(data: bytes, chance: Random) -> bytes:
    start, end = sorted((_at(data, chance), _at(data, chance)))
    return data[:end] + data[start:end] + data[end:]


def _emptied(_data: bytes, _chance: Random) -> bytes:
    return b""


Change = Callable[[bytes, Random], bytes]
#: The gentle ones more often: what is far from valid is refused at the door.
BYTEWISE: tuple[Change, ...] = (
    *(_flipped, _flipped, _flipped, _replaced, _replaced, _replaced, _inserted, _inserted, _inserted),
    *(_overwritten, _overwritten, _cut, _thinned, _thinned, _doubled, _emptied),
)


# -- as JSON


def _mutated_json(data: bytes, chance: Random) -> bytes:
    value = json.loads(data)
    places = _places(value, [])
    if not places:
        return json.dumps(chance.choice(ODD_VALUES)).encode()
    holder, key = chance.choice(places)
    chance.choice(JSONWISE)(holder, key, chance)
    return json.dumps(value, ensure_ascii=chance.random() < 0.9).encode("utf-8", "surrogatepass")


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Return where the values stand: containers, and keys or positions in them."""
    if isinstance(value, dict | list) and len(found) < 200:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            found.append((value, key))
            _places(inner, found)
    return found


def _put_odd(holder: Any, key: Any, chance: Random) -> None:
    holder[key] = chance.choice(ODD_VALUES)


def _wrap(holder: Any, key: Any, chance: Random) -> None:
    holder[key] = [holder[key]] if chance.random() < 0.5 else {str(key): holder[key]}


def _retype(holder: Any, key: Any, chance: Random) -> None:
    holder[key] = str(holder[key])[:200] if chance.random() < 0.7 else repr(holder[key])[:200]


def _remove(holder: Any, key: Any, _chance: Random) -> None:
    del holder[key]


def _rename(holder: Any, key: Any, chance: Random) -> None:
    if isinstance(holder, dict):
        holder[chance.choice(("", "task", "id", "args", "__type__", "self", "x" * 300, "\ud800"))] = holder.pop(key)
    else:
        holder.append(holder[key])


def _exchange(holder: Any, key: Any, chance: Random) -> None:
    other = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    holder[key], holder[other] = holder[other], holder[key]


JSONWISE: tuple[Callable[[Any, Any, Random], None], ...] = (
    *(_put_odd, _put_odd, _put_odd, _put_odd, _wrap, _retype, _remove, _rename, _exchange),
)

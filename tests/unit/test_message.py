import json
import math
import uuid
import zlib
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from celery import message as wire
from celery.exceptions import MessageTooLarge, UndecodableMessage, UnsendableArgument
from celery.message import Call, Message

HOUR = timedelta(hours=1)
ZONES = st.sampled_from([UTC, timezone(2 * HOUR), timezone(-5 * HOUR - timedelta(minutes=30))])
TEXT = st.text(max_size=20)
NUMBERS = st.integers() | st.floats(allow_nan=False)
RICH = (
    st.datetimes(timezones=st.none() | ZONES).map(lambda moment: moment.replace(fold=0))
    | st.dates()
    | st.times().map(lambda moment: moment.replace(fold=0))
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.binary(max_size=20)
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXT | RICH
#: Dictionaries that look like marks of the serializer, with anything in them.
MARKS = st.sampled_from(["datetime", "uuid", "bytes", "decimal", wire.ESCAPED, "no such type"])


def _nested(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    marked = st.fixed_dictionaries({"__type__": MARKS | values, "__value__": values})
    return st.lists(values, max_size=4) | st.dictionaries(TEXT, values, max_size=4) | marked


VALUES = st.recursive(SCALARS, _nested, max_leaves=12)
PLAIN = st.recursive(st.none() | st.booleans() | NUMBERS | TEXT, _nested, max_leaves=12)


def call(*args: Any, **kwargs: Any) -> Call:
    return Call(task="shop.add", task_id="0b8a", args=args, kwargs=kwargs)


def sent_and_read(asked: Call, serializer: str = "json") -> Call:
    content_type, encoding, body = wire.encode(asked, serializer)
    return wire.decode(body, content_type=content_type, content_encoding=encoding, headers={})


def read(body: bytes | dict[str, Any] | list[Any], headers: dict[str, Any] | None = None) -> Call:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return wire.decode(data, content_type=wire.JSON, content_encoding="utf-8", headers=headers or {})


def body_with(**fields: Any) -> dict[str, Any]:
    return {"task": "shop.add", "id": "0b8a", "args": [], "kwargs": {}} | fields


class TestWhatGoesInComesOut:
    @given(args=st.lists(VALUES, max_size=4), kwargs=st.dictionaries(TEXT, VALUES, max_size=4))
    def test_arguments(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        asked = Call(task="shop.add", task_id="0b8a", args=args, kwargs=kwargs)

        got = sent_and_read(asked)

        assert (list(got.args), got.kwargs) == (args, kwargs)

    @given(value=VALUES)
    def test_the_types_of_values(self, value: Any) -> None:
        (got,) = sent_and_read(call(value)).args

        assert repr(_without_zones(got)) == repr(_without_zones(value))

    @given(
        retries=st.integers(min_value=0, max_value=1000),
        eta=st.none() | st.datetimes(timezones=ZONES),
        expires=st.none() | st.datetimes(timezones=ZONES),
        taskset=st.none() | st.text(min_size=1, max_size=20),
    )
    def test_the_other_fields(
        self, retries: int, eta: datetime | None, expires: datetime | None, taskset: str | None
    ) -> None:
        asked = Call(task="t", task_id="i", retries=retries, eta=eta, expires=expires, taskset=taskset)

        assert sent_and_read(asked) == asked

    @given(value=VALUES)
    def test_results(self, value: Any) -> None:
        assert wire.from_json(wire.to_json(value)) == value

    def test_not_a_number_stays_not_a_number(self) -> None:
        (got,) = sent_and_read(call(math.nan)).args

        assert math.isnan(got)

    def test_a_tuple_arrives_as_a_list(self) -> None:
        assert sent_and_read(call((1, (2, 3)))).args == [[1, [2, 3]]]

    @pytest.mark.parametrize("text", ["\0", "\ud800", "\U0001f600", " ", '"\\'])
    def test_any_character(self, text: str) -> None:
        assert sent_and_read(call(text, name=text)).args == [text]

    @pytest.mark.parametrize("accepted", ["pickle", "application/x-python-serialize"])
    def test_with_another_serializer_that_is_accepted(self, accepted: str, settings: Settings) -> None:
        settings.CELERY_ACCEPT_CONTENT = [accepted]

        got = sent_and_read(call(1, {"a": "é"}), "pickle")

        assert got.args == [1, {"a": "é"}]

    def test_five_megabytes(self) -> None:
        value = "x" * 5_000_000

        assert sent_and_read(call(value)).args == [value]


def _without_zones(value: Any) -> Any:
    """Zones come back as equal ones of another type, whose repr differs."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _without_zones(item) for key, item in value.items()}
    return [_without_zones(item) for item in value] if isinstance(value, list) else value


class TestTheBody:
    def test_it_is_the_classic_one(self) -> None:
        asked = Call(task="shop.add", task_id="0b8a", args=(2,), kwargs={"y": 3}, eta=datetime(2026, 1, 2, tzinfo=UTC))

        content_type, encoding, body = wire.encode(asked, "json")

        assert (content_type, encoding) == ("application/json", "utf-8")
        assert json.loads(body) == {
            "task": "shop.add",
            "id": "0b8a",
            "args": [2],
            "kwargs": {"y": 3},
            "retries": 0,
            "eta": "2026-01-02T00:00:00+00:00",
            "expires": None,
            "utc": True,
            "taskset": None,
        }

    def test_it_needs_nothing_but_the_name_and_the_id(self) -> None:
        assert read({"task": "shop.add", "id": "0b8a"}) == Call(task="shop.add", task_id="0b8a", args=(), kwargs={})

    def test_a_moment_without_a_zone_is_utc(self) -> None:
        assert read(body_with(eta="2026-01-02T03:04:05")).eta == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def test_fields_of_others_are_passed_over(self) -> None:
        assert read(body_with(callbacks=[1], errbacks=None, timelimit=[None, 3], chord={})).task == "shop.add"


class TestProtocol2:
    """As the public documentation of Celery's message protocol has it: the call in headers, arguments in the body."""

    HEADERS: ClassVar[dict[str, Any]] = {
        "lang": "py",
        "task": "shop.add",
        "id": "0b8a",
        "root_id": "0b8a",
        "parent_id": None,
        "group": "g1",
    }
    EMBED: ClassVar[dict[str, Any]] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}

    def test_the_call_is_read_from_headers_and_body(self) -> None:
        got = read([[2], {"y": 3}, self.EMBED], self.HEADERS)

        assert got == Call(task="shop.add", task_id="0b8a", args=[2], kwargs={"y": 3}, taskset="g1")

    def test_retries_and_moments_are_headers(self) -> None:
        headers = self.HEADERS | {
            "retries": 2,
            "eta": "2026-01-02T00:00:00+02:00",
            "expires": "2026-01-03T00:00:00+00:00",
        }

        got = read([[], {}, self.EMBED], headers)

        assert got.retries == 2
        assert got.eta == datetime(2026, 1, 1, 22, tzinfo=UTC)
        assert got.expires == datetime(2026, 1, 3, tzinfo=UTC)

    def test_its_body_without_its_headers_is_undecodable(self) -> None:
        with pytest.raises(UndecodableMessage):
            read([[2], {"y": 3}, self.EMBED])


class TestHostileBodies:
    @given(body=st.binary(max_size=200))
    def test_bytes_of_any_kind_are_undecodable(self, body: bytes) -> None:
        with pytest.raises(UndecodableMessage):
            read(body)

    @given(body=PLAIN, headers=st.dictionaries(st.sampled_from(["task", "id", "eta", "retries", "group"]), PLAIN))
    def test_json_of_any_form_is_a_call_or_undecodable(self, body: Any, headers: dict[str, Any]) -> None:
        assert_call_or_undecodable(json.dumps(body).encode(), headers)

    @given(
        fields=st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(
                ("task", "id", "args", "kwargs", "retries", "eta", "expires", "taskset", "utc"), PLAIN
            ),
        )
    )
    def test_fields_of_any_type_are_a_call_or_undecodable(self, fields: dict[str, Any]) -> None:
        assert_call_or_undecodable(json.dumps(body_with(**fields)).encode(), {})

    @pytest.mark.parametrize(
        "argument",
        [
            '{"__type__": ["x"], "__value__": 1}',
            '{"__type__": "no such type", "__value__": 1}',
            '{"__type__": "datetime", "__value__": "yesterday"}',
            '{"__type__": "datetime", "__value__": 1e400}',
            '{"__type__": "decimal", "__value__": "1,5"}',
            '{"__type__": "uuid", "__value__": {"hex": "x"}}',
            '{"__type__": "uuid", "__value__": [1]}',
            '{"__type__": "base64", "__value__": "x"}',
            '{"__type__": "celery.mapping", "__value__": 7}',
            '{"__type__": "celery.mapping", "__value__": [[[], 1]]}',
            "[" * 100_000,
            "1" * 5_000,
        ],
        ids=lambda text: text[:60],
    )
    def test_a_value_that_its_reader_refuses_is_undecodable(self, argument: str) -> None:
        with pytest.raises(UndecodableMessage):
            read(f'{{"task": "shop.add", "id": "0b8a", "args": [{argument}]}}'.encode())

    @pytest.mark.parametrize("field", ["task", "id"])
    @pytest.mark.parametrize("name", [None, "", 7, ["shop.add"], "x" * 256, "a\0b", "\ud800"], ids=repr)
    def test_a_name_that_no_row_can_hold_is_undecodable(self, field: str, name: Any) -> None:
        with pytest.raises(UndecodableMessage, match=field):
            read(body_with(**{field: name}))

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("args", "text"),
            ("args", {"0": 1}),
            ("kwargs", [["x", 1]]),
            ("kwargs", "text"),
            ("retries", "many"),
            ("retries", 1.5),
            ("eta", 1700000000),
            ("eta", "tomorrow"),
            ("expires", True),
            ("taskset", {"a": 1}),
            ("taskset", ["a-set"]),
        ],
        ids=repr,
    )
    def test_a_field_of_the_wrong_type_is_undecodable(self, field: str, value: Any) -> None:
        with pytest.raises(UndecodableMessage):
            read(body_with(**{field: value}))

    @pytest.mark.parametrize("retries", [-1, 2**31, 10**40])
    def test_a_count_of_retries_that_no_row_can_hold_is_undecodable(self, retries: int) -> None:
        with pytest.raises(UndecodableMessage):
            read(body_with(retries=retries))

    @pytest.mark.parametrize("field", ["eta", "expires"])
    @pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
    def test_a_moment_outside_of_all_calendars_is_undecodable(self, field: str, moment: str) -> None:
        with pytest.raises(UndecodableMessage):
            read(body_with(**{field: moment}))

    def test_keyword_arguments_have_names(self) -> None:
        with pytest.raises(UndecodableMessage):
            read(body_with(kwargs={"__type__": wire.ESCAPED, "__value__": [[1, 2]]}))

    def test_content_that_is_not_accepted_is_undecodable(self) -> None:
        with pytest.raises(UndecodableMessage, match=r"pickle|python-serialize"):
            wire.decode(b"x", content_type="application/x-python-serialize", content_encoding="binary", headers={})

    def test_json_is_undecodable_where_it_is_not_accepted(self, settings: Settings) -> None:
        settings.CELERY_ACCEPT_CONTENT = ["pickle"]

        with pytest.raises(UndecodableMessage):
            read(body_with())

    @pytest.mark.parametrize(
        ("content_type", "encoding"), [("text/nonsense", "utf-8"), ("", ""), (wire.JSON, "no such")]
    )
    def test_content_of_unknown_types_is_a_call_or_undecodable(self, content_type: str, encoding: str) -> None:
        try:
            wire.decode(b"\xff", content_type=content_type, content_encoding=encoding, headers={})
        except UndecodableMessage:
            return
        pytest.fail("these bytes are no call")

    @pytest.mark.parametrize("content_type", ["application/text", "application/data", "", "text/plain"])
    def test_no_codec_unpacks_a_body_of_a_type_that_nobody_accepts(
        self, content_type: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Kombu trusts the first two, and a codec may make gigabytes of a small body."""
        monkeypatch.setattr(wire, "kombu_loads", lambda *_, **__: pytest.fail("it was unpacked"))

        with pytest.raises(UndecodableMessage, match="not accepted"):
            wire.decode(zlib.compress(b"x" * 9999), content_type=content_type, content_encoding="zlib", headers={})

    def test_a_value_of_which_nothing_can_be_said_is_undecodable(self) -> None:
        """A UUID made of a decimal has no text, and it was in the text of the reason."""
        number = '{"__type__": "decimal", "__value__": "5"}'
        broken = f'{{"__type__": "uuid", "__value__": {{"int": {number}}}}}'

        with pytest.raises(UndecodableMessage, match=r"cannot be decoded \(application/json\): ValueError$"):
            read(f'{{"__type__": {broken}, "__value__": 1}}'.encode())

    def test_the_reason_says_what_was_wrong(self) -> None:
        with pytest.raises(UndecodableMessage, match=r"cannot be decoded.*JSONDecodeError"):
            read(b"{")


def assert_call_or_undecodable(body: bytes, headers: dict[str, Any]) -> None:
    try:
        got = read(body, headers)
    except UndecodableMessage:
        return
    assert isinstance(got.task, str)
    assert isinstance(got.task_id, str)
    assert isinstance(got.retries, int)
    assert isinstance(got.args, list | tuple)
    assert isinstance(got.kwargs, dict)


class TestWhatCannotBeSent:
    @pytest.mark.parametrize(
        "value",
        [object(), {1, 2}, 1j, lambda: 1, ValueError("x"), {"deep": [{"in": object()}]}],
        ids=lambda v: type(v).__name__,
    )
    def test_the_argument_is_named(self, value: Any) -> None:
        with pytest.raises(UnsendableArgument, match=r"argument 2 of shop\.add, of type"):
            wire.encode(call(1, value), "json")

    def test_the_keyword_argument_is_named(self) -> None:
        with pytest.raises(UnsendableArgument, match=r"argument 'order' of shop\.add, of type object"):
            wire.encode(call(1, order=object()), "json")

    @pytest.mark.parametrize("key", [1, None, True, (1, 2), 1.5])
    def test_a_key_that_json_would_turn_into_text_is_refused(self, key: Any) -> None:
        with pytest.raises(UnsendableArgument, match="JSON has only text keys"):
            wire.encode(call([{key: 1}]), "json")

    def test_a_list_that_contains_itself_is_refused(self) -> None:
        endless: list[Any] = []
        endless.append(endless)

        with pytest.raises(UnsendableArgument, match="argument 1"):
            wire.encode(call(endless), "json")

    def test_the_reason_is_chained(self) -> None:
        with pytest.raises(UnsendableArgument) as caught:
            wire.encode(call(object()), "json")

        assert isinstance(caught.value.__cause__, TypeError)

    def test_an_unknown_serializer_is_named(self) -> None:
        with pytest.raises(UnsendableArgument, match="there is no serializer 'jsn'"):
            wire.encode(call(1), "jsn")

    def test_a_message_that_is_too_large_is_refused_with_both_sizes(self, settings: Settings) -> None:
        settings.CELERY_MESSAGE_MAX_BYTES = 2000

        with pytest.raises(MessageTooLarge, match=r"takes 2,\d\d\d bytes; CELERY_MESSAGE_MAX_BYTES allows 2,000"):
            wire.encode(call("x" * 2000), "json")


class TestHeadersInARow:
    @given(headers=st.dictionaries(TEXT.filter(lambda name: not name.startswith("content-")), VALUES, max_size=4))
    def test_they_come_out_as_they_went_in(self, headers: dict[str, Any]) -> None:
        packed = wire.pack_headers(message(headers=headers))

        assert wire.unpack_headers(packed) == (wire.JSON, "utf-8", headers)

    def test_nothing_special_takes_no_room(self) -> None:
        assert wire.pack_headers(message()) == ""

    @pytest.mark.parametrize(
        "value",
        [
            '{"__type__": "celery.mapping", "__value__": [[1, 2]]}',
            '{"__type__": "uuid", "__value__": {"int": {"__type__": "decimal", "__value__": "5"}}}',
            "[" * 480 + "]" * 480,
        ],
        ids=["a key that is no text", "a value without a text", "deep nesting"],
    )
    def test_what_could_be_read_and_not_be_written_again_is_left_out(self, value: str) -> None:
        """Whoever keeps the message, as one that is dead for example, has to write its headers again."""
        packed = f'{{"content-type": "text/plain", "odd": {value}}}'

        content_type, encoding, headers = wire.unpack_headers(packed)

        assert wire.pack_headers(message(content_type=content_type, content_encoding=encoding, headers=headers)) == ""

    def test_another_content_type_is_kept(self) -> None:
        packed = wire.pack_headers(
            message(content_type="application/x-yaml", content_encoding="utf-16", headers={"a": 1})
        )

        assert wire.unpack_headers(packed) == ("application/x-yaml", "utf-16", {"a": 1})

    @pytest.mark.parametrize("name", [wire.ATTEMPT, wire.CRASHES, wire.STARTS, wire.RELAYED, wire.UNKNOWN_FOR])
    def test_none_of_ours_marks_another_protocol(self, name: str) -> None:
        assert name not in {"task", "id", "lang"}


def message(**fields: Any) -> Message:
    return Message(**{"task_id": "0b8a", "task": "shop.add", "body": b"{}", "queue": "celery"} | fields)


@pytest.mark.parametrize(
    "value",
    [
        date(2026, 1, 2),
        datetime(2026, 1, 2, 3, tzinfo=UTC),
        time(4, 5),
        Decimal("1.10"),
        uuid.UUID(int=5),
        b"\xff\0",
        b"text",
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("around", [lambda value: value, lambda value: [value], lambda value: {"a": {"b": value}}])
def test_rich_values_keep_their_type_at_any_depth(value: Any, around: Callable[[Any], Any]) -> None:
    (got,) = sent_and_read(call(around(value))).args

    assert got == around(value)
    assert repr(got) == repr(around(value))


#: What `unpack_headers` returns for what is no headers.
NO_HEADERS: tuple[str, str, dict[str, Any]] = (wire.JSON, "utf-8", {})


@given(packed=st.text() | PLAIN.map(json.dumps))
def test_any_text_has_headers_of_the_right_kind(packed: str) -> None:
    content_type, encoding, headers = wire.unpack_headers(packed)

    assert (type(content_type), type(encoding), type(headers)) == (str, str, dict)
    assert all(isinstance(name, str) for name in headers)


@given(value=st.none() | st.booleans() | NUMBERS | TEXT | st.lists(PLAIN, max_size=4))
def test_json_that_is_no_object_has_no_headers(value: Any) -> None:
    assert wire.unpack_headers(json.dumps(value)) == NO_HEADERS


@pytest.mark.parametrize(
    "packed",
    [
        "",
        "5",
        "{",
        "nonsense",
        "[" * 100_000,
        '{"a":' * 100_000,
        "1" * 5000,
        '{"__type__": "celery.mapping", "__value__": [[1, 2]]}',
        '{"__type__": "celery.mapping", "__value__": 5}',
        '{"__type__": "datetime", "__value__": "yesterday"}',
    ],
    ids=lambda packed: packed[:20],
)
def test_text_that_cannot_be_headers_has_none(packed: str) -> None:
    assert wire.unpack_headers(packed) == NO_HEADERS


def test_a_serializer_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UnsendableArgument, match=r"there is no serializer 'telepathy'; there are: .*\bjson\b"):
        wire.encode(call(1), "telepathy")


def test_a_keyword_argument_without_a_name_of_text_is_refused() -> None:
    with pytest.raises(UnsendableArgument, match=r"the keyword argument 1 of shop\.add"):
        wire.encode(Call(task="shop.add", task_id="id", kwargs={1: 2}), "json")  # type: ignore[dict-item]


class TestNamesOfStrangers:
    @pytest.mark.parametrize(
        ("value", "name"),
        [
            ("0b8a", "0b8a"),
            (b"\xff\0", "\\xff\\x00"),
            ("a\0b\ud800", "a\\x00b\\ud800"),
            ("x" * 300, "x" * 255),
            (7, "7"),
            (None, "None"),
            ("", "?"),
            (b"", "?"),
        ],
        ids=repr,
    )
    def test_whatever_it_is_becomes_one_that_every_database_takes(self, value: Any, name: str) -> None:
        assert wire.name_in(value) == name
        assert wire.is_name(name)

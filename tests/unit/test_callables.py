import functools
import operator
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from django.core.signing import Signer
from hypothesis import assume, given
from hypothesis import strategies as st

from celery.exceptions import InvalidTask, UnsendableArgument, UntrustedMessage
from celery.message import JSON, Call, decode, encode, from_json, to_json
from celery.task.callables import check, find, name_of, sealed
from tests.shop import tasks
from tests.shop.ledger import append

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.datetimes() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


class Till:
    """A class as any module may have one."""

    def open(self) -> None: ...

    @staticmethod
    def total(*amounts: float) -> float:
        return sum(amounts)

    @classmethod
    def make(cls) -> "Till":
        return cls()


def original() -> None:
    """Another function has its name now."""


replaced: Any = original
original = append  # type: ignore[assignment]


class TestNames:
    @pytest.mark.parametrize(
        ("function", "name"),
        [
            (operator.add, "_operator:add"),
            (len, "builtins:len"),
            (append, "tests.shop.ledger:append"),
            (tasks.add, "tests.shop.tasks:add"),
            (dict, "builtins:dict"),
            (Till, f"{__name__}:Till"),
            (Till.total, f"{__name__}:Till.total"),
            (Till.make, f"{__name__}:Till.make"),
            (Till.open, f"{__name__}:Till.open"),
        ],
        ids=lambda found: found if isinstance(found, str) else "",
    )
    def test_a_name_leads_back_to_its_callable(self, function: Callable[..., Any], name: str) -> None:
        assert name_of(function) == name
        assert find(name) == function

    def refusals(self) -> list[tuple[Any, str]]:
        def inner() -> None: ...

        return [
            (lambda: None, "a lambda"),
            (inner, "local to another function"),
            (Till().open, "bound to an object of type Till"),
            ([].append, "bound to an object of type list"),
            (functools.partial(append, "x"), "no module and name"),
            (replaced, "does not lead back to it"),
            (dict.fromkeys, "no module and name"),
            (42, "not callable"),
        ]

    @pytest.mark.parametrize("number", range(8))
    def test_what_no_worker_could_find_is_refused(self, number: int) -> None:
        function, reason = self.refusals()[number]

        with pytest.raises(InvalidTask, match=f"cannot be called remotely: .*{reason}|{reason} cannot be called"):
            name_of(function)

    def test_a_function_of_the_program_that_was_started_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(append, "__module__", "__main__")

        with pytest.raises(InvalidTask, match="Put it in a module"):
            name_of(append)

    def test_a_function_of_a_module_that_nobody_can_import_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(append, "__module__", "made_by_hand")

        with pytest.raises(InvalidTask, match="does not lead back"):
            name_of(append)

    @pytest.mark.parametrize("name", ["tests.shop.ledger:gone", "tests.shop.ledger:Path.gone", "tests.shop.ledger:"])
    def test_a_name_that_leads_nowhere_says_what_to_look_at(self, name: str) -> None:
        with pytest.raises(InvalidTask, match="does this worker run the code of the sender"):
            find(name)

    def test_a_module_that_is_missing_here_is_named(self) -> None:
        with pytest.raises(ImportError, match="no_such_module"):
            find("no_such_module:function")


def call_of(task_id: str = "1d", **changes: Any) -> Call:
    parts = sealed("remote", "1d", "_operator:add", [[2, 2], {}])
    return Call(**{"task": "remote", "task_id": task_id, "args": parts, **changes})


def with_part(number: int, text: Any) -> tuple[Any, ...]:
    parts: list[Any] = list(call_of().args)
    parts[number] = text
    return tuple(parts)


FORGERIES: dict[str, dict[str, Any]] = {
    "another function": {"args": with_part(0, "os:system")},
    "other arguments": {"args": with_part(1, "[[2, 3], {}]")},
    "the same arguments in another form": {"args": with_part(1, "[[2,2],{}]")},
    "another id": {"task_id": "1e"},
    "another task": {"task": "map"},
    "no seal": {"args": with_part(2, "")},
    "a seal of somebody": {"args": with_part(2, "x" * 43)},
    "a seal with its own separator": {"args": with_part(2, f"x:{call_of().args[2]}")},
    "a seal that is no text": {"args": with_part(2, 7)},
    "a seal that is no ascii": {"args": with_part(2, "é")},
    "a seal that no encoding has": {"args": with_part(2, "\ud800")},
    "a name that no encoding has": {"args": with_part(0, "\ud800")},
    "a part too many": {"args": (*call_of().args, "more")},
    "a part too few": {"args": call_of().args[:2]},
    "nothing at all": {"args": ()},
    "keywords": {"kwargs": {"function": "os:system"}},
}


class TestSeals:
    def test_what_was_sealed_is_admitted(self) -> None:
        check(call_of())

    @pytest.mark.parametrize("changes", FORGERIES.values(), ids=FORGERIES)
    def test_anything_else_is_refused(self, changes: dict[str, Any]) -> None:
        with pytest.raises(UntrustedMessage, match="is not run"):
            check(call_of(**changes))

    def test_the_refusal_names_what_was_to_be_called(self) -> None:
        with pytest.raises(UntrustedMessage, match=r"'os:system' with these arguments.*SECRET_KEY_FALLBACKS"):
            check(call_of(**FORGERIES["another function"]))

    def test_nothing_is_imported_and_nothing_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("celery.task.callables.import_module", lambda name: pytest.fail(f"it imported {name}"))
        for changes in FORGERIES.values():
            with pytest.raises(UntrustedMessage):
                check(call_of(**changes))

    def test_a_seal_of_another_key_is_refused(self, settings: Any) -> None:
        call = call_of()
        settings.SECRET_KEY = "another key"

        with pytest.raises(UntrustedMessage):
            check(call)

    def test_a_seal_of_the_key_before_is_admitted_while_that_is_kept(self, settings: Any) -> None:
        call = call_of()
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
        settings.SECRET_KEY = "another key"

        check(call)

    @given(args=st.lists(VALUES), kwargs=st.dictionaries(st.text(), VALUES))
    def test_whatever_arguments_travel_their_seal_fits_at_the_end(self, args: Any, kwargs: Any) -> None:
        parts = sealed("remote", "1d", "_operator:add", [args, kwargs])
        content_type, encoding, body = encode(Call(task="remote", task_id="1d", args=parts), "json")

        arrived = decode(body, content_type=content_type, content_encoding=encoding, headers={})

        check(arrived)
        assert content_type == JSON
        assert from_json(arrived.args[1]) == from_json(parts[1])

    @given(
        part=st.integers(0, 2),
        position=st.integers(0, 60),
        change=st.sampled_from(["cut", "dropped", "doubled", "another case", "another character"]),
    )
    def test_no_part_of_it_may_differ_by_a_character(self, part: int, position: int, change: str) -> None:
        text = str(call_of().args[part])
        at = position % len(text)
        changed = {
            "cut": text[:at],
            "dropped": text[:at] + text[at + 1 :],
            "doubled": text[: at + 1] + text[at:],
            "another case": text[:at] + text[at].swapcase() + text[at + 1 :],
            "another character": text[:at] + ("B" if text[at] == "A" else "A") + text[at + 1 :],
        }[change]
        assume(changed != text)

        with pytest.raises(UntrustedMessage):
            check(call_of(args=with_part(part, changed)))

    @pytest.mark.parametrize("salt", ["", "celery.task", "django.core.signing.Signer", "celery.task.callables2"])
    def test_a_seal_under_another_salt_is_refused(self, salt: str) -> None:
        name, arguments, _ = call_of().args
        statement = to_json(["remote", "1d", name, arguments])

        with pytest.raises(UntrustedMessage):
            check(call_of(args=(name, arguments, Signer(salt=salt or None).signature(statement))))

    def test_a_seal_of_another_algorithm_is_refused(self) -> None:
        name, arguments, _ = call_of().args
        signer = Signer(salt="celery.task.callables", algorithm="md5")

        with pytest.raises(UntrustedMessage):
            check(call_of(args=(name, arguments, signer.signature(to_json(["remote", "1d", name, arguments])))))

    def test_of_many_keys_that_are_kept_each_is_honoured_and_no_other(self, settings: Any) -> None:
        by_key = {}
        for key in ("first", "second", "third", "fourth"):
            settings.SECRET_KEY = key
            by_key[key] = call_of()
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "fourth", ["third", "second"]

        for key in ("second", "third", "fourth"):
            check(by_key[key])
        with pytest.raises(UntrustedMessage, match="SECRET_KEY_FALLBACKS"):
            check(by_key["first"])

    def test_arguments_that_json_cannot_carry_are_refused(self) -> None:
        with pytest.raises(UnsendableArgument, match="the arguments for shop:pay cannot be sent as JSON"):
            sealed("remote", "1d", "shop:pay", [[object()], {}])


def test_finding_imports_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)

    function = find("colorsys:rgb_to_hls")

    assert function(0, 0, 0) == (0.0, 0.0, 0.0)
    assert isinstance(sys.modules["colorsys"], ModuleType)

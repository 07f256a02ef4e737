"""celery/backends/exceptions.py: exceptions as text, and back without running anything of theirs."""

import asyncio
import builtins
import json
import os
import subprocess
import sys
import traceback
import zoneinfo
from decimal import Decimal, InvalidOperation
from types import ModuleType
from typing import Any, NoReturn, Self

import pytest
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from hypothesis import given
from hypothesis import strategies as st

from celery.backends.exceptions import LONGEST_TEXT, clean, dump, load, traceback_text
from celery.exceptions import NotRegistered, UnpickleableExceptionWrapper

ran: list[str] = []


class Unpayable(Exception):
    """Its __init__ wants something else than its args show, and tells that it ran."""

    def __init__(self, *, order: int) -> None:
        ran.append("__init__")
        super().__init__(f"order {order}")
        self.order = order


class Eager(Exception):
    """Its __new__ does something."""

    def __new__(cls, *args: Any) -> Self:
        ran.append("__new__")
        return super().__new__(cls, *args)


class Watching(Exception):
    """It acts when its args or its notes are set."""

    def __setattr__(self, name: str, value: object) -> None:
        ran.append("__setattr__")
        super().__setattr__(name, value)


class Trapped(Exception):
    """Its args are a property."""

    @property
    def args(self) -> Any:
        ran.append("args read")
        return (1,)

    @args.setter
    def args(self, value: Any) -> None:
        ran.append("args written")


class Mute(Exception):
    """Nothing of it can be shown."""

    def __str__(self) -> NoReturn:
        raise RuntimeError("no text")

    def __repr__(self) -> NoReturn:
        raise RuntimeError("no repr")


class WithoutArgs(Exception):
    """Its args cannot be had."""

    @property
    def args(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no args")


class NotFound(OSError, KeyError):
    """Two built-in bases."""


class Meta(type):
    """Its classes act when anybody looks at them."""

    def __getattribute__(cls, name: str) -> Any:
        ran.append(f"metaclass: {name}")
        return super().__getattribute__(name)

    def __instancecheck__(cls, instance: object) -> bool:
        ran.append("metaclass: isinstance")
        return False


class Looked(Exception, metaclass=Meta):
    """Whoever looks at the class runs its metaclass."""


class Pretending(Exception):
    """It says that it is one of Python's own."""

    __module__ = "builtins"

    def __new__(cls, *args: Any) -> Self:
        ran.append("__new__")
        return super().__new__(cls, *args)


class Pricked(UnicodeDecodeError):
    """It acts when it is made, set, or asked for its attributes."""

    def __init__(self, *args: Any) -> None:
        ran.append("__init__")
        super().__init__(*args)

    def __setattr__(self, name: str, value: object) -> None:
        ran.append("__setattr__")

    def __getattribute__(self, name: str) -> Any:
        ran.append(f"__getattribute__ {name}")
        return super().__getattribute__(name)

    def __reduce__(self) -> Any:
        ran.append("__reduce__")
        return super().__reduce__()

    def __setstate__(self, state: Any) -> None:
        ran.append("__setstate__")


class Lazy:
    """Stands for something that is made when it is first asked for anything, as `django.conf.settings` does."""

    def __getattribute__(self, name: str) -> Any:
        ran.append(f"lazy: {name}")
        return object.__getattribute__(self, name)


lazy = Lazy()


class Outer:
    class Inner(Exception):
        """A class within a class."""


class Stop(BaseException):
    """Not an Exception: nobody who writes `except Exception` wants it."""


class Unshowable:
    def __repr__(self) -> NoReturn:
        raise RuntimeError("no repr")


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


def round_trip(error: BaseException) -> Any:
    text = dump(error)
    ran.clear()
    return load(text)


def stored(module: Any = "builtins", name: Any = "ValueError", args: Any = (), **more: Any) -> str:
    return json.dumps({"module": module, "class": name, "args": args} | more)


BUILTINS = [
    error
    for error in vars(builtins).values()
    if isinstance(error, type)
    and issubclass(error, Exception)
    and not issubclass(error, SyntaxError | UnicodeError | BaseExceptionGroup)
]


class TestRoundTrip:
    @pytest.mark.parametrize("kind", BUILTINS, ids=lambda kind: kind.__name__)
    def test_an_exception_of_python_itself(self, kind: type[Exception]) -> None:
        got = round_trip(kind("text", 2))

        assert (type(got), got.args) == (kind, ("text", 2))

    def test_an_os_error_keeps_its_number_and_its_class(self) -> None:
        got = round_trip(FileNotFoundError(2, "No such file", "orders.csv"))

        assert (type(got), got.errno, got.strerror, got.filename) == (
            FileNotFoundError,
            2,
            "No such file",
            "orders.csv",
        )

    def test_a_decode_error_keeps_its_five_arguments(self) -> None:
        got = round_trip(UnicodeDecodeError("utf-8", b"\xff\0", 0, 1, "invalid start byte"))

        assert (got.encoding, got.object, got.start, got.end, got.reason) == (
            "utf-8",
            b"\xff\0",
            0,
            1,
            "invalid start byte",
        )

    def test_a_syntax_error_keeps_its_place(self) -> None:
        with pytest.raises(SyntaxError) as caught:
            compile("a b", "shop.py", "exec")

        got = round_trip(caught.value)

        assert (type(got), got.msg, got.filename, got.lineno) == (SyntaxError, caught.value.msg, "shop.py", 1)

    def test_a_key_error_reads_as_before(self) -> None:
        assert str(round_trip(KeyError("door"))) == "'door'"

    @pytest.mark.parametrize(
        "error",
        [InvalidOperation("x"), json.JSONDecodeError("bad", "{", 1), ObjectDoesNotExist("gone"), NotRegistered("x")],
    )
    def test_an_exception_of_a_library(self, error: Exception) -> None:
        got = round_trip(error)

        assert (type(got), got.args) == (type(error), error.args)

    def test_a_class_within_a_class(self) -> None:
        assert type(round_trip(Outer.Inner("x"))) is Outer.Inner

    def test_two_built_in_bases(self) -> None:
        got = round_trip(NotFound(2, "gone"))

        assert (type(got), got.args) == (NotFound, (2, "gone"))

    def test_a_validation_error_of_django_can_be_caught_and_shown(self) -> None:
        got = round_trip(ValidationError("too long", code="length"))

        assert type(got) is ValidationError
        assert "too long" in repr(got.args)

    def test_rich_arguments_keep_their_types(self) -> None:
        args = (Decimal("1.10"), b"\xff", None, {"__type__": "date", "__value__": 1}, [1, {"a": 2.5}])

        assert round_trip(ValueError(*args)).args == args

    @given(args=st.lists(st.none() | st.booleans() | st.integers() | st.text(max_size=9), max_size=4))
    def test_any_plain_arguments(self, args: list[Any]) -> None:
        assert round_trip(ValueError(*args)).args == tuple(args)

    def test_notes_come_along(self) -> None:
        error = ValueError("x")
        error.add_note("in order 7")
        error.add_note("of shop 3")

        assert round_trip(error).__notes__ == ["in order 7", "of shop 3"]

    def test_without_notes_there_are_none(self) -> None:
        assert not hasattr(round_trip(ValueError("x")), "__notes__")

    def test_it_can_be_raised_and_caught_by_its_class(self) -> None:
        with pytest.raises(Unpayable, match="order 7"):
            raise round_trip(Unpayable(order=7))


class TestNothingOfItsOwnRuns:
    def test_no_init_of_a_class_that_takes_other_arguments(self) -> None:
        got = round_trip(Unpayable(order=7))

        assert (type(got), got.args, ran) == (Unpayable, ("order 7",), [])

    def test_no_new_of_a_class(self) -> None:
        got = round_trip(Eager("x"))

        assert (type(got), got.args, ran) == (Eager, ("x",), [])

    def test_no_setattr_of_a_class(self) -> None:
        error = Watching("x")
        error.add_note("a note")

        got = round_trip(error)

        assert (type(got), got.args, got.__notes__, ran) == (Watching, ("x",), ["a note"], [])

    def test_no_property_of_a_class(self) -> None:
        got = round_trip(Trapped())

        assert (type(got), ran) == (Trapped, [])

    @pytest.mark.parametrize(
        ("module", "name"),
        [
            ("os", "system"),
            ("builtins", "eval"),
            ("builtins", "exec"),
            ("builtins", "__import__"),
            ("subprocess", "Popen"),
            ("subprocess", "run"),
            ("builtins", "object"),
            ("builtins", "type"),
            ("builtins", "int"),
            ("tests", "__file__"),
        ],
    )
    def test_what_is_no_exception_class_is_not_called(
        self, module: str, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "system", lambda *_: ran.append("os.system"))
        monkeypatch.setattr(subprocess, "run", lambda *_: ran.append("subprocess.run"))

        got = load(stored(module, name, ["touch /tmp/hacked"]))

        assert (type(got).__name__, isinstance(got, UnpickleableExceptionWrapper), ran) == (name, True, [])

    def test_no_module_is_imported(self) -> None:
        assert "antigravity" not in sys.modules

        got = load(stored("antigravity", "FlightError", ["up"]))

        assert "antigravity" not in sys.modules
        assert (type(got).__name__, type(got).__module__) == ("FlightError", "antigravity")

    @pytest.mark.parametrize("name", ["Looked", "Looked.anything", "Pretending", "lazy", "lazy.anything", "Lazy.x"])
    def test_nothing_is_asked_of_what_a_name_leads_through(self, name: str) -> None:
        got = load(stored(__name__, name, ["x"], attributes={"plain": 1}))

        assert (ran, isinstance(got, Exception)) == ([], True)

    def test_a_class_that_says_it_is_one_of_python_is_made_as_any_other(self) -> None:
        got = load(stored(__name__, "Pretending", ["x"]))

        assert (type(got), got.args, ran) == (Pretending, ("x",), [])

    @pytest.mark.parametrize("args", [["odd"], ["utf-8", [1], 0, 1, "x"], []])
    def test_arguments_that_the_base_does_not_take_are_set_past_the_class(self, args: list[Any]) -> None:
        got = load(stored(__name__, "Pricked", args, attributes={"plain": 1}, notes=["a note"]))

        assert (type(got), ran) == (Pricked, [])
        assert got.args == tuple(args)

    def test_a_lazy_module_is_not_loaded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class LazyModule(ModuleType):
            def __getattribute__(self, name: str) -> Any:
                ran.append(f"loaded for {name}")
                return super().__getattribute__(name)

        monkeypatch.setitem(sys.modules, "lazy_shop", LazyModule("lazy_shop"))

        got = load(stored("lazy_shop", "Unpayable", ["x"]))

        assert (type(got).__name__, isinstance(got, UnpickleableExceptionWrapper), ran) == ("Unpayable", True, [])

    @pytest.mark.parametrize(
        "name", ["os.system", "path.join", "__builtins__", "environ.get", "error.__class__.__bases__"]
    )
    def test_no_way_through_attributes_leads_out(self, name: str) -> None:
        assert isinstance(load(stored("os", name, ["x"])), UnpickleableExceptionWrapper)


class TestAttributes:
    def test_plain_ones_come_back_so_that_its_text_can_be_made(self) -> None:
        got = round_trip(subprocess.CalledProcessError(3, ["tidy", "up"], output="half done"))

        assert (got.returncode, got.cmd, got.output, got.stderr) == (3, ["tidy", "up"], "half done", None)
        assert str(got) == str(subprocess.CalledProcessError(3, ["tidy", "up"]))

    def test_they_come_back_to_a_class_of_ones_own_without_running_it(self) -> None:
        got = round_trip(Unpayable(order=7))

        assert (type(got), got.order, ran) == (Unpayable, 7, [])

    def test_what_json_cannot_carry_or_is_too_long_is_left_out(self) -> None:
        error = Unpayable(order=7)
        vars(error).update(lock=object(), rows={1: 2}, log="x" * (LONGEST_TEXT + 1), plain=[1])

        assert vars(round_trip(error)) == {"order": 7, "plain": [1]}

    def test_they_are_set_past_the_class(self) -> None:
        error = Watching("text")
        error.plain = 1

        assert (vars(round_trip(error)), ran) == ({"plain": 1}, [])

    def test_names_that_begin_with_two_underscores_are_not_stored(self) -> None:
        error = Unpayable(order=7)
        vars(error)["__secret"] = 1

        assert json.loads(dump(error))["attributes"] == {"order": 7}

    @pytest.mark.parametrize("name", ["__class__", "__dict__", "__cause__", "__traceback__", "__secret"])
    def test_names_that_begin_with_two_underscores_never_come_back(self, name: str) -> None:
        got = load(stored(args=["text"], attributes={name: ["x"], "plain": 1}))

        assert (type(got), got.__cause__, got.__traceback__) == (ValueError, None, None)
        assert vars(got).get("plain") == 1
        assert name not in vars(got)

    @pytest.mark.parametrize("name", ["with_traceback", "add_note", "args"])
    def test_none_takes_the_place_of_a_method(self, name: str) -> None:
        got = load(stored(args=["text"], attributes={name: 1}))

        assert (got.with_traceback(None), got.args, vars(got)) == (got, ("text",), {})

    @pytest.mark.parametrize("name", ["exc_module", "exc_cls_name", "exc_args"])
    def test_none_takes_the_place_of_what_a_stand_in_was_made_of(self, name: str) -> None:
        got = load(stored("elsewhere", "Unpayable", ["order 7"], attributes={name: 5, "order": 7}))

        assert (str(got), repr(got), vars(got)["order"]) == ("order 7", "Unpayable('order 7')", 7)

    @pytest.mark.parametrize("attributes", [5, "text", [1], [["a", 1]], None])
    def test_what_are_no_attributes_is_no_exception_that_can_be_read(self, attributes: object) -> None:
        assert isinstance(load(stored(attributes=attributes)), UnpickleableExceptionWrapper)


class TestStandIns:
    def test_it_has_the_name_of_the_class_that_is_not_here(self) -> None:
        got = load(stored("elsewhere.errors", "Unpayable", ["order 7", 7]))

        assert isinstance(got, UnpickleableExceptionWrapper)
        assert (type(got).__name__, got.exc_module, got.exc_cls_name) == ("Unpayable", "elsewhere.errors", "Unpayable")
        assert list(got.exc_args) == ["order 7", 7]

    def test_it_reads_like_the_original(self) -> None:
        got = load(stored("elsewhere", "Unpayable", ["order 7"]))

        assert (str(got), repr(got)) == ("order 7", "Unpayable('order 7')")

    def test_it_has_the_notes_of_the_original(self) -> None:
        assert load(stored("elsewhere", "Unpayable", notes=["a note"])).__notes__ == ["a note"]

    def test_it_can_be_caught(self) -> None:
        with pytest.raises(UnpickleableExceptionWrapper):
            raise load(stored("elsewhere", "Unpayable"))

    @pytest.mark.parametrize(
        "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), Stop("x"), asyncio.CancelledError()]
    )
    def test_an_exception_that_ends_programs_does_not_end_the_one_that_reads_it(self, error: BaseException) -> None:
        got = round_trip(error)

        assert isinstance(got, UnpickleableExceptionWrapper)
        assert type(got).__name__ == type(error).__name__

    def test_a_class_that_was_local_to_a_function(self) -> None:
        class Local(Exception):
            pass

        got = round_trip(Local("x"))

        assert (isinstance(got, UnpickleableExceptionWrapper), type(got).__name__, str(got)) == (True, "Local", "x")

    @pytest.mark.parametrize("name", ["UnicodeDecodeError", "SyntaxError", "OSError", "ExceptionGroup", "ImportError"])
    def test_a_class_of_python_with_odd_arguments_keeps_its_name(self, name: str) -> None:
        got = load(stored("builtins", name, [[], "odd", 7, None]))

        assert type(got).__name__ == name

    @pytest.mark.parametrize("name", ["SyntaxError", "IndentationError"])
    @pytest.mark.parametrize(
        "place",
        [
            ["f", 1, 1, 7],
            ["f", 1, {}, "text"],
            ["f", 1, 1, "text", 1, 10**12],
            ["f", -1, 1, "text"],
            [7, 1, 1, "text"],
            [],
            "text",
            7,
            {"a": 1},
        ],
        ids=str,
    )
    def test_a_place_in_a_file_that_cannot_be_is_no_trouble_for_who_shows_it(self, name: str, place: Any) -> None:
        got = load(stored("builtins", name, ["bad", place]))

        assert type(got).__name__ == name
        assert len("".join(traceback.format_exception(got))) < 2 * LONGEST_TEXT

    def test_a_stand_in_survives_being_stored_again(self) -> None:
        got = load(stored("elsewhere", "Unpayable", ["order 7"]))

        again = round_trip(got)

        assert (type(again).__name__, str(again)) == ("Unpayable", "order 7")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "null",
            "[]",
            "{}",
            "7",
            "{",
            "[" * 100_000,
            stored(args=None),
            stored(args=7),
            stored(module=None, name=None),
            stored(name=""),
            stored(module="\0", name="\ud800"),
            stored(name="a\0b", module="elsewhere"),
            stored(name="." * 50),
            stored(notes=7),
            stored(module=["os"], name={"a": 1}),
            '{"module": "builtins", "class": "ValueError", "args": [{"__type__": "uuid", "__value__": 1}]}',
        ],
        ids=lambda text: text[:60],
    )
    def test_a_row_of_any_form_is_read_as_some_exception(self, text: str) -> None:
        got = load(text)

        assert isinstance(got, Exception)
        assert isinstance(f"{got} {got!r}", str)

    @given(text=st.text(max_size=80))
    def test_any_text_is_read_as_some_exception(self, text: str) -> None:
        assert isinstance(load(text), Exception)

    @given(name=st.text(max_size=30), module=st.text(max_size=30), args=st.lists(st.integers() | st.text(), max_size=3))
    def test_any_class_name_is_read_as_some_exception(self, name: str, module: str, args: list[Any]) -> None:
        assert isinstance(load(stored(module, name, args)), Exception)


class TestStoringNeverFails:
    @pytest.mark.parametrize(
        "argument",
        [object(), {1, 2}, {1: 2}, 1j, Unshowable(), Exception("inner"), zoneinfo.ZoneInfo("UTC"), lambda: 1],
    )
    def test_an_argument_that_json_cannot_carry_is_stored_as_its_repr(self, argument: Any) -> None:
        first, second, third = round_trip(ValueError("before", argument, 3)).args

        assert (first, isinstance(second, str), third) == ("before", True, 3)

    def test_an_argument_that_contains_itself(self) -> None:
        endless: list[Any] = []
        endless.append(endless)

        assert type(round_trip(ValueError(endless))) is ValueError

    def test_an_argument_that_is_nested_beyond_all_measure(self) -> None:
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]

        assert type(round_trip(ValueError(deep))) is ValueError

    def test_a_number_too_long_to_be_written(self) -> None:
        assert type(round_trip(ValueError(10**5000))) is ValueError

    def test_a_very_long_argument_is_cut(self) -> None:
        assert len(dump(ValueError("x" * 10_000_000))) < 2 * LONGEST_TEXT

    @pytest.mark.parametrize("text", ["\0", "\ud800", "a\0b\udfff"])
    def test_the_text_has_no_character_that_a_database_refuses(self, text: str) -> None:
        error = ValueError(text)
        error.add_note(text)

        written = dump(error)

        assert written.encode().isascii()
        assert "\0" not in written
        assert round_trip(error).args == (text,)

    def test_an_exception_of_which_nothing_can_be_shown(self) -> None:
        assert type(round_trip(Mute(Unshowable()))) is Mute

    def test_an_exception_whose_args_cannot_be_had(self) -> None:
        assert type(load(dump(WithoutArgs()))) is WithoutArgs

    @pytest.mark.parametrize("args", [7, None, "text", [1]])
    def test_args_that_are_no_tuple(self, args: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Trapped, "args", property(lambda _: args))

        assert type(load(dump(Trapped()))) is Trapped

    @pytest.mark.parametrize(
        "notes", [7, "text", [Unshowable()], [object()], [None]], ids=lambda notes: type(notes).__name__
    )
    def test_notes_of_any_form(self, notes: Any) -> None:
        error = ValueError("x")
        error.__notes__ = notes

        assert type(round_trip(error)) is ValueError

    def test_a_recursion_error_is_stored_where_it_is_caught(self) -> None:
        def endless() -> None:
            endless()

        with pytest.raises(RecursionError) as caught:
            endless()

        assert type(round_trip(caught.value)) is RecursionError

    def test_a_group_of_exceptions(self) -> None:
        got = round_trip(ExceptionGroup("several", [ValueError("x"), KeyError("y")]))

        assert type(got).__name__ == "ExceptionGroup"
        assert "several" in f"{got!r} {got}"


class TestTracebacks:
    def test_it_is_the_text_that_python_prints(self) -> None:
        with pytest.raises(ZeroDivisionError) as caught:
            _ = 1 / 0

        text = traceback_text(caught.value)

        assert text.startswith("Traceback (most recent call last):")
        assert "_ = 1 / 0" in text
        assert text.endswith("ZeroDivisionError: division by zero\n")

    def test_the_cause_is_told(self) -> None:
        error = ValueError("order 7")
        error.__cause__ = KeyError("door")

        assert "KeyError: 'door'" in traceback_text(error)

    def test_an_exception_of_which_nothing_can_be_shown_has_one_too(self) -> None:
        assert "Mute" in traceback_text(Mute())

    def test_notes_of_any_form_do_no_harm(self) -> None:
        error = ValueError("x")
        notes: Any = [Unshowable()]
        error.__notes__ = notes

        assert "ValueError" in traceback_text(error)

    @pytest.mark.parametrize("text", ["\0", "\ud800"])
    def test_it_has_no_character_that_a_database_refuses(self, text: str) -> None:
        written = traceback_text(ValueError(f"before {text} after"))

        assert "\0" not in written
        assert written == written.encode().decode()

    def test_a_very_long_one_loses_its_middle(self) -> None:
        text = clean("head" + "x" * 10_000_000 + "tail")

        assert text.startswith("head")
        assert text.endswith("tail")
        assert "cut" in text
        assert len(text) < LONGEST_TEXT + 100

"""Exceptions as text, and back without running anything of theirs.

Stored are module, class, args, plain attributes, notes and traceback. An exception is rebuilt only if its class is
found in a module that is imported already (who can catch it has imported it), and is an `Exception`; it is made by its
nearest built-in base, so no ``__init__`` and no ``__new__`` of the class runs. All else becomes a stand-in with the
same class name.
"""

import builtins
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any, Final

from celery.exceptions import UnpickleableExceptionWrapper
from celery.message import from_json, to_json

LONGEST_TEXT: Final = 64_000
#: The classes of Python itself, by identity: a class may say of itself what it likes, and its metaclass do anything.
_BUILT_IN: Final = {id(one) for one in vars(builtins).values() if isinstance(one, type)}
_CONTENTS_OF_MODULE: Final[Callable[[Any], Mapping[str, Any]]] = vars(ModuleType)["__dict__"].__get__
_CONTENTS_OF_CLASS: Final[Callable[[Any], Mapping[str, Any]]] = type.__dict__["__dict__"].__get__
_ORDER_OF_CLASS: Final = type.__dict__["__mro__"].__get__
_ATTRIBUTES: Final = vars(BaseException)["__dict__"].__get__
_SET_ARGS: Final = vars(BaseException)["args"].__set__
#: Where a SyntaxError points to: file, line, column, text, last line and column. Who shows it believes all of it.
_PLACE: Final = ((str,), (int,), (int,), (str,), (int,), (int,))
#: What no stored attribute stands for: the methods of exceptions, and what a stand-in was made of.
_RESERVED: Final = frozenset({*dir(BaseException), "exc_module", "exc_cls_name", "exc_args"})


def dump(error: BaseException) -> str:
    """Return `error` as JSON text. Never fails: an argument that JSON cannot carry is stored as its repr."""
    module, name = _class_of(error)
    return to_json(
        {
            "module": module,
            "class": name,
            "args": [_safe(argument) for argument in _args(error)],
            "notes": [_text(note) for note in _notes(error)],
            "attributes": _attributes(error),
        }
    )


def _class_of(error: BaseException) -> tuple[str, str]:
    """Return module and name of its class: of the original's, where it stands for another one."""
    if isinstance(error, UnpickleableExceptionWrapper):
        module, name = vars(error).get("exc_module"), vars(error).get("exc_cls_name")
        if isinstance(module, str) and isinstance(name, str):
            return module, name
    return type(error).__module__, type(error).__qualname__


def _args(error: BaseException) -> tuple[Any, ...]:
    """Return the arguments, or where they are not to be had, what the exception says of itself."""
    try:
        args: Any = error.exc_args if isinstance(error, UnpickleableExceptionWrapper) else error.args
    except Exception:  # noqa: BLE001 - a property of the user's may do anything
        args = None
    if isinstance(error, OSError) and error.filename is not None and args == error.args[:2]:
        return (*args, error.filename)
    return tuple(args) if isinstance(args, list | tuple) else (_repr(error),)


def _notes(error: BaseException) -> list[Any]:
    notes = vars(error).get("__notes__")
    return notes if isinstance(notes, list) else []


def _text(note: Any) -> str:
    return note[:LONGEST_TEXT] if isinstance(note, str) else _repr(note)


def _attributes(error: BaseException) -> dict[str, Any]:
    """Return the plain values that its class has set on it: its `str` and its catchers may want them."""
    if isinstance(error, UnpickleableExceptionWrapper):
        return {}
    found = {name: value for name, value in vars(error).items() if not name.startswith("__")}
    return {name: value for name, value in found.items() if _safe(value) is value}


def _safe(value: Any) -> Any:
    try:
        if len(to_json(value)) <= LONGEST_TEXT:
            return value
    except Exception:  # noqa: BLE001, S110 - whatever it is, its repr is what we keep
        pass
    return _repr(value)


def _repr(value: Any) -> str:
    try:
        return repr(value)[:LONGEST_TEXT]
    except Exception:  # noqa: BLE001 - a __repr__ of the user's may do anything
        return f"<{type(value).__name__} without a repr>"


def traceback_text(error: BaseException) -> str:
    """Return the formatted traceback, in characters that every database takes, its middle cut if it is very long."""
    try:
        text = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - __str__ and __repr__ of the user's may do anything
        text = f"{type(error).__name__} (its text cannot be formatted)"
    return clean(text)


def clean(text: str) -> str:
    """Return `text` without NUL and lone surrogates, its middle cut if it is very long."""
    if len(text) > LONGEST_TEXT:
        text = f"{text[: LONGEST_TEXT // 2]}\n  [... cut ...]\n{text[-LONGEST_TEXT // 2 :]}"
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def load(text: str) -> BaseException:
    """Rebuild what `dump` stored. Text of any other form becomes a stand-in too: rows are untrusted."""
    try:
        data = from_json(text)
        module, name, args, notes = data["module"], data["class"], tuple(data["args"]), data.get("notes", [])
        attributes = data.get("attributes", {})
        return _rebuilt(str(module), str(name), args, attributes, [str(note) for note in notes])
    except Exception:  # noqa: BLE001 - anything can be wrong with a row
        return UnpickleableExceptionWrapper("celery.exceptions", "UnreadableException", (text[:200],))


def _rebuilt(
    module: str, name: str, args: tuple[Any, ...], attributes: dict[str, Any], notes: list[str]
) -> BaseException:
    cls = _imported_class(module, name)
    error = _made(cls, args) if cls else _stand_in(module, name, args)
    plain = {name: value for name, value in attributes.items() if not name.startswith("__") and name not in _RESERVED}
    _ATTRIBUTES(error).update({**plain, **({"__notes__": notes} if notes else {})})  # past what the class does
    return error


def _stand_in(module: str, name: str, args: tuple[Any, ...]) -> UnpickleableExceptionWrapper:
    return create_exception_cls(name, module)(module, name, args)


def _imported_class(module: str, name: str) -> type[Exception] | None:
    """Return the class; None where the way to it does not lead through modules and classes alone.

    Nothing is asked by its attributes: a lazy object, a lazy module or a metaclass would run code to answer.
    """
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = _contents(found).get(part)
    return found if _is_class(found) and _is_exception(_ORDER_OF_CLASS(found)) else None


def _contents(found: Any) -> Mapping[str, Any]:
    if issubclass(type(found), ModuleType):
        return _CONTENTS_OF_MODULE(found)
    return _CONTENTS_OF_CLASS(found) if _is_class(found) else {}


def _is_class(found: Any) -> bool:
    return issubclass(type(found), type)  # isinstance would ask a stranger for its __class__


def _is_exception(order: Sequence[type]) -> bool:
    """Tell it by the classes that a class descends from."""
    return any(base is Exception for base in order) and not any(base is BaseExceptionGroup for base in order)


def _made(cls: type[Exception], args: tuple[Any, ...]) -> Exception:
    """Make it by its nearest built-in base, whose own `__init__` fills in what only it knows (`errno`, `lineno`)."""
    base: Any = next(base for base in _ORDER_OF_CLASS(cls) if id(base) in _BUILT_IN)
    if issubclass(base, SyntaxError) and not _is_place(args):
        return _bare(cls, args)
    try:
        error: Exception = base.__new__(cls, *args)
        base.__init__(error, *args)
    except Exception:  # noqa: BLE001 - arguments that the built-in base does not take
        return _bare(cls, args)
    return error


def _bare(cls: type[Exception], args: tuple[Any, ...]) -> Exception:
    error = Exception.__new__(cls)
    _SET_ARGS(error, args)
    return error


def _is_place(args: tuple[Any, ...]) -> bool:
    """Tell whether a SyntaxError with these arguments can be shown: its caret is as long as they say."""
    place = args[1] if len(args) > 1 else ()
    return isinstance(place, list | tuple) and all(
        value is None or (type(value) in kinds and (isinstance(value, str) or 0 <= value <= LONGEST_TEXT))
        for value, kinds in zip(place, _PLACE, strict=False)
    )


@lru_cache(maxsize=512)
def create_exception_cls(name: str, module: str) -> type[UnpickleableExceptionWrapper]:
    """Return a stand-in class called `name`."""
    return type(name.rpartition(".")[2], (UnpickleableExceptionWrapper,), {"__module__": module})


def find_nearest_pickleable_exception(exc: BaseException) -> Exception | None:
    """Return `exc` if its class can be found again, else one of the nearest base class for which that holds, or None.

    None rather than a bare Exception, which would tell nothing. The name is the classic one; nothing is pickled.
    """
    for cls in type(exc).__mro__:
        if cls in {Exception, BaseException}:
            return None
        if _imported_class(cls.__module__, cls.__qualname__) is cls:
            return exc if isinstance(exc, Exception) and cls is type(exc) else _made(cls, _args(exc))
    return None

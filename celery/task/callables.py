"""Callables by their importable name, and the seal on a call of one: nobody without SECRET_KEY can make a call.

A sealed call has three texts for arguments: the name (``module:qualname``), its arguments as JSON, and the seal over
both, the task and the id. The arguments are sealed as the very text that travels, so nothing depends on how values
are read and written again.
"""

import inspect
import sys
from collections.abc import Callable
from functools import reduce
from importlib import import_module
from typing import Any, Final, NoReturn

from django.core.signing import BadSignature, Signer

from celery.exceptions import InvalidTask, UnsendableArgument, UntrustedMessage
from celery.message import Call, to_json

SALT: Final = "celery.task.callables"
#: Name, arguments, seal.
PARTS: Final = 3


# -- names


def name_of(function: Callable[..., Any]) -> str:
    """Return the name by which a worker finds `function`. Raises InvalidTask if there is none that leads back to it.

    >>> import operator
    >>> name_of(operator.add)
    '_operator:add'
    >>> name_of(lambda x: x)
    Traceback (most recent call last):
    ...
    celery.exceptions.InvalidTask: a lambda cannot be called remotely: ...
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    owner = getattr(function, "__self__", None)
    if not callable(function):
        _refuse(function, "it is not callable")
    if owner is not None and not isinstance(owner, type) and not inspect.ismodule(owner):
        _refuse(function, f"it is bound to an object of type {type(owner).__name__}, which does not travel with it")
    if not module or not isinstance(name, str):
        _refuse(function, "it has no module and name that a worker could find it by")
    if "<lambda>" in name:
        _refuse("a lambda", "it has no name that a worker could find it by. Define a function of a module")
    if "<locals>" in name:
        _refuse(name, "it is local to another function, so no worker can find it. Define it at the top of a module")
    if module == "__main__":
        _refuse(
            name, "it belongs to the program that was started, which is another one in a worker. Put it in a module"
        )
    if not _is_same(_attribute(sys.modules.get(module), name), function):
        _refuse(function, f"its name does not lead back to it: {module}:{name} is something else, or nothing")
    return f"{module}:{name}"


def _refuse(function: Any, reason: str) -> NoReturn:
    shown = function if isinstance(function, str) else f"{function!r:.200}"
    raise InvalidTask(f"{shown} cannot be called remotely: {reason}.")


def _attribute(module: Any, name: str) -> Any:
    return reduce(lambda found, part: getattr(found, part, None), name.split("."), module)


def _is_same(found: Any, function: Any) -> bool:
    """Tell whether both are one object; class methods are made anew whenever they are asked for."""
    return found is function or (inspect.ismethod(found) and found == function)


def find(name: str) -> Callable[..., Any]:
    """Import and return the callable of this name. Raises InvalidTask, or whatever the import raises."""
    module, _, qualname = name.partition(":")
    found = _attribute(import_module(module), qualname)
    if not callable(found):
        raise InvalidTask(f"{name} is nothing that can be called here: does this worker run the code of the sender?")
    return found  # type: ignore[no-any-return]


# -- seals


def sealed(task: str, task_id: str, name: str, arguments: Any) -> tuple[str, str, str]:
    """Return the arguments of a sealed call. Raises UnsendableArgument for what JSON cannot carry."""
    try:
        text = to_json(arguments)
    except Exception as error:
        reason = f"the arguments for {name} cannot be sent as JSON: {error}. Send plain data."
        raise UnsendableArgument(reason) from error
    return name, text, Signer(salt=SALT).signature(_statement(task, task_id, name, text))


def check(call: Call) -> None:
    """Raise UntrustedMessage unless `call` carries the seal that belongs to it. Imports nothing, reads no argument."""
    if call.kwargs or len(call.args) != PARTS or not all(isinstance(part, str) for part in call.args):
        raise UntrustedMessage(f"this call of {call.task} is not sealed, so it is not run: who sent it?")
    name, arguments, seal = call.args
    try:
        Signer(salt=SALT).unsign(f"{_statement(call.task, call.task_id, name, arguments)}:{seal}")
    except (BadSignature, ValueError) as error:  # ValueError: characters that no seal has
        raise UntrustedMessage(
            f"the seal of this call of {call.task} does not fit, so it is not run: {name!r:.100} with these arguments"
            f" and this id was not sealed with this SECRET_KEY. Was the message changed, or copied from another? If the"
            f" key was replaced, SECRET_KEY_FALLBACKS may keep the old one for a while."
        ) from error


def _statement(task: str, task_id: str, name: str, arguments: str) -> str:
    return to_json([task, task_id, name, arguments])

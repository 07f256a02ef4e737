"""What a target of the fuzzers is, and what became of a case."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.fuzz.mutator import Fields

ACCEPTED = "accepted"
#: Parts of a sentence that differ from case to case: what is quoted, numbers, what a type is called.
DETAILS = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|b?['\"].*|-?\d[\d,.]*|<[^>]*>|\([^)]*\)")
#: What follows these words is the value itself.
VALUE = re.compile(r"(characters|a count|character|delimiter|codec can|none of AMQP|type \S+ are not accepted)\b.*")
#: The reason of kombu's that has the whole value.
UNSUPPORTED = re.compile(r"ValueError: [(\[{~].*")
LONGEST_REASON = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something that reads what others wrote.

    `valid` makes a new valid case; `check` reads a case and returns ACCEPTED or the reason of its refusal. Whatever
    `check` raises is a finding. `share` is that of all cases.
    """

    name: str
    share: float
    valid: Callable[[Random], Fields]
    check: Callable[[Fields], str]


def reason_of(error: BaseException) -> str:
    """Return class and pattern of a refusal: the same for all cases that are refused for one reason."""
    text = VALUE.sub(r"\1", UNSUPPORTED.sub("ValueError", DETAILS.sub("~", f"{error}".split("\n", 1)[0])))
    return f"{type(error).__name__}: {ascii(text)[1:-1]}"[:LONGEST_REASON].rstrip()


def refusal(text: str) -> str:
    """Return the reason of a refusal that is no exception."""
    return f"refused: {text}"

"""Two small containers of the classic interface."""

from traceback import format_exception
from types import TracebackType
from typing import Any, Final

_Info = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class UnfilledPosition:
    """Stands in a `PositionQueue` where nothing has been put yet."""

    def __init__(self, position: int) -> None:
        self.position = position

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.position}>"


class PositionQueue(list[Any]):
    """A list of fixed length that is filled in any order.

    >>> from celery.datastructures import PositionQueue
    >>> answers = PositionQueue(length=3)
    >>> answers[2] = "last"
    >>> answers
    [<UnfilledPosition: 0>, <UnfilledPosition: 1>, 'last']
    >>> len(answers), answers.full()
    (1, False)
    >>> answers.filled
    ['last']
    """

    #: The class of what stands where nothing has been put yet.
    UnfilledPosition = UnfilledPosition

    def __init__(self, length: int) -> None:
        super().__init__(UnfilledPosition(position) for position in range(length))
        self.length: Final = length

    @property
    def filled(self) -> list[Any]:
        """The values that are there, in the order of their positions."""
        return [value for value in self if not isinstance(value, UnfilledPosition)]

    def full(self) -> bool:
        """Tell whether every position has its value."""
        return len(self) == self.length

    def __len__(self) -> int:
        """Return how many positions are filled."""
        return len(self.filled)

    def __bool__(self) -> bool:
        """Be true while there is a position, filled or not: an empty queue of ten is still a queue of ten."""
        return self.length > 0


class ExceptionInfo:
    """An exception with its traceback as text, so that it can travel between processes.

    `exc_info` is what `sys.exc_info` returns, or an exception instance; `traceback` is the text of its traceback where
    the instance has none any more. Raises ValueError where there is no exception.
    """

    def __init__(self, exc_info: _Info | BaseException, traceback: str | None = None) -> None:
        error = exc_info if isinstance(exc_info, BaseException) else exc_info[1]
        if error is None:
            raise ValueError("there is no exception here: make an ExceptionInfo while one is being handled")
        #: The exception.
        self.exception: BaseException = error
        trace = None if isinstance(exc_info, BaseException) else exc_info[2]
        if traceback is None:
            traceback = "".join(format_exception(type(error), error, trace or error.__traceback__))
        #: Its traceback, as text.
        self.traceback = traceback

    def __str__(self) -> str:
        return self.traceback

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {type(self.exception).__name__}>"

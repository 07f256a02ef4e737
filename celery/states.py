"""The states of a task, and the one table of allowed moves.

``PENDING`` is never stored: it is what an id without a row means.
"""

from typing import Final

#: Waits, or runs, or nothing is known of this id.
PENDING: Final = "PENDING"
#: An attempt has failed, and another one follows.
RETRY: Final = "RETRY"
#: It raised, or was tried again more often than its limit.
FAILURE: Final = "FAILURE"
#: It executed successfully.
DONE: Final = "DONE"

#: The task will not run again by itself.
READY_STATES: Final = frozenset({DONE, FAILURE})

#: The *attempt* is over: nothing may overwrite its row but a later attempt.
CLOSED_STATES: Final = frozenset({DONE, FAILURE, RETRY})

#: All four.
ALL_STATES: Final = frozenset({PENDING, RETRY, FAILURE, DONE})


def may_replace(*, stored: str, stored_attempt: int, new_attempt: int) -> bool:
    """Tell whether a result of `new_attempt` may overwrite the stored one.

    The drivers say the same in SQL; the contract tests hold both together.
    """
    if new_attempt == stored_attempt:
        return stored not in CLOSED_STATES
    return new_attempt > stored_attempt

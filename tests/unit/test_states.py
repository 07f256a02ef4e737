from hypothesis import given
from hypothesis import strategies as st

from celery import states

ANY_STATE = st.sampled_from(sorted(states.ALL_STATES))
ATTEMPTS = st.integers(min_value=1, max_value=2**31 - 1)


@given(stored=ANY_STATE, attempt=ATTEMPTS, later=st.integers(min_value=1, max_value=1000))
def test_a_later_attempt_replaces_any_state(stored: str, attempt: int, later: int) -> None:
    assert states.may_replace(stored=stored, stored_attempt=attempt, new_attempt=attempt + later)


@given(stored=ANY_STATE, attempt=ATTEMPTS, earlier=st.integers(min_value=1, max_value=1000))
def test_an_earlier_attempt_replaces_nothing(stored: str, attempt: int, earlier: int) -> None:
    assert not states.may_replace(stored=stored, stored_attempt=attempt, new_attempt=attempt - earlier)


@given(stored=st.sampled_from(sorted(states.CLOSED_STATES)), attempt=ATTEMPTS)
def test_a_closed_attempt_is_not_overwritten_by_itself(stored: str, attempt: int) -> None:
    assert not states.may_replace(stored=stored, stored_attempt=attempt, new_attempt=attempt)


@given(stored=st.sampled_from(sorted(states.ALL_STATES - states.CLOSED_STATES)), attempt=ATTEMPTS)
def test_an_open_attempt_may_be_overwritten_by_itself(stored: str, attempt: int) -> None:
    assert states.may_replace(stored=stored, stored_attempt=attempt, new_attempt=attempt)


def test_a_task_that_is_ready_has_a_closed_attempt() -> None:
    assert states.READY_STATES < states.CLOSED_STATES < states.ALL_STATES


def test_a_retry_closes_its_attempt_but_the_task_goes_on() -> None:
    assert states.RETRY in states.CLOSED_STATES - states.READY_STATES


def test_states_keep_the_classic_names() -> None:
    assert {"PENDING", "RETRY", "FAILURE", "DONE"} == states.ALL_STATES

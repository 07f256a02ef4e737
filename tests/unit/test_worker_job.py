"""A job between processes, and the rule of what follows an outcome."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery import message as wire
from celery import states
from celery.message import Call, Delivery
from celery.worker import job
from celery.worker.job import Consequences, Job, Outcome, consequences

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
texts = st.text(st.characters(codec="utf-8"), max_size=50)
small = st.integers(-(2**15), 2**15 - 1)

deliveries = st.builds(
    Delivery,
    task_id=texts,
    attempt=st.integers(0, 2**31 - 1),
    queue=texts,
    rank=small,
    headers=texts,
    body=st.binary(max_size=500),
    row_id=st.integers(0, 2**63 - 1),
    tag=st.none(),
    suspect=st.just(value=False),
    relayed=st.booleans(),
    starts=st.integers(0, 2**15 - 1),
    crashes=st.integers(0, 2**15 - 1),
)


@given(number=st.integers(1, 2**63), flags=st.sampled_from([0, job.SETTLED]), delivery=deliveries)
def test_a_job_is_the_same_after_its_way_to_the_child(number: int, flags: int, delivery: Delivery) -> None:
    # when
    data = b"".join(job.pack(number, flags, delivery))

    # then
    assert data[:1] == job.JOB
    assert job.number_of(data) == number
    assert job.unpack(data) == Job(number, flags, delivery)


@given(st.lists(st.tuples(st.integers(1, 2**63), st.sampled_from([job.SETTLE, job.UNRUN]))))
def test_answers_are_the_same_after_their_way_back(answers: list[tuple[int, int]]) -> None:
    assert job.unpack_answers(job.pack_answers(answers)) == answers


@pytest.mark.parametrize("rank", [-(2**15) - 1, 2**15, 10**9])
def test_an_urgency_that_no_field_holds_does_not_stop_the_dispatcher(rank: int) -> None:
    """SQLite keeps any integer as the rank: a packing that fails ends the dispatcher, again after each new start."""
    # when
    data = b"".join(job.pack(1, 0, _delivery()._replace(rank=rank)))

    # then
    assert job.unpack(data).delivery.task_id == "id"


def _delivery(**fields: object) -> Delivery:
    known = {"task_id": "id", "attempt": 1, "queue": "celery", "rank": -3, "headers": "", "body": b"{}", "crashes": 1}
    return Delivery(**{**known, **fields})  # type: ignore[arg-type]


def _outcome(kind: str, *, eta: datetime | None = None, headers: str = "", **fields: object) -> Outcome:
    call = Call(task="shop.add", task_id="id", eta=eta)
    return Outcome(
        job=Job(7, 0, _delivery(headers=headers)),
        kind=kind,
        name="shop.add",
        attempt=1,
        ended_at=NOW,
        call=call,
        **fields,  # type: ignore[arg-type]
    )


def _follow(outcome: Outcome, patience: float = 3600.0) -> Consequences:
    return consequences(outcome, worker="me", unknown_patience=patience)


@pytest.mark.parametrize("state", [states.DONE, states.FAILURE])
def test_what_has_ended_is_stored_and_settled(state: str) -> None:
    # when
    result, message, answer = _follow(_outcome(state, result="5", traceback="where", runtime=0.5))

    # then
    assert (message, answer) == (None, job.SETTLE)
    assert result is not None
    assert (result.task_id, result.state, result.attempt, result.worker) == ("id", state, 1, "me")
    assert (result.result, result.traceback, result.runtime, result.date_done) == ("5", "where", 0.5, NOW)


def test_a_result_that_nobody_wants_is_not_stored() -> None:
    assert _follow(_outcome(states.DONE, ignore_result=True)) == (None, None, job.SETTLE)


def test_a_failure_is_stored_even_where_results_are_ignored() -> None:
    assert _follow(_outcome(states.FAILURE, ignore_result=True)).result is not None


def test_what_is_to_run_at_most_once_goes_back_unrun() -> None:
    assert _follow(_outcome(job.NOT_RUN)) == (None, None, job.UNRUN)


def test_an_undecodable_message_is_dead_and_who_waits_learns_why() -> None:
    # when
    result, message, answer = _follow(_outcome(job.UNDECODABLE, error="no JSON"))

    # then
    assert result is not None
    assert message is not None
    assert (result.state, answer) == (states.FAILURE, job.SETTLE)
    assert (message.reason, message.visible_at, message.priority, message.crashes) == ("no JSON", None, 3, 1)


def test_a_postponed_message_waits_for_its_moment() -> None:
    # when
    result, message, answer = _follow(_outcome(job.POSTPONED, eta=NOW + timedelta(hours=1)))

    # then
    assert (result, answer) == (None, job.SETTLE)
    assert message is not None
    assert (message.visible_at, message.reason) == (NOW + timedelta(hours=1), None)


def test_an_unknown_task_is_tried_again_after_a_second() -> None:
    # when
    result, message, answer = _follow(_outcome(job.UNKNOWN, error="no task"))

    # then
    assert (result, answer) == (None, job.SETTLE)
    assert message is not None
    assert (message.visible_at, message.reason) == (NOW + timedelta(seconds=1), None)
    assert message.headers[wire.UNKNOWN_FOR] == 1.0


@pytest.mark.parametrize(("waited", "pause"), [(0.1, 1.0), (10.0, 10.0), (59.0, 59.0), (600.0, 60.0)])
def test_an_unknown_task_is_tried_ever_more_seldom(waited: float, pause: float) -> None:
    # when
    message = _follow(_outcome(job.UNKNOWN, headers=wire.to_json({wire.UNKNOWN_FOR: waited}))).message

    # then
    assert message is not None
    assert message.visible_at is not None
    assert (message.visible_at - NOW).total_seconds() == pytest.approx(pause, abs=0.01)
    assert message.headers[wire.UNKNOWN_FOR] == waited + pause


def test_an_unknown_task_is_dead_when_patience_is_over() -> None:
    # given
    headers = wire.to_json({wire.UNKNOWN_FOR: 3600})

    # when
    result, message, answer = _follow(_outcome(job.UNKNOWN, headers=headers, error="no task"))

    # then
    assert result is not None
    assert message is not None
    assert (result.state, message.reason, answer) == (states.FAILURE, "no task", job.SETTLE)


def test_an_unknown_task_is_tried_for_an_hour_of_pauses_whatever_the_clock_of_the_wall_does() -> None:
    # given
    headers, tries = "", 0
    moments = cycle((NOW, NOW + timedelta(hours=1), NOW - timedelta(hours=1)))

    # when
    while (followed := _follow(replace(_outcome(job.UNKNOWN, headers=headers), ended_at=next(moments)))).result is None:
        assert followed.message is not None
        headers, tries = wire.pack_headers(followed.message), tries + 1

    # then
    assert 60 < tries < 70


@pytest.mark.parametrize("since", ['"yesterday"', "null", "true", "[1]", "1e308", "-1e308", "Infinity", "NaN"])
def test_a_header_that_somebody_made_up_breaks_nothing(since: str) -> None:
    # when
    result = _follow(_outcome(job.UNKNOWN, headers=f'{{"{wire.UNKNOWN_FOR}": {since}}}'))

    # then
    assert result.answer == job.SETTLE
    assert result.message is not None


def test_an_outcome_of_no_kind_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="no rule for an outcome of kind MAYBE"):
        _follow(_outcome("MAYBE"))


# What others sent, and what nobody can read


@pytest.mark.parametrize(
    ("attempt", "body", "number", "name"),
    [
        (4, {"retries": 1}, 4, "shop.add"),
        (0, {"retries": 2}, 3, "shop.add"),
        (0, {}, 1, "shop.add"),
        (4, None, 4, "?"),
        (0, None, 1, "?"),
    ],
)
def test_an_attempt_is_known_by_its_row_else_by_its_body_else_it_is_the_first(
    attempt: int, body: dict[str, int] | None, number: int, name: str
) -> None:
    # given
    known = {"task": "shop.add", "id": "some id", "args": [], "kwargs": {}}
    data = b"\xff" if body is None else json.dumps(known | body).encode()
    delivery = Delivery("some id", attempt, "celery", 0, "", data)

    # then
    assert job.attempt_of(delivery) == number
    assert job.name_of(delivery) == name


@pytest.mark.parametrize("name", ["x" * 256, "a\0b", "\ud800", 7, ["shop.add"], ""], ids=repr)
def test_a_header_that_no_column_takes_is_no_name_of_a_task(name: object) -> None:
    """The row of the dead message would be refused, and it could only be settled."""
    # given
    delivery = _delivery()._replace(headers=json.dumps({"task": name}))

    # then
    assert job.as_message(delivery).task == ""


def test_a_header_that_is_a_name_is_that_of_the_task() -> None:
    assert job.as_message(_delivery()._replace(headers='{"task": "shop.add"}')).task == "shop.add"


def test_what_runs_at_most_once_leaves_a_result_even_if_that_is_ignored_for_a_copy_to_find() -> None:
    # given
    outcome = _outcome(states.DONE)
    outcome.ignore_result = True
    assert _follow(outcome).result is None

    # when
    outcome.job = outcome.job._replace(flags=job.SETTLED)

    # then
    assert _follow(outcome).result is None, "it runs where it is sent, and has no copies"

    # when
    outcome.job = outcome.job._replace(delivery=_delivery(row_id=7))

    # then
    assert _follow(outcome).result is not None

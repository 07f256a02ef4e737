import asyncio
import json
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.utils import timezone as django_timezone
from pytest_django import Settings

from celery.backends.base import Result
from celery.calling import new_id
from celery.exceptions import AlreadyRegistered, InvalidTask, MeaninglessOption, NotRegistered, UnsendableArgument
from celery.registry import tasks
from celery.result import AsyncResult, SentResults
from celery.task import FunctionTask, Task, apply_async, delay_task, task
from celery.task.base import TaskOptions
from celery.task.sending import BATCH
from tests.memory_backend import MemoryBackend
from tests.unit.conftest import Recorder

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def add(x: int, y: int = 1) -> int:
    """Add two numbers."""
    return x + y


async def fetch() -> None: ...


class Shelf:
    def tidy(self) -> None: ...

    @staticmethod
    def count() -> int:
        return 3


class Add(Task):
    def run(self, x: int, y: int) -> int:
        return x + y


class Named(Task):
    name = "shop.named"


class Inherited(Named):
    queue = "mail"


@pytest.fixture
def adding() -> FunctionTask[..., int]:
    """`add` as a task."""
    return task(name="calc.add")(add)


def body_of(recorder: Recorder) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(recorder.message.body)
    return body


class TestNames:
    def test_a_function_is_named_after_its_module_and_itself(self) -> None:
        assert task(add).name == f"{__name__}.add"

    def test_a_name_may_be_given(self, adding: FunctionTask[..., int]) -> None:
        assert adding.name == "calc.add"
        assert tasks["calc.add"] is adding

    def test_a_function_within_a_class_is_named_after_both(self) -> None:
        assert task(Shelf.count).name == f"{__name__}.Shelf.count"

    def test_a_class_is_named_after_its_module_and_itself(self) -> None:
        assert Add.name == Add().name == f"{__name__}.Add"

    def test_a_class_may_give_its_name(self) -> None:
        assert Named.name == "shop.named"

    def test_the_name_of_a_class_is_not_inherited(self) -> None:
        assert Inherited.name == f"{__name__}.Inherited"


class TestAFunctionAsATask:
    def test_calling_it_runs_it_here(self, adding: FunctionTask[..., int], sent: Recorder) -> None:
        assert adding(2, y=3) == 5
        assert sent.batches == []

    def test_it_looks_like_the_function(self, adding: FunctionTask[..., int]) -> None:
        assert (adding.__name__, adding.__doc__, adding.__module__) == ("add", "Add two numbers.", __name__)
        assert adding.__wrapped__ is add

    def test_it_says_what_it_is(self, adding: FunctionTask[..., int]) -> None:
        assert repr(adding) == "<task calc.add>"

    def test_it_has_the_options_given(self) -> None:
        made = task(queue="mail", priority=5, ignore_result=True, acks_late=False, serializer="pickle")(add)

        assert (made.queue, made.priority, made.ignore_result, made.acks_late, made.serializer) == (
            "mail",
            5,
            True,
            False,
            "pickle",
        )

    def test_other_tasks_keep_their_options(self) -> None:
        task(name="a", queue="mail")(add)

        assert task(name="b")(Shelf.count).queue is None

    def test_the_same_function_twice_is_no_mistake(self) -> None:
        task(add)
        task(add)

        assert f"{__name__}.add" in tasks


class TestRefusals:
    @pytest.mark.parametrize(
        ("function", "reason"),
        [
            (lambda: 1, "a lambda has no name"),
            (fetch, "fetch is a coroutine function"),
            (Add, "is not a function. Write a class for it"),
            (Add(), "is not a function"),
            (len, "is not a function"),
            (Shelf().tidy, "is not a function"),
            (42, "42 is not a function"),
        ],
        ids=["lambda", "coroutine", "class", "instance", "built-in", "method", "number"],
    )
    def test_what_no_worker_could_run_is_refused(self, function: Any, reason: str) -> None:
        with pytest.raises(InvalidTask, match=reason):
            task(function)

    def test_a_local_function_is_refused(self) -> None:
        def local() -> None: ...

        with pytest.raises(InvalidTask, match=r"local is local to another function.*Define it at the top of a module"):
            task(local)

    def test_an_unknown_option_is_refused_with_the_known_ones(self) -> None:
        with pytest.raises(InvalidTask, match=r"no option 'quue'; it has: acks_late, auto_retry, .*, queue"):
            task(quue="mail")

    @pytest.mark.parametrize("option", ["run", "delay", "abstract", "__doc__", "__class__"])
    def test_what_is_no_option_cannot_be_overwritten(self, option: str) -> None:
        with pytest.raises(InvalidTask):
            task(**{option: 1})

    def test_a_name_that_another_task_has_is_refused(self, adding: FunctionTask[..., int]) -> None:
        with pytest.raises(AlreadyRegistered, match=r"'calc\.add' belongs to"):
            task(name="calc.add")(Shelf.count)

    def test_a_refused_function_is_not_registered(self) -> None:
        before = dict(tasks)

        with pytest.raises(InvalidTask):
            task(name="shop.fetch")(fetch)

        assert dict(tasks) == before

    def test_a_function_that_is_no_task_cannot_be_sent(self, sent: Recorder) -> None:
        with pytest.raises(InvalidTask, match=r"has no task name.*Decorate it with @task or register it"):
            apply_async(Shelf.count)

    def test_a_task_without_run_says_so(self) -> None:
        with pytest.raises(NotImplementedError, match=r"Named defines no run\(\)"):
            Named()()


class TestSending:
    def test_delay_sends_name_and_arguments(self, adding: FunctionTask[..., int], sent: Recorder) -> None:
        result = adding.delay(2, y=3)

        body = body_of(sent)
        assert (body["task"], body["args"], body["kwargs"]) == ("calc.add", [2], {"y": 3})
        assert result == AsyncResult(body["id"])
        assert (sent.message.task_id, sent.message.task, sent.message.attempt) == (body["id"], "calc.add", 1)

    def test_a_class_sends_itself(self, sent: Recorder) -> None:
        Add.delay(2, 3)

        assert (body_of(sent)["task"], body_of(sent)["args"]) == (Add.name, [2, 3])

    def test_an_instance_sends_itself(self, sent: Recorder) -> None:
        Add().delay(2, 3)

        assert body_of(sent)["task"] == Add.name

    def test_each_message_has_an_id_of_its_own(self, adding: FunctionTask[..., int], sent: Recorder) -> None:
        adding.delay(1)
        adding.delay(1)

        first, second = sent.messages
        assert first.task_id != second.task_id

    def test_a_registered_function_is_sent_by_apply_async(self, sent: Recorder) -> None:
        def ship(order: int) -> None: ...

        tasks.register(ship, "shop.ship")
        apply_async(ship, args=[7], kwargs={"fast": True})

        assert (body_of(sent)["task"], body_of(sent)["args"], body_of(sent)["kwargs"]) == (
            "shop.ship",
            [7],
            {"fast": True},
        )

    def test_a_task_is_sent_by_its_name(self, adding: FunctionTask[..., int], sent: Recorder) -> None:
        delay_task("calc.add", 2, y=3)

        assert body_of(sent)["args"] == [2]

    def test_a_name_that_nobody_registered_is_refused(self, sent: Recorder) -> None:
        with pytest.raises(NotRegistered):
            delay_task("shop.nothing")

    def test_an_argument_that_cannot_be_sent_sends_nothing(
        self, adding: FunctionTask[..., int], sent: Recorder
    ) -> None:
        with pytest.raises(UnsendableArgument, match=r"argument 1 of calc\.add, of type object"):
            adding.delay(object())

        assert sent.batches == []


class TestSendingAgain:
    @pytest.mark.parametrize("kind", [Add, "an instance", "a function"])
    def test_a_task_keeps_its_id_and_gets_a_new_attempt_if_it_had_ended(
        self, adding: FunctionTask[..., int], sent: Recorder, monkeypatch: pytest.MonkeyPatch, kind: Any
    ) -> None:
        # given
        backend = MemoryBackend()
        backend.store([Result(task_id="ended", state="FAILURE", attempt=2)])
        monkeypatch.setattr("celery.backends.default", lambda: backend)
        again: Any = {"an instance": Add(), "a function": adding}.get(kind, kind)

        # when
        results = [again.requeue(task_id, [1], {"y": 2}) for task_id in ("ended", "new")]

        # then
        assert [result.task_id for result in results] == ["ended", "new"]
        assert [message.attempt for message in sent.messages] == [3, 1]
        body = json.loads(sent.messages[0].body)
        assert (body["id"], body["args"], body["kwargs"]) == ("ended", [1], {"y": 2})


class TestSendingMany:
    def test_each_tuple_is_a_message_and_has_its_result(self, adding: FunctionTask[..., int], sent: Recorder) -> None:
        results = adding.delay_many([(1, 2), (3,)])

        assert [json.loads(message.body)["args"] for message in sent.messages] == [[1, 2], [3]]
        assert [result.task_id for result in results] == [message.task_id for message in sent.messages]

    def test_the_results_are_a_sequence(self, adding: FunctionTask[..., int], sent: Recorder) -> None:
        results = adding.delay_many((number,) for number in range(BATCH + 3))

        ids = [message.task_id for message in sent.messages]
        assert len(results) == BATCH + 3
        assert [results[0].task_id, results[-1].task_id] == [ids[0], ids[-1]]
        assert [result.task_id for result in results[BATCH - 1 : BATCH + 2]] == ids[BATCH - 1 : BATCH + 2]
        assert results == list(results)
        assert results != list(results[1:])
        assert results[0] in results
        assert [result.task_id for result in results + results[:1]] == [*ids, ids[0]]
        with pytest.raises(IndexError):
            results[BATCH + 3]

    def test_each_keeps_no_more_than_its_id(self, adding: FunctionTask[..., int], sent: Recorder) -> None:
        tracemalloc.start()
        try:
            results = adding.delay_many((number,) for number in range(BATCH))
            sent.batches.clear()
            kept, _ = tracemalloc.get_traced_memory()
            del results
            without, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert kept - without < 20 * BATCH

    def test_it_tells_waiters_of_the_open_transaction_and_of_ignored_results(self) -> None:
        results: SentResults[int] = SentResults(ignored=True)
        results.extend([new_id()])

        assert results[0].ignored
        assert repr(results) == "<SentResults: 1 of them>"

    def test_they_travel_in_batches(self, adding: FunctionTask[..., int], sent: Recorder) -> None:
        adding.delay_many((number,) for number in range(2 * BATCH + 1))

        assert [len(batch) for batch in sent.batches] == [BATCH, BATCH, 1]

    def test_none_are_no_message(self, adding: FunctionTask[..., int], sent: Recorder) -> None:
        assert adding.delay_many([]) == []
        assert sent.batches == []

    def test_only_one_batch_is_taken_from_the_source_before_it_is_sent(
        self, adding: FunctionTask[..., int], sent: Recorder
    ) -> None:
        source = count()
        calls = ((number,) if number < BATCH + 1 else (object(),) for number in source)

        with pytest.raises(UnsendableArgument):
            adding.delay_many(calls)

        assert [len(batch) for batch in sent.batches] == [BATCH]


class TestOptions:
    def test_the_default_queue_is_that_of_the_settings(
        self, adding: FunctionTask[..., int], sent: Recorder, settings: Settings
    ) -> None:
        settings.CELERY_AMQP_CONSUMER_QUEUE = "shop"

        adding.delay(1)

        assert sent.message.queue == "shop"

    def test_the_option_of_the_task_wins_over_the_settings(self, sent: Recorder) -> None:
        task(queue="mail", priority=3)(add).delay(1)

        assert (sent.message.queue, sent.message.priority) == ("mail", 3)

    def test_the_option_of_the_call_wins_over_the_task(self, sent: Recorder) -> None:
        task(queue="mail", priority=3)(add).apply_async([1], queue="fast", priority=0)

        assert (sent.message.queue, sent.message.priority) == ("fast", 0)

    def test_routing_key_is_another_name_of_the_queue(self, adding: FunctionTask[..., int], sent: Recorder) -> None:
        adding.apply_async([1], routing_key="mail")

        assert sent.message.queue == "mail"

    def test_the_routing_key_of_a_task_is_another_name_of_its_queue(self, sent: Recorder) -> None:
        task(routing_key="mail")(add).delay(1)

        assert sent.message.queue == "mail"

    @pytest.mark.parametrize("given", ["task", "call", "settings"])
    def test_the_serializer_may_be_chosen_anywhere(self, given: str, sent: Recorder, settings: Settings) -> None:
        if given == "settings":
            settings.CELERY_TASK_SERIALIZER = "pickle"
        made = task(serializer="pickle")(add) if given == "task" else task(add)

        made.apply_async([1], serializer="pickle" if given == "call" else None)

        assert sent.message.content_type == "application/x-python-serialize"

    def test_an_id_may_be_chosen(self, adding: FunctionTask[..., int], sent: Recorder) -> None:
        assert adding.apply_async([1], task_id="order-7").task_id == "order-7" == sent.message.task_id

    def test_an_empty_id_is_no_choice(self, adding: FunctionTask[..., int], sent: Recorder) -> None:
        assert adding.apply_async([1], task_id="").task_id

    @pytest.mark.parametrize("task_id", ["x" * 256, "a\0b", "\ud800", 7], ids=["long", "NUL", "surrogate", "number"])
    def test_an_id_that_no_row_can_hold_is_refused(
        self, adding: FunctionTask[..., int], sent: Recorder, task_id: Any
    ) -> None:
        with pytest.raises((ValueError, TypeError), match="task_id"):
            adding.apply_async([1], task_id=task_id)

    @pytest.mark.parametrize("priority", [2**15, -(2**15) - 1, 1.5, "high"], ids=repr)
    def test_a_priority_that_no_row_can_hold_is_refused(
        self, adding: FunctionTask[..., int], sent: Recorder, priority: Any
    ) -> None:
        with pytest.raises((ValueError, TypeError), match="priority"):
            adding.apply_async([1], priority=priority)

    def test_the_options_that_rabbitmq_has_dropped_are_accepted(
        self, adding: FunctionTask[..., int], sent: Recorder
    ) -> None:
        adding.apply_async([1], immediate=True, mandatory=True)

        assert sent.message.queue

    def test_an_option_that_means_nothing_any_more_is_accepted_with_a_warning(
        self, adding: FunctionTask[..., int], sent: Recorder
    ) -> None:
        with pytest.warns(MeaninglessOption, match="CELERY_PUBLISH_TIMEOUT"):
            adding.apply_async([1], connect_timeout=3)

        assert sent.message.queue

    def test_an_unknown_option_of_a_call_is_refused(self, adding: FunctionTask[..., int]) -> None:
        with pytest.raises(TypeError, match="quue"):
            adding.apply_async([1], quue="mail")

    def test_every_option_of_a_task_has_a_default(self) -> None:
        assert all(hasattr(TaskOptions, option) for option in TaskOptions.__annotations__)

    def test_an_ignored_result_says_so(self, sent: Recorder) -> None:
        assert task(ignore_result=True)(add).delay(1).ignored


class TestDelays:
    def test_without_a_moment_it_is_sent_at_once(self, adding: FunctionTask[..., int], sent: Recorder) -> None:
        adding.delay(1)

        assert (sent.message.visible_at, body_of(sent)["eta"], body_of(sent)["expires"]) == (None, None, None)

    def test_an_eta_is_the_moment(self, adding: FunctionTask[..., int], sent: Recorder) -> None:
        adding.apply_async([1], eta=NOON)

        assert sent.message.visible_at == NOON
        assert datetime.fromisoformat(body_of(sent)["eta"]) == NOON

    def test_an_eta_in_another_zone_is_the_same_moment_in_utc(
        self, adding: FunctionTask[..., int], sent: Recorder
    ) -> None:
        adding.apply_async([1], eta=NOON.astimezone(timezone(timedelta(hours=-7))))

        assert sent.message.visible_at == NOON
        assert sent.message.visible_at.utcoffset() == timedelta(0)

    def test_a_naive_eta_is_in_the_current_zone_of_django(self, adding: FunctionTask[..., int], sent: Recorder) -> None:
        with django_timezone.override("Europe/Berlin"):
            adding.apply_async([1], eta=datetime(2026, 7, 1, 14, 0))  # noqa: DTZ001 - naive is the point

        assert sent.message.visible_at == NOON

    def test_a_countdown_is_seconds_from_now(self, adding: FunctionTask[..., int], sent: Recorder) -> None:
        before = datetime.now(UTC)

        adding.apply_async([1], countdown=0.5)

        assert sent.message.visible_at is not None
        assert before + timedelta(seconds=0.5) <= sent.message.visible_at <= datetime.now(UTC) + timedelta(seconds=0.5)

    def test_expires_may_be_seconds(self, adding: FunctionTask[..., int], sent: Recorder) -> None:
        before = datetime.now(UTC)

        adding.apply_async([1], expires=60)

        assert before < datetime.fromisoformat(body_of(sent)["expires"]) <= datetime.now(UTC) + timedelta(seconds=60)
        assert sent.message.visible_at is None

    def test_expires_may_be_a_moment(self, adding: FunctionTask[..., int], sent: Recorder) -> None:
        adding.apply_async([1], expires=NOON)

        assert datetime.fromisoformat(body_of(sent)["expires"]) == NOON

    @pytest.mark.parametrize("option", ["countdown", "expires"])
    @pytest.mark.parametrize("value", ["60", True, timedelta(seconds=60), [60]], ids=repr)
    def test_what_is_neither_seconds_nor_a_moment_is_refused(
        self, adding: FunctionTask[..., int], sent: Recorder, option: str, value: Any
    ) -> None:
        with pytest.raises(TypeError, match=f"{option} is a number of seconds"):
            adding.apply_async([1], **{option: value})

    @pytest.mark.parametrize("option", ["countdown", "expires"])
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
    def test_seconds_beyond_all_calendars_are_refused(
        self, adding: FunctionTask[..., int], sent: Recorder, option: str, value: Any
    ) -> None:
        with pytest.raises((ValueError, OverflowError), match=f"{option} is a number of seconds") as caught:
            adding.apply_async([1], **{option: value})

        assert str(caught.value).endswith(f", not {value!r}")
        assert sent.batches == []

    @pytest.mark.parametrize("value", ["12", b"12", {"x": 1}, {1, 2}], ids=repr)
    def test_what_is_no_list_in_place_of_the_arguments_is_refused_with_the_line_to_write(
        self, adding: FunctionTask[..., int], sent: Recorder, value: Any
    ) -> None:
        with pytest.raises(TypeError, match=r"the arguments of a call of calc\.add come as a list or tuple") as caught:
            adding.apply_async(value)

        assert f"write ({value!r},)" in str(caught.value)
        assert sent.batches == []

    def test_a_text_may_be_an_argument(self, adding: FunctionTask[..., int], sent: Recorder) -> None:
        adding.apply_async(["12"])

        assert body_of(sent)["args"] == ["12"]


class TestFromAsynchronousCode:
    @pytest.mark.parametrize(
        "send",
        [
            lambda adding: adding.delay(1),
            lambda adding: adding.apply_async([1]),
            lambda adding: adding.delay_many([(1,)]),
            lambda adding: delay_task("calc.add", 1),
        ],
        ids=["delay", "apply_async", "delay_many", "delay_task"],
    )
    def test_sending_is_refused_with_the_line_to_write(
        self, adding: FunctionTask[..., int], sent: Recorder, send: Callable[[Any], object]
    ) -> None:
        async def view() -> None:
            send(adding)

        with pytest.raises(SynchronousOnlyOperation, match=r"await sync_to_async\(mytask\.delay\)\(\.\.\.\)"):
            asyncio.run(view())

        assert sent.batches == []

    def test_the_line_works(self, adding: FunctionTask[..., int], sent: Recorder) -> None:
        async def view() -> None:
            await sync_to_async(adding.delay)(1)

        asyncio.run(view())

        assert body_of(sent)["args"] == [1]

import logging
import pickle
from collections.abc import Iterator
from concurrent.futures import Future
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest
from django.db import OperationalError

import celery.worker
from celery import backends, signals, states
from celery.datastructures import ExceptionInfo
from celery.exceptions import MeaninglessOption, NotRegistered, UndecodableMessage
from celery.models import Message, TaskMeta
from celery.task import Task, task, tasks
from celery.worker import TaskWrapper, UnknownTask, WorkController, classic, jail

pytestmark = pytest.mark.django_db


def add(x: int, y: int = 1) -> int:
    return x + y


def fail(text: str) -> None:
    raise ValueError(text)


def tell(task_id: str, loglevel: int, **kwargs: Any) -> Any:
    return {"task_id": task_id, "loglevel": loglevel, **kwargs}


class Again(Task):
    name = "tests.again"

    def run(self, number: int) -> None:
        self.retry(exc=ValueError("not yet"), countdown=60)


@pytest.fixture
def heard() -> Iterator[list[dict[str, Any]]]:
    """The news of tasks that ended."""
    found: list[dict[str, Any]] = []

    def listen(**facts: Any) -> None:
        found.append(facts)

    signals.task_finished.connect(listen)
    yield found
    signals.task_finished.disconnect(listen)


def stored(task_id: str = "id-1") -> TaskMeta:
    found: TaskMeta = TaskMeta.objects.get(task_id=task_id)
    return found


class TestJail:
    def test_returns_the_value_and_stores_it_as_done(self) -> None:
        assert jail("id-1", add, [1], {"y": 2}) == 3

        assert (stored().status, stored().result, stored().name) == ("DONE", "3", "add")
        assert backends.default().get_result("id-1") == 3

    def test_returns_an_exception_info_and_stores_a_failure(self) -> None:
        info = jail("id-1", fail, ["no money"], {})

        assert isinstance(info, ExceptionInfo)
        assert (type(info.exception), info.exception.args) == (ValueError, ("no money",))
        assert "in fail\n    raise ValueError(text)" in info.traceback
        assert (stored().status, stored().traceback) == ("FAILURE", info.traceback)

    @pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
    def test_nothing_that_the_function_raises_gets_out(self, error: BaseException) -> None:
        def leave() -> None:
            raise error

        assert isinstance(jail("id-1", leave, [], {}), ExceptionInfo)

        assert stored().status == "FAILURE"

    def test_a_value_that_cannot_be_stored_is_a_failure(self) -> None:
        info = jail("id-1", object, [], {})

        assert "JSON cannot carry" in str(info.exception)
        assert stored().status == "FAILURE"

    def test_a_result_that_is_there_already_stays(self) -> None:
        jail("id-1", add, [1], {})

        assert jail("id-1", add, [5], {}) == 6

        assert stored().result == "2"

    def test_a_backend_that_is_down_is_not_the_functions_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any) -> None:
            raise OperationalError("down")

        monkeypatch.setattr(type(backends.default()), "store", refuse)

        with pytest.raises(OperationalError):
            jail("id-1", add, [1], {})

    def test_a_retry_is_scheduled(self) -> None:
        tasks.register(Again)

        info = jail("id-1", tasks["tests.again"], [1], {})

        assert str(info.exception) == "not yet"
        assert stored().status == "RETRY"
        row = Message.objects.get(task_id="id-1")
        assert (row.attempt, row.task, row.visible_at is not None) == (2, "tests.again", True)


def wrapped(func: Any = add, *args: Any, **kwargs: Any) -> TaskWrapper:
    return TaskWrapper("tests.task", "id-1", func, list(args), kwargs)


class TestTaskWrapper:
    def test_executes_its_task_and_tells_of_it(self, heard: list[dict[str, Any]]) -> None:
        assert wrapped(add, 1, y=2).execute() == 3

        assert (stored().status, stored().name) == ("DONE", "tests.task")
        (news,) = heard
        assert (news["task_id"], news["name"], news["state"]) == ("id-1", "tests.task", "DONE")
        assert news["runtime"] > 0

    def test_tells_of_a_failure_with_its_traceback(self, heard: list[dict[str, Any]]) -> None:
        assert isinstance(wrapped(fail, "no money").execute(), ExceptionInfo)

        (news,) = heard
        assert (news["state"], news["error"]) == ("FAILURE", "ValueError: no money")
        assert news["traceback"] == stored().traceback

    def test_a_retry_is_neither_success_nor_failure(self, heard: list[dict[str, Any]]) -> None:
        tasks.register(Again)

        TaskWrapper("tests.again", "id-1", tasks["tests.again"], [1], {}).execute()

        assert heard == []
        assert stored().status == "RETRY"

    def test_a_subclass_is_told_with_the_classic_arguments(self) -> None:
        told: list[Any] = []

        class Mine(TaskWrapper):
            def on_success(self, ret_value: Any, meta: Any = None) -> None:
                told.append((ret_value, meta["task_id"], meta["task_name"]))

            def on_failure(self, exc_info: ExceptionInfo, meta: Any = None) -> None:
                told.append((str(exc_info.exception), meta["task_id"], meta["task_name"]))

        Mine("tests.task", "id-1", add, [1], {}).execute()
        Mine("tests.task", "id-2", fail, ["no"], {}).execute()

        assert told == [(2, "id-1", "tests.task"), ("no", "id-2", "tests.task")]

    def test_telling_of_it_needs_nothing_but_what_happened(self, heard: list[dict[str, Any]]) -> None:
        wrapped().on_success(3, {"task_id": "id-1", "task_name": "tests.task"})
        wrapped().on_failure(ExceptionInfo(ValueError("no money")))

        assert [(news["state"], news["error"]) for news in heard] == [
            ("DONE", ""),
            ("FAILURE", "ValueError: no money"),
        ]

    def test_passes_default_arguments_that_the_task_accepts(self) -> None:
        assert wrapped(tell).execute(loglevel=logging.DEBUG, logfile="log") == {
            "task_id": "id-1",
            "task_name": "tests.task",
            "loglevel": logging.DEBUG,
            "logfile": "log",
        }

    def test_extends_the_keyword_arguments_by_what_is_accepted(self) -> None:
        assert wrapped(add, 1, y=2).extend_with_default_kwargs(logging.DEBUG, "log") == {"y": 2}
        assert wrapped(tell, task_id="own").extend_with_default_kwargs(logging.DEBUG, "log") == {
            "task_id": "own",
            "task_name": "tests.task",
            "loglevel": logging.DEBUG,
            "logfile": "log",
        }

    def test_its_own_arguments_stay_as_they_are(self) -> None:
        wrapper = wrapped(tell, x=1)

        wrapper.execute()

        assert wrapper.kwargs == {"x": 1}
        assert repr(wrapper) == "<TaskWrapper: tests.task[id-1] args:[] kwargs:{'x': 1}>"


class Classic:
    """A message as `TaskConsumer` fetches it."""

    def __init__(self, **body: Any) -> None:
        self._body = {"task": "tests.task", "id": "id-1", "args": [1], "kwargs": {"y": 2}, "retries": 0, **body}

    def decode(self) -> dict[str, Any]:
        return self._body


class Unreadable(Classic):
    def decode(self) -> dict[str, Any]:
        raise UndecodableMessage("no JSON")


class TestFromMessage:
    @pytest.fixture(autouse=True)
    def _task(self) -> None:
        """Registering a function names it, so this is one of its own."""

        def plus(x: int, y: int) -> int:
            return x + y

        tasks.register(plus, "tests.task")

    def test_has_the_call_of_the_message_and_the_task_of_its_name(self) -> None:
        logger = logging.getLogger("mine")

        wrapper = TaskWrapper.from_message(Classic(), logger)

        assert (wrapper.task_name, wrapper.task_id, wrapper.logger) == ("tests.task", "id-1", logger)
        assert wrapper.execute() == 3

    def test_a_later_attempt_is_stored_and_told_as_one(self, heard: list[dict[str, Any]]) -> None:

        TaskWrapper.from_message(Classic(retries=2)).execute()

        assert stored().attempt == heard[0]["attempt"] == 3

    def test_a_task_that_is_not_registered_is_unknown(self) -> None:
        with pytest.raises(UnknownTask, match=r"no task named 'tests\.missing' is registered here"):
            TaskWrapper.from_message(Classic(task="tests.missing"))
        assert issubclass(UnknownTask, NotRegistered)

    def test_what_cannot_be_read_says_so(self) -> None:
        with pytest.raises(UndecodableMessage):
            TaskWrapper.from_message(Unreadable())


class Pool:
    """Runs here what would run in another process: everything is pickled on its way."""

    def __init__(self) -> None:
        self.tasks: list[Any] = []

    def apply_async(self, func: Any, args: Any, callback: Any, error_callback: Any) -> Future[Any]:
        self.tasks.append(args[1])
        func, args = pickle.loads(pickle.dumps((func, args)))  # noqa: S301 - our own
        future: Future[Any] = Future()
        try:
            ended = pickle.loads(pickle.dumps(func(*args)))  # noqa: S301 - our own
        except OperationalError as error:
            error_callback(error)
            future.set_exception(error)
        else:
            callback(ended)
            future.set_result(ended)
        return future


def double(number: int) -> int:
    return 2 * number


class TestExecutingInAPool:
    def test_a_registered_task_runs_there_and_is_told_of_here(self, heard: list[dict[str, Any]]) -> None:
        made = task(name="tests.double")(double)
        pool = Pool()

        TaskWrapper("tests.double", "id-1", made, [21], {}).execute_using_pool(pool)

        assert pool.tasks == [None]  # it goes by its name: a task made by a decorator cannot be pickled
        assert (stored().status, stored().result) == ("DONE", "42")
        assert [news["state"] for news in heard] == ["DONE"]

    def test_so_does_a_plain_function(self, heard: list[dict[str, Any]]) -> None:
        wrapped(fail, "no money").execute_using_pool(Pool(), loglevel=10, logfile=None)

        assert stored().status == "FAILURE"
        assert [news["error"] for news in heard] == ["ValueError: no money"]

    def test_what_could_not_be_stored_is_a_line(
        self, heard: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def refuse(*_: Any) -> None:
            raise OperationalError("down")

        monkeypatch.setattr(type(backends.default()), "store", refuse)

        wrapped(add, 1).execute_using_pool(Pool())

        assert heard == []
        assert "What became of task tests.task[id-1] is not stored: OperationalError('down')" in caplog.text

    def test_the_pool_of_the_standard_library_is_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ended = classic.Ended(states.DONE, "3", "", "", 0.1)
        monkeypatch.setattr(classic, "_perform", lambda *_: ended)  # a thread would not see the test's transaction

        with ThreadPool(1) as pool:
            assert wrapped(add, 1).execute_using_pool(pool).get(timeout=10) == ended


class TestWorkController:
    def test_has_the_defaults_of_the_settings(self, settings: Any) -> None:
        settings.CELERYD_CONCURRENCY = 7

        assert WorkController().concurrency == 7
        assert WorkController(concurrency=2, logfile="log", loglevel="INFO").concurrency == 2

    @pytest.mark.parametrize("option", [{"queue_wakeup_after": 0.3}, {"is_detached": True}])
    def test_an_option_without_meaning_is_told(self, option: dict[str, Any]) -> None:
        with pytest.warns(MeaninglessOption, match="mean nothing any more"):
            WorkController(1, **option)


class TestTheNames:
    @pytest.mark.parametrize("name", ["WorkController", "TaskWrapper", "jail", "UnknownTask", "EmptyQueue"])
    def test_are_found_in_the_package(self, name: str) -> None:
        assert getattr(celery.worker, name) is getattr(classic, name)

    def test_another_one_is_an_attribute_error(self) -> None:
        with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
            _ = celery.worker.Nonsense

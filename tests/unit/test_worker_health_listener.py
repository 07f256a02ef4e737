"""celery/worker/health/listener.py: who connects is answered, whatever he does; and whose the socket is."""

import os
import re
import selectors
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from celery.worker.health import listener as listening
from celery.worker.health.listener import AT_ONCE, DEAF_PAUSE, HANDED_DOWN, LONGEST_PATH, Listener, refuse

ANSWER = b'{"name": "w"}\n'


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The path of a socket in a folder with a short name."""
    monkeypatch.delenv(HANDED_DOWN, raising=False)
    with tempfile.TemporaryDirectory(prefix="c") as name:
        yield f"{name}/s"


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as selector:
        yield selector


@pytest.fixture
def listener(path: str, selector: selectors.BaseSelector) -> Iterator[Listener]:
    listener = made(path)
    listener.watch(selector)
    yield listener
    listener.close(hand_down=False)


def made(path: str) -> Listener:
    return Listener(path, lambda: ANSWER)


def turn(selector: selectors.BaseSelector) -> int:
    """Do what the supervisor does with its selector in one turn; return how many descriptors had something."""
    found = selector.select(0)
    for key, _ in found:
        key.data()
    return len(found)


def caller(path: str) -> socket.socket:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    one.settimeout(0)
    one.connect(path)
    return one


def all_from(one: socket.socket) -> bytes:
    """Return all that comes, until the other side closes; what has not come by now never will."""
    parts = []
    while part := one.recv(65536):
        parts.append(part)
    return b"".join(parts)


def dead_socket(path: str) -> None:
    """Leave the socket of a worker that was killed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.bind(path)
        one.listen()


class TestAnswers:
    def test_a_caller_gets_the_answer_and_the_end(
        self, listener: Listener, path: str, selector: selectors.BaseSelector
    ) -> None:
        with caller(path) as one:
            turn(selector)

            assert all_from(one) == ANSWER

    def test_several_callers_are_answered_in_one_turn(
        self, listener: Listener, path: str, selector: selectors.BaseSelector
    ) -> None:
        with ExitStack() as stack:
            callers = [stack.enter_context(caller(path)) for _ in range(5)]
            turn(selector)

            assert [all_from(one) for one in callers] == [ANSWER] * 5

    def test_a_flood_takes_a_part_of_each_turn_and_is_answered_in_the_end(
        self, listener: Listener, path: str, selector: selectors.BaseSelector
    ) -> None:
        with ExitStack() as stack:
            # given
            callers = [stack.enter_context(caller(path)) for _ in range(2 * AT_ONCE + 1)]

            # when
            turns = 0
            while turn(selector):
                turns += 1

            # then
            assert turns == 3
            assert [all_from(one) for one in callers] == [ANSWER] * len(callers)

    def test_who_says_something_odd_is_answered_like_everybody(
        self, listener: Listener, path: str, selector: selectors.BaseSelector
    ) -> None:
        with caller(path) as one:
            one.send(b"GET / HTTP/1.1\r\n\r\n" + b"\xff\0" * 1000)
            turn(selector)

            assert one.recv(65536) == ANSWER

    def test_who_has_gone_again_harms_nothing(
        self, listener: Listener, path: str, selector: selectors.BaseSelector
    ) -> None:
        caller(path).close()
        with caller(path) as one:
            turn(selector)

            assert all_from(one) == ANSWER

    def test_nothing_stays_open_for_a_caller_who_says_and_reads_nothing(
        self, listener: Listener, path: str, selector: selectors.BaseSelector
    ) -> None:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not walked
        with caller(path):
            turn(selector)

            assert len(os.listdir("/proc/self/fd")) == before + 1  # noqa: PTH208 - the caller's own

    def test_an_answer_that_is_larger_than_what_a_socket_takes_does_not_wait(
        self, path: str, selector: selectors.BaseSelector
    ) -> None:
        listener = Listener(path, lambda: b"x" * 10_000_000)
        listener.watch(selector)
        with caller(path) as one:
            turn(selector)

            assert 0 < len(all_from(one)) < 10_000_000
        listener.close(hand_down=False)

    def test_without_descriptors_left_it_is_deaf_for_a_moment_and_does_not_spin(
        self, listener: Listener, path: str, selector: selectors.BaseSelector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Full:
            def accept(self) -> None:
                raise OSError(24, "Too many open files")

            def fileno(self) -> int:
                return real.fileno()

        with caller(path) as one:
            # given
            real = listener._socket
            listener._socket = Full()  # type: ignore[assignment]
            monkeypatch.setattr("celery.worker.health.listener.time.monotonic", lambda: 100.0)

            # when
            turn(selector)

            # then
            assert turn(selector) == 0

            # when
            listener._socket = real
            listener.turn(100.0 + DEAF_PAUSE / 2)
            assert turn(selector) == 0
            listener.turn(100.0 + DEAF_PAUSE)
            turn(selector)

            # then
            assert all_from(one) == ANSWER


class TestWhoseSocketItIs:
    def test_only_its_user_may_ask(self, listener: Listener, path: str) -> None:
        assert stat.filemode(Path(path).stat().st_mode) == "srw-------"

    def test_a_dead_workers_socket_is_replaced(self, path: str, selector: selectors.BaseSelector) -> None:
        # given
        dead_socket(path)

        # when
        listener = made(path)
        listener.watch(selector)

        # then
        with caller(path) as one:
            turn(selector)
            assert all_from(one) == ANSWER
        listener.close(hand_down=False)

    def test_a_living_workers_socket_is_not(
        self, listener: Listener, path: str, selector: selectors.BaseSelector
    ) -> None:
        with pytest.raises(SystemExit, match=f"{re.escape(path)} cannot be used: a worker that runs answers there"):
            made(path)

        with caller(path) as one:
            turn(selector)
            assert all_from(one) == ANSWER

    def test_one_at_which_very_many_wait_is_a_living_workers(
        self, path: str, selector: selectors.BaseSelector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listening, "BACKLOG", 0)
        listener = made(path)
        with caller(path), pytest.raises(SystemExit, match="a worker that runs answers there"):
            made(path)

        listener.close(hand_down=False)

    def test_one_that_listens_only_a_moment_later_is_a_living_workers(
        self, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # given
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as starting:
            starting.bind(path)
            monkeypatch.setattr("celery.worker.health.listener.time.sleep", lambda _: starting.listen())

            # then
            with pytest.raises(SystemExit, match="a worker that runs answers there"):
                made(path)

    @pytest.mark.parametrize("moment", [1, 2, 3, 4])
    def test_one_that_takes_a_dead_ones_place_meanwhile_is_left_alone(
        self, path: str, moment: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # given
        dead_socket(path)
        others: list[Listener] = []
        pauses: list[float] = []

        def another_is_faster(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == moment:
                others.append(made(path))

        monkeypatch.setattr("celery.worker.health.listener.time.sleep", another_is_faster)

        # when
        with pytest.raises(SystemExit, match="a worker that runs answers there"):
            made(path)

        # then
        caller(path).close()
        others[0].close(hand_down=False)

    def test_a_file_is_never_replaced(self, path: str) -> None:
        Path(path).write_text("precious")

        with pytest.raises(SystemExit, match="something else is there, which is no socket"):
            made(path)

        assert Path(path).read_text() == "precious"

    @pytest.mark.parametrize(
        ("place", "reason"),
        [
            ("x" * (LONGEST_PATH + 1), f"more than {LONGEST_PATH} bytes"),
            ("nowhere/s", "there is no folder .*nowhere"),
            ("file/s", "there is no folder .*file"),
        ],
    )
    @pytest.mark.parametrize("use", [made, refuse])
    def test_a_place_where_none_can_be_is_refused(self, path: str, place: str, reason: str, use: object) -> None:
        folder = Path(path).parent
        (folder / "file").touch()

        with pytest.raises(SystemExit, match=f"cannot be used: .*{reason}.* Choose another with --socket"):
            use(str(folder / place))  # type: ignore[operator]

    def test_the_longest_path_is_not_too_long(self, path: str) -> None:
        longest = path + "x" * (LONGEST_PATH - len(path))

        listener = made(longest)

        caller(longest).close()
        listener.close(hand_down=False)

    def test_looking_changes_nothing(self, path: str) -> None:
        dead_socket(path)

        refuse(path)

        assert Path(path).is_socket()


class TestTheEnd:
    def test_it_removes_the_socket(self, listener: Listener, path: str, selector: selectors.BaseSelector) -> None:
        listener.close(hand_down=False)

        assert not Path(path).exists()
        assert not selector.get_map()

    def test_it_leaves_what_another_has_made_there_since(self, path: str) -> None:
        # given
        listener = made(path)
        Path(path).unlink()
        another = made(path)

        # when
        listener.close(hand_down=False)

        # then
        caller(path).close()
        another.close(hand_down=False)

    def test_an_operator_may_give_it_another_mode(self, path: str) -> None:
        listener = made(path)
        Path(path).chmod(0o660)

        listener.close(hand_down=False)

        assert not Path(path).exists()


class TestTheProgramThatFollows:
    def test_it_answers_who_called_in_between(self, path: str, selector: selectors.BaseSelector) -> None:
        # given
        before = made(path)
        before.watch(selector)
        before.close(hand_down=True)
        assert os.get_inheritable(int(os.environ[HANDED_DOWN]))

        with caller(path) as one:
            # when
            after = made(path)
            after.watch(selector)
            turn(selector)

            # then
            assert all_from(one) == ANSWER
        assert HANDED_DOWN not in os.environ
        assert not any(os.get_inheritable(end.fileno()) for end in after.descriptors())
        after.close(hand_down=False)
        assert not Path(path).exists()

    def test_it_makes_a_new_one_if_the_file_has_gone(self, path: str) -> None:
        made(path).close(hand_down=True)
        Path(path).unlink()

        after = made(path)

        caller(path).close()
        after.close(hand_down=False)

    @pytest.mark.parametrize("value", ["", "soon", "999999", "1"])
    def test_it_believes_no_number_that_is_no_socket_of_ours(
        self, path: str, value: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(HANDED_DOWN, value)

        listener = made(path)

        caller(path).close()
        listener.close(hand_down=False)

    def test_a_place_is_not_refused_that_is_in_use_by_itself(self, path: str) -> None:
        before = made(path)
        before.close(hand_down=True)

        refuse(path)

        made(path).close(hand_down=False)

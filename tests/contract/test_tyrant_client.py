"""The client of Tokyo Tyrant: what it does when the server is not as it should be. No answer is taken for another's."""

import os
import socket
import struct
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery.backends.tyrant import client as tyrant_client
from celery.backends.tyrant import protocol as tyrant_protocol
from celery.backends.tyrant.client import BATCH, BATCH_BYTES, Client, _batches
from celery.backends.tyrant.protocol import (
    LARGEST,
    Answers,
    NonsenseError,
    Request,
    get,
    getpart,
    mget,
    misc,
    out,
    put,
    putcat,
    putkeep,
    stat,
    vsiz,
)
from celery.exceptions import ImproperlyConfigured, ResultBackendUnreachable, ResultBackendUnusable
from tests.helpers import eventually
from tests.tyrant.clients import connected
from tests.tyrant.records import FIXED, HASH, MEMORY, MEMORY_TREE, TABLE, TREE
from tests.tyrant.scripted import Scripted, Turn
from tests.tyrant.stand_in import StandIn


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn(HASH) as made:
        yield made


@pytest.fixture
def client(server: StandIn) -> Iterator[Client]:
    with connected(server.port) as made:
        made.call(put(b"a", b"of a"))
        made.call(put(b"b", b"of b"))
        yield made


@pytest.fixture
def hasty(server: StandIn) -> Iterator[Client]:
    """A client that waits a moment only."""
    with connected(server.port, timeout=0.5) as made:
        made.call(put(b"a", b"of a"))
        yield made


class TestConnecting:
    @pytest.mark.parametrize("kind", [MEMORY, MEMORY_TREE, HASH, TREE])
    def test_a_database_that_keeps_values_as_they_are_is_used(self, kind: str) -> None:
        with StandIn(kind) as server, connected(server.port) as client:
            assert client.call(put(b"a", b"1"))
            assert client.call(get(b"a")) == b"1"

    @pytest.mark.parametrize("kind", [TABLE, FIXED])
    def test_a_database_that_would_lose_results_and_call_it_success_is_refused(self, kind: str) -> None:
        with StandIn(kind) as server, connected(server.port) as client:
            with pytest.raises(ResultBackendUnusable, match=f"'{kind}', in which results would be lost. Start"):
                client.call(put(b"a", b"1"))

            assert server.records.rows == {}

    def test_that_is_an_error_of_the_configuration(self) -> None:
        assert issubclass(ResultBackendUnusable, ImproperlyConfigured)

    def test_a_server_that_does_not_tell_its_type_is_refused(self) -> None:
        with (
            StandIn(mask={"stat"}) as server,
            connected(server.port) as client,
            pytest.raises(ResultBackendUnusable, match=r"allow the command stat \(-mask\)"),
        ):
            client.call(get(b"a"))

    def test_the_type_is_looked_at_again_at_each_connection(self, server: StandIn, client: Client) -> None:
        server.records.kind = TABLE

        def asked_anew() -> bool:
            server.drop_connections()  # those that it has noticed by now
            return client.call(get(b"a")) is None

        with pytest.raises(ResultBackendUnusable):
            eventually(asked_anew)

    def test_a_server_that_is_not_there_is_an_error_that_says_where_to_look(self, server: StandIn) -> None:
        server.stop()

        with (
            connected(server.port) as client,
            pytest.raises(
                ResultBackendUnreachable,
                match=f"^Tokyo Tyrant at 127.0.0.1:{server.port} cannot be reached: .*Check TT_HOST and TT_PORT",
            ),
        ):
            client.call(get(b"a"))

        server.start()

    @pytest.mark.parametrize("host", ["a" * 70 + ".invalid", "a\0b", "host..invalid"])
    def test_a_host_that_cannot_be_one_is_an_error_of_ours_too(self, host: str) -> None:
        with pytest.raises(ResultBackendUnreachable):
            Client(host, 1978, timeout=1).call(get(b"a"))

    def test_another_servers_port_is_an_error_that_says_so(self) -> None:
        with (
            Scripted([[]], greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n") as server,
            connected(server.port) as client,
            pytest.raises(ResultBackendUnreachable, match="does not belong to its protocol: the code 0x48"),
        ):
            client.call(get(b"a"))


class TestSizes:
    """Above its limits a server runs the bytes behind the header as commands, so nothing of that may be sent."""

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (
                lambda piece: put(piece, b""),
                "a key of 268435457 bytes is too large: .* at most 268435456",
            ),
            (lambda piece: put(b"", piece), "a value of 268435457 bytes"),
            (lambda piece: putkeep(b"", piece), "a value of"),
            (lambda piece: putcat(b"", piece), "a value of"),
            (get, "a key of"),
            (vsiz, "a key of"),
            (out, "a key of"),
            (lambda piece: mget([b"a", piece]), "a key of"),
            (lambda piece: misc(b"getpart", piece), "an argument of"),
        ],
    )
    def test_a_piece_above_256_mebibytes_is_refused_before_it_is_sent(
        self, make: Callable[[bytes], Any], words: str
    ) -> None:
        with pytest.raises(ValueError, match=words):
            make(bytes(LARGEST + 1))

    def test_the_limit_itself_is_allowed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tyrant_protocol, "LARGEST", 10)

        assert put(b"k" * 10, b"v" * 10).data.endswith(b"v" * 10)
        with pytest.raises(ValueError, match="11 bytes"):
            put(b"k" * 11, b"")

    def test_too_many_keys_are_refused(self) -> None:
        with pytest.raises(ValueError, match="1048577 keys are too many: Tokyo Tyrant takes at most 1048576 at once"):
            mget([b""] * (2**20 + 1))

    def test_too_many_arguments_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tyrant_protocol, "MOST_ARGUMENTS", 2)

        with pytest.raises(ValueError, match="3 arguments are too many"):
            misc(b"outlist", b"a", b"b", b"c")

    def test_a_name_that_would_wedge_the_connection_is_refused(self) -> None:
        assert misc(b"n" * 1023).data
        with pytest.raises(ValueError, match="names of at most 1023 bytes, and this has 1024"):
            misc(b"n" * 1024)

    def test_ten_megabytes_go_there_and_back(self, client: Client) -> None:
        value = os.urandom(1024) * 10_000

        client.call(put(b"large", value))

        assert client.call(get(b"large")) == value


class TestBatches:
    @given(
        sizes=st.lists(st.integers(0, BATCH_BYTES + 10), max_size=8) | st.lists(st.just(9), min_size=50, max_size=300)
    )
    def test_batches_keep_the_order_and_are_small(self, sizes: list[int]) -> None:
        requests = [Request(bytes(size), put(b"", b"").read) for size in sizes]

        batches = list(_batches(requests))

        assert [request for batch in batches for request in batch] == requests
        for batch in batches:
            assert 0 < len(batch) <= 64
            assert len(batch) == 1 or sum(len(request.data) for request in batch) <= BATCH_BYTES

    def test_a_thousand_requests_get_their_own_answers(self, client: Client) -> None:
        keys = [str(number).encode() for number in range(1000)]

        assert all(client.run([put(key, b"of " + key) for key in keys]))

        assert client.run([get(key) for key in keys]) == [b"of " + key for key in keys]

    def test_a_request_is_written_as_a_whole(self, server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
        sent: list[bytes] = []

        class Watched(socket.socket):
            def sendall(self, data: Any, *flags: int) -> None:
                if threading.current_thread() is threading.main_thread():
                    sent.append(bytes(data))
                super().sendall(data, *flags)

        monkeypatch.setattr(socket, "socket", Watched)
        requests = [put(b"a", bytes(100_000)), putcat(b"b", b"1")]

        with connected(server.port) as client:
            client.run(requests)

        assert sent == [stat().data, requests[0].data + requests[1].data]


class TestLostConnections:
    def test_after_a_restart_the_next_request_is_answered_on_a_new_connection(
        self, server: StandIn, client: Client
    ) -> None:
        server.restart()

        assert client.call(get(b"a")) == b"of a"
        assert client.epoch == 2

    def test_what_must_not_be_repeated_is_not_lost_to_a_connection_that_was_closed_while_idle(
        self, server: StandIn, client: Client
    ) -> None:
        server.drop_connections()

        assert client.call(putcat(b"a", b"!")) is True
        assert client.call(get(b"a")) == b"of a!"

    @pytest.mark.parametrize("after", [0, 1, 3, 5, 7])
    def test_an_answer_that_is_cut_is_asked_for_again(self, server: StandIn, client: Client, after: int) -> None:
        server.cut_after = after

        assert client.run([get(b"a"), get(b"b"), get(b"c")]) == [b"of a", b"of b", None]

    @pytest.mark.parametrize("make", [putcat, putkeep])
    def test_a_command_that_is_cut_is_not_repeated_unless_that_does_no_harm(
        self, server: StandIn, client: Client, make: Callable[..., Request[bool]]
    ) -> None:
        server.cut_after = 0
        with pytest.raises(ResultBackendUnreachable, match="the server closed the connection"):
            client.call(make(b"log", b"x"))
        assert server.records.rows[b"log"] == b"x"

        client.call(get(b"log"))
        server.cut_after = 0
        client.call(make(b"log", b"y", may_repeat=True))
        assert server.records.rows[b"log"] == (b"xyy" if make is putcat else b"x")

    def test_a_second_loss_is_told(self) -> None:
        half = Turn(wait_for=len(get(b"a").data), say=b"\0\0\0", then_close=True)
        with (
            Scripted([[half]]) as server,
            connected(server.port) as client,
            pytest.raises(ResultBackendUnreachable, match="the server closed the connection"),
        ):
            client.call(get(b"a"))

        assert server.accepted == 2

    def test_many_requests_survive_one_loss_and_not_one_a_batch(self) -> None:
        requests = [get(b"a")] * (3 * BATCH)
        size = BATCH * len(requests[0].data)
        answered, cut = Turn(wait_for=size, say=b"\1" * BATCH), Turn(wait_for=size, then_close=True)
        with Scripted([[answered, cut], [answered, answered]]) as server, connected(server.port) as client:
            assert client.run(requests) == [None] * (3 * BATCH)

        with Scripted([[answered, cut], [answered, cut], [answered]]) as server, connected(server.port) as client:
            with pytest.raises(ResultBackendUnreachable):
                client.run(requests)
            assert server.accepted == 2

    def test_after_a_hang_up_signal_an_old_connection_is_silent_and_a_new_one_is_opened(
        self, server: StandIn, hasty: Client
    ) -> None:
        server.hush()

        assert hasty.call(get(b"a")) == b"of a"
        assert server.accepted == 2

    def test_a_server_that_answers_nobody_is_told_after_the_timeout(self, server: StandIn, hasty: Client) -> None:
        server.stall()

        with pytest.raises(
            ResultBackendUnreachable, match=r"did not answer within 0.5 s \(CELERY_TT_TIMEOUT\).*see its -thnum"
        ):
            hasty.call(get(b"a"))

    def test_late_answers_are_nobodys(self, server: StandIn, hasty: Client) -> None:
        server.stall()
        with pytest.raises(ResultBackendUnreachable):
            hasty.call(get(b"a"))
        server.resume()

        assert eventually(lambda: hasty.call(get(b"nowhere")) is None)
        assert hasty.call(put(b"b", b"of b")) is True
        assert hasty.call(get(b"b")) == b"of b"

    @pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
    def test_an_exception_of_a_signal_handler_leaves_no_answer_behind(
        self, client: Client, error: type[BaseException]
    ) -> None:
        def interrupted(_answers: Answers) -> None:
            raise error

        with pytest.raises(error):
            client.call(Request(get(b"a").data, interrupted))

        assert client.call(get(b"b")) == b"of b"
        assert client.epoch == 2

    def test_a_server_that_reads_nothing_does_not_hold_us(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The value is larger than what is buffered on the way."""
        monkeypatch.setattr(tyrant_client, "SLOWEST", 1024**3)
        with (
            _greeter(b"") as port,
            connected(port, timeout=0.2) as client,
            pytest.raises(ResultBackendUnreachable, match="did not answer within"),
        ):
            client.call(putcat(b"a", bytes(32 * BATCH_BYTES)))

    def test_a_trickle_is_no_answer(self) -> None:
        """Each byte comes in time; the answer does not."""
        once = Request(get(b"a").data, get(b"a").read, may_repeat=False)
        with (
            _greeter(b"\0\0\0\xff\xff") as port,
            connected(port, timeout=0.3) as client,
            pytest.raises(ResultBackendUnreachable, match="did not answer within"),
        ):
            client.call(once)


@contextmanager
def _greeter(beginning: bytes) -> Iterator[int]:
    """Lend the port of a server that answers `stat`, reads no more, and trickles an answer if it has a beginning."""
    stopped = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_greet, args=(listener, beginning, stopped))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        stopped.set()
        thread.join()
        listener.close()


def _greet(listener: socket.socket, beginning: bytes, stopped: threading.Event) -> None:
    client, _ = listener.accept()
    with client, suppress(OSError):
        client.recv(len(stat().data))
        client.sendall(b"\0" + struct.pack(">I", 10) + b"type\thash\n")
        if beginning:
            client.recv(1)
            client.sendall(beginning)
        for _ in range(500):
            if stopped.wait(0.01):
                return
            client.sendall(b"x" if beginning else b"")


class TestProcessesAndThreads:
    def test_a_forked_child_lets_go_of_the_connection_and_its_parent_keeps_it(
        self, server: StandIn, client: Client
    ) -> None:
        pid = os.fork()
        if pid == 0:
            is_fresh = client._line is None
            os._exit(0 if is_fresh and client.call(get(b"a")) == b"of a" and client.epoch == 2 else 1)

        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert client.call(get(b"b")) == b"of b"
        assert (client.epoch, server.accepted) == (1, 2)

    def test_a_client_that_is_forgotten_closes_its_connection(self, server: StandIn) -> None:
        client = Client("127.0.0.1", server.port, timeout=5)
        client.call(get(b"a"))

        line = client._line
        assert line is not None
        the_socket = line._socket
        del client, line

        assert the_socket.fileno() == -1


# -- answers that no server gives

REQUESTS = {
    "put": put(b"a", b"b"),
    "get": get(b"a"),
    "vsiz": vsiz(b"a"),
    "out": out(b"a", may_repeat=True),
    "mget": mget([b"a", b"b"]),
    "getpart": getpart(b"a", 0, 8),
    "stat": stat(),
}

_SIZES = st.one_of(
    st.integers(0, 5), st.sampled_from([LARGEST, LARGEST + 1, 2**31 - 1, 2**31, 2**32 - 1]), st.integers(0, 2**32 - 1)
).map(lambda size: struct.pack(">I", size))
HOSTILE = st.lists(
    st.one_of(_SIZES, st.sampled_from([b"\0", b"\1", b"\2", b"a", b"b", b"type\thash\n"]), st.binary(max_size=20)),
    max_size=12,
).map(b"".join)


class TestHostileAnswers:
    @pytest.mark.parametrize("name", REQUESTS)
    @settings(max_examples=150, deadline=None)
    @given(said=HOSTILE, closes=st.booleans())
    def test_whatever_is_said_it_is_an_answer_or_an_error(self, name: str, said: bytes, closes: bool) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(said)
            if closes:
                theirs.shutdown(socket.SHUT_WR)
            answers = Answers(ours, 0.005)
            answers.begin()
            try:
                REQUESTS[name].read(answers)
                answers.end()
            except (OSError, NonsenseError):
                pass

    @settings(max_examples=40, deadline=None)
    @given(greeting=HOSTILE, said=HOSTILE, name=st.sampled_from(sorted(REQUESTS)))
    def test_a_client_raises_nothing_but_its_own_errors(self, greeting: bytes, said: bytes, name: str) -> None:
        request = REQUESTS[name]
        script = [Turn(wait_for=len(request.data), say=said, then_close=True)]
        for first in (greeting, b"\0\0\0\0\x0atype\thash\n"):
            with Scripted([script], greeting=first) as server, connected(server.port, timeout=0.05) as client:
                try:
                    client.call(request)
                except (ResultBackendUnreachable, ResultBackendUnusable):
                    assert client._line is None

    @pytest.mark.parametrize(
        "said",
        [
            b"\0" + struct.pack(">I", LARGEST),
            b"\0" + struct.pack(">I", LARGEST) + bytes(1000),
            b"\0" + struct.pack(">I", 2**31 - 1),
            b"\0" + struct.pack(">I", 2**32 - 1),
        ],
    )
    @pytest.mark.parametrize("name", REQUESTS)
    def test_nothing_is_reserved_for_what_is_only_announced(self, name: str, said: bytes) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(said)
            theirs.shutdown(socket.SHUT_WR)
            answers = Answers(ours, 5)
            answers.begin()
            tracemalloc.start()
            try:
                REQUESTS[name].read(answers)
            except (OSError, NonsenseError):
                pass
            finally:
                _, peak = tracemalloc.get_traced_memory()
                tracemalloc.stop()
        assert peak < 4 * 1024 * 1024

    def test_an_answer_has_no_time_after_its_deadline_whatever_has_arrived(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(b"\0")
            answers = Answers(ours, 0)
            answers.begin()

            with pytest.raises(TimeoutError):
                REQUESTS["put"].read(answers)

    def test_keys_that_nobody_asked_for_are_ignored(self) -> None:
        said = b"\0" + struct.pack(">I", 2) + _pair(b"x", b"1") + _pair(b"b", b"2")

        assert _told(mget([b"a", b"b"]), said) == {b"b": b"2"}

    def test_more_values_than_keys_are_nonsense(self) -> None:
        with pytest.raises(ResultBackendUnreachable, match="3 values announced, where 2 are the most there can be"):
            _told(mget([b"a", b"b"]), b"\0" + struct.pack(">I", 3))

    def test_an_answer_of_more_than_a_gibibyte_is_nonsense(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tyrant_protocol, "LARGEST_ANSWER", 1000)

        with pytest.raises(ResultBackendUnreachable, match="an answer of more than 1000 bytes"):
            _told(get(b"a"), b"\0" + struct.pack(">I", 2000) + bytes(2000))

    def test_bytes_behind_an_answer_are_nonsense(self) -> None:
        with pytest.raises(ResultBackendUnreachable, match="1 bytes more than an answer has"):
            _told(put(b"a", b"b"), b"\0\0")

    def test_bytes_that_come_later_are_no_answer_to_the_next_request(self) -> None:
        stored = Turn(wait_for=len(put(b"a", b"b").data), say=b"\0")
        missing = Turn(wait_for=len(get(b"a").data), say=b"\1")
        with Scripted([[stored], [missing]]) as server, connected(server.port) as client:
            client.call(put(b"a", b"b"))
            line = client._line
            assert line is not None

            server.open[0].sendall(b"\0")
            eventually(lambda: not line.is_quiet())

            assert client.call(get(b"a")) is None
            assert server.accepted == 2


def _pair(key: bytes, value: bytes) -> bytes:
    return struct.pack(">II", len(key), len(value)) + key + value


def _told(request: Request[Any], said: bytes) -> Any:
    with (
        Scripted([[Turn(wait_for=len(request.data), say=said)]]) as server,
        connected(server.port) as client,
    ):
        return client.call(request)

"""The supervisor forks dispatcher, steward and children, watches them, and passes signals on. It does nothing else.

It calls no user code, holds no connection and starts no thread, so it may fork at any time. What happens it tells the
steward, which logs it and sends signals.
"""

import gc
import os
import selectors
import signal
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from django.db import connections

from celery import broker, log
from celery.worker import channel, dispatcher, steward
from celery.worker.child import Child, Seat
from celery.worker.dispatcher import Dispatcher
from celery.worker.family import Family
from celery.worker.health import Health
from celery.worker.options import Options
from celery.worker.process import Offspring, Wakeup, describe_exit, dump_stacks, reap_strangers
from celery.worker.restarts import Restarts
from celery.worker.slots import Slots
from celery.worker.steward import Steward
from celery.worker.stopping import Stopping
from celery.worker.watchdog import Watchdog, patience

#: Exit codes: all done; work was given back because the time to drain was over.
CLEAN: Final = 0
ABANDONED: Final = 3

#: Seconds beyond the drain's deadline that the dispatcher, then the steward, get to give back what is left.
GRACE: Final = 5.0
LONGEST_SLEEP: Final = 1.0
#: The pid of the process that inherits all orphans, in a container.
INIT: Final = 1
#: Seconds until a process is tried again that could not be started.
RESOURCE_PAUSE: Final = 1.0


class Supervisor:
    """The process that the operator started."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._slots = Slots(options.children)
        self._selector = selectors.DefaultSelector()
        self._wakeup = Wakeup()
        self._family = Family(self._selector, on_death=self._bury, on_word=self._answer)
        self._dispatcher: Offspring | None = None
        self._steward: Offspring | None = None
        self._owner, self._is_enlisted = "", False
        self._restarts = Restarts()
        self._events: list[tuple[str, dict[str, Any]]] = []
        self._stopping = Stopping(options.drain_timeout)
        self._health = Health(options, self._slots)
        self._abandoned = False
        self._crew_life = 0.0
        self._recycles = bool(options.max_tasks or options.max_memory)
        self._watchdogs = {
            "dispatcher": Watchdog(self._slots.pulse_of_dispatcher),
            "steward": Watchdog(self._slots.pulse_of_steward),
        }

    @property
    def wants_restart(self) -> bool:
        """Whether the worker is to start anew when `run` has returned."""
        return self._stopping.wants_restart

    @property
    def _deadline(self) -> float | None:
        return self._stopping.deadline

    def run(self) -> int:
        """Work until told to stop, and return the exit code."""
        self._prepare()
        self._restarts.soon("steward")
        self._restarts.soon("dispatcher")
        self._start_what_is_due()
        while self._family or self._restarts:
            for key, _ in self._selector.select(self._sleep()):
                key.data()
            self._kill_overdue(time.monotonic())
            self._kill_stalled(time.monotonic())
            self._start_what_is_due()
            self._pass_events_on()
            self._health.turn(time.monotonic())
            if os.getpid() == INIT:
                reap_strangers(self._family)
            if self._deadline is not None:
                self._enforce(time.monotonic() - self._deadline)
        self._health.close(is_restarting=self.wants_restart)
        self._wakeup.uninstall()
        self._selector.close()
        return ABANDONED if self._abandoned else CLEAN

    def _prepare(self) -> None:
        connections.close_all()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whoever started us may have it ignored: no exit codes then
        self._wakeup.install()
        self._wakeup.watch(self._selector, self._obey_signals)
        self._health.watch(self._selector)
        gc.collect()
        gc.freeze()

    def _sleep(self) -> float:
        children = self._family.of_role("child")
        deadlines = [self._slots.deadline(child.index) for child in children if not child.overdue]
        moments = [self._restarts.next_at(), *filter(None, [self._deadline, *deadlines])]
        wait = min(moments) - time.monotonic()
        return min(max(wait, 0.01 if self._deadline else 0.0), LONGEST_SLEEP)

    # -- starting

    def _start_steward(self) -> None:
        is_stopping = self._deadline is not None
        options = replace(self._options, beat=self._options.beat and not is_stopping)
        ours, theirs = channel.pair()
        made = Offspring("steward", control=ours)
        self._slots.beat_as_steward()
        self._launch(made, lambda: Steward(theirs, self._slots, options).run())
        theirs.close()
        self._steward = made
        if self._owner:
            self._introduce(is_new=not self._is_enlisted)
        if is_stopping:
            self._go_on_stopping(None)

    def _start_crew(self) -> None:
        """Start a dispatcher and its children, in the name of a new owner."""
        owner = uuid.uuid4().hex
        self._slots.beat()
        ours, theirs = channel.pair()
        consumer = broker.current().consumer(owner, self._options.queues)
        made = Offspring("dispatcher", control=ours)
        self._launch(made, lambda: Dispatcher(consumer, theirs, self._slots, self._options.children).run())
        theirs.close()
        self._dispatcher, self._owner, self._is_enlisted = made, owner, False
        self._introduce(is_new=True)
        for index in range(self._options.children):
            self._restarts.soon("child", index)

    def _start_child(self, index: int) -> None:
        dispatchers_end, childs_end = channel.pair()
        self._slots.clear(index)
        seat = Seat(
            index=index,
            end=childs_end,
            slots=self._slots,
            owner=self._owner,
            worker=self._options.name,
            bounds=self._options,
        )
        child = Offspring("child", index)
        self._launch(child, lambda: Child(seat).run(), dispatchers_end)
        self._tell_dispatcher(dispatcher.CHILD, index, child.pid, ends=(dispatchers_end, childs_end))

    def _launch(self, made: Offspring, run: Callable[[], None], *not_theirs: socket.socket) -> None:
        """Start a process, which closes what is `not_theirs`."""
        self._family.launch(made, run, [self._wakeup, *self._health.descriptors(), *not_theirs])
        if made.role in self._watchdogs:
            self._watchdogs[made.role].begin(time.monotonic())

    def _introduce(self, *, is_new: bool) -> None:
        """Connect dispatcher and steward with each other."""
        stewards_end, dispatchers_end = channel.pair()
        if self._steward:
            self._family.tell(self._steward, steward.DISPATCHER, self._owner, is_new, ends=(stewards_end,))
        self._tell_dispatcher(dispatcher.STEWARD, ends=(dispatchers_end,))

    def _tell_dispatcher(self, *words: Any, ends: tuple[socket.socket, ...] = ()) -> None:
        if self._dispatcher:
            self._family.tell(self._dispatcher, *words, ends=ends)
        for end in ends:
            end.close()

    # -- what happens

    def _answer(self, word: str, *facts: Any) -> None:
        if word == dispatcher.READY:
            self._health.note_ready()
            known = {"name": self._options.name, "pid": os.getpid(), "queues": list(self._options.queues)}
            self._note("worker_ready", **known, concurrency=self._options.children)
        elif word == steward.ENLISTED:
            self._is_enlisted = facts[0] == self._owner
        elif word == steward.LOST and self._dispatcher and facts[0] == self._owner:
            self._dispatcher.send_signal(signal.SIGKILL)

    def _bury(self, dead: Offspring) -> None:
        """Answer the end of a process."""
        code, life = self._family.bury(dead), time.monotonic() - dead.started_at
        cause = dead.killed_for or describe_exit(code)
        if dead is self._steward:
            self._steward = None
        elif dead is self._dispatcher:
            self._dispatcher, self._crew_life = None, life
        if self._deadline is None:
            is_used_up = self._recycles and dead.role == "child" and code == 0 and not self._slots.running(dead.index)
            is_expected = is_used_up or bool(dead.overdue)
            if not is_expected:
                self._note("process_died", role=dead.role, pid=dead.pid, cause=cause)
            self._replace(dead, cause, life=float("inf") if is_expected else life)
        else:
            self._go_on_stopping(dead)

    def _tell_of_child(self, dead: Offspring, cause: str) -> None:
        """Tell which job a child's death cost. One that ended just before its child was killed for it costs none."""
        running = self._slots.running(dead.index)
        if not dead.overdue:
            self._tell_dispatcher(dispatcher.DIED, dead.index, cause, running)
        else:
            limit, victim = f"{dead.limit:g} s", running if running == dead.overdue else 0
            self._tell_dispatcher(dispatcher.OVERDUE, dead.index, limit, victim)

    def _replace(self, dead: Offspring, cause: str, *, life: float) -> None:
        if dead.role == "child" and self._dispatcher:
            self._tell_of_child(dead, cause)
            self._restarts.follow(dead.role, dead.index, life=life)
        elif dead.role == "dispatcher":
            self._family.kill("child")
        elif dead.role == "steward":
            self._restarts.follow(dead.role, dead.index, life=life)
        if not self._dispatcher and not self._family.of_role("child"):
            self._restarts.forget(but="steward")
            self._restarts.follow("dispatcher", 0, life=self._crew_life)

    def _start_what_is_due(self) -> None:
        """Start what is to be started by now, one after another: a signal to stop is heard between two."""
        while due := self._restarts.take():
            role, index = due
            try:
                self._start(role, index)
            except OSError as error:  # no memory, no more processes or descriptors
                self._note("process_died", role=role, pid=0, cause=f"it cannot be started: {error}")
                self._restarts.soon(role, index, after=RESOURCE_PAUSE)
            if role == "child":
                return

    def _start(self, role: str, index: int) -> None:
        if role == "steward":
            self._start_steward()
        elif role == "dispatcher":
            self._start_crew()
        elif self._dispatcher:
            self._start_child(index)

    def _note(self, event: str, **facts: Any) -> None:
        self._events.append((event, facts))

    def _pass_events_on(self) -> None:
        while self._events and self._steward and self._steward.control:
            self._family.tell(self._steward, steward.EVENT, *self._events.pop(0))

    # -- signals, and the end

    def _obey_signals(self) -> None:
        for number in self._wakeup.received():
            if number == signal.SIGUSR1:
                dump_stacks(self._family)
            elif number == signal.SIGUSR2:
                log.reopen()
                self._family.signal(number)
            else:
                self._stop(number)

    def _stop(self, number: int) -> None:
        now, before = time.monotonic(), self._deadline
        is_first = self._stopping.ask(number, now)
        deadline = self._deadline or now
        if deadline != before:
            self._note("worker_stopping", name=self._options.name, timeout=max(deadline - now, 0.0))
        note = self._health.note_reloading if self.wants_restart else self._health.note_stopping
        note(deadline)
        if is_first:
            self._begin_to_stop()

    def _begin_to_stop(self) -> None:
        self._restarts.forget()
        if not self._steward:
            self._restarts.soon("steward")
        self._tell_dispatcher(dispatcher.DRAIN)
        if not self._dispatcher:
            self._family.kill("child")
        self._go_on_stopping(None)

    def _go_on_stopping(self, dead: Offspring | None) -> None:
        """Stop in the mirrored order of the start: children, dispatcher, and the proof of life last."""
        if dead and dead.role == "child":
            self._tell_of_child(dead, "stopped")
        elif dead and dead.role == "steward" and self._family:
            life = time.monotonic() - dead.started_at
            self._restarts.follow("steward", 0, life=life)  # somebody has to give back what is left
        if self._steward and len(self._family) == 1:
            self._pass_events_on()
            self._family.tell(self._steward, steward.STOP)

    def _enforce(self, overdue: float) -> None:
        """Kill what has not stopped in time; what it held goes back."""
        if overdue >= 0 and (children := self._family.of_role("child")):
            self._abandoned = self._abandoned or any(self._slots.is_busy(child.index) for child in children)
            self._family.kill("child")
        if overdue >= GRACE and self._dispatcher:
            self._abandoned = True
            self._family.kill("dispatcher")
        if overdue >= 2 * GRACE:
            self._restarts.forget()
            self._family.kill("steward")

    def _kill_overdue(self, now: float) -> None:
        """Kill the children whose task has passed its time limit."""
        for child in self._family.of_role("child"):
            number = self._slots.running(child.index)  # first: what is not over by then is what the deadline is of
            if number and not child.overdue and 0 < self._slots.deadline(child.index) <= now:
                child.overdue, child.limit = number, self._slots.limit(child.index)
                child.send_signal(signal.SIGKILL)

    def _kill_stalled(self, now: float) -> None:
        """Kill a dispatcher or steward that has been silent for too long."""
        for role, watchdog in self._watchdogs.items():
            if self._family.of_role(role) and watchdog.is_stalled(now):
                for one in self._family.of_role(role):
                    one.killed_for = f"silent for {patience():g} s, and killed"
                self._family.kill(role)

"""celery/bin/options.py and values.py: one table for the command line, the environment, the settings and the page."""

import argparse
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError
from pytest_django import Settings

from celery import conf
from celery.bin.options import BY_DEST, OPTIONS, VARIABLES, Option, add_arguments, chosen, misspelt, with_environment

PAGE = Path(__file__).resolve().parents[2] / "docs" / "celeryd.rst"
ALL = pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.dest)

#: What an operator may write, and what is meant.
SPOKEN = {
    "concurrency": ("3", 3),
    "queues": ("a,b", "a,b"),
    "name": ("w", "w"),
    "loglevel": ("debug", "debug"),
    "logfile": ("a.log", "a.log"),
    "log_format": ("json", "json"),
    "pidfile": ("a.pid", "a.pid"),
    "detach": ("1", True),
    "umask": ("027", "027"),
    "drain_timeout": ("1.5", 1.5),
    "time_limit": ("30", 30.0),
    "soft_time_limit": ("20", 20.0),
    "max_tasks_per_child": ("100", 100),
    "max_memory_per_child": ("200000", 200_000),
    "beat": ("1", False),
    "socket": ("celeryd.sock", "celeryd.sock"),
    "autoreload": ("1", True),
    "queue_wakeup_after": ("0.3", 0.3),
}


def parsed(*argv: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return vars(parser.parse_args(argv))


class TestTheTable:
    def test_no_name_and_no_variable_is_there_twice(self) -> None:
        names = [name for option in OPTIONS for name in option.names]

        assert len(names) == len(set(names))
        assert len(VARIABLES) == sum(len(option.variables) for option in OPTIONS)
        assert set(SPOKEN) == set(BY_DEST)

    @ALL
    def test_a_setting_that_holds_otherwise_exists(self, option: Option) -> None:
        assert bool(option.constant) == (option.setting is not None)

    @ALL
    def test_its_variable_is_its_long_name(self, option: Option) -> None:
        assert option.variables[0] == "CELERYD_" + option.long_names[0][2:].upper().replace("-", "_")

    @ALL
    def test_a_variable_that_is_called_like_a_setting_means_the_same(self, option: Option) -> None:
        for variable in set(option.variables) & set(conf.BY_NAME):
            assert option.setting is not None
            assert option.setting.name == variable

    @ALL
    def test_the_help_names_the_variable(self, option: Option) -> None:
        parser = argparse.ArgumentParser()
        add_arguments(parser)

        assert option.variables[0] in parser.format_help()

    def test_what_is_not_said_is_none(self) -> None:
        assert set(parsed().values()) == {None}


class TestPrecedence:
    @ALL
    def test_an_option_is_on_the_command_line_and_in_the_environment(self, option: Option) -> None:
        text, value = SPOKEN[option.dest]
        argv = [option.long_names[0]] if option.kind is bool else [option.long_names[0], text]

        assert parsed(*argv)[option.dest] == value
        for variable in option.variables:
            assert with_environment(parsed(), {variable: text})[option.dest] == value

    @ALL
    def test_the_command_line_wins_over_the_environment(self, option: Option) -> None:
        text, value = SPOKEN[option.dest]

        assert with_environment({option.dest: value}, {option.variables[0]: "nonsense, unread"})[option.dest] == value
        assert with_environment({option.dest: None}, {option.variables[0]: text})[option.dest] == value

    @pytest.mark.parametrize(
        ("dest", "setting", "of_settings", "said"),
        [
            ("drain_timeout", "CELERYD_DRAIN_TIMEOUT", 3, 4.0),
            ("concurrency", "CELERYD_CONCURRENCY", 3, 4),
            ("umask", "CELERYD_UMASK", "002", "027"),
            ("log_format", "CELERYD_DAEMON_LOG_FORMAT", "%(message)s", "json"),
            ("beat", "CELERYD_BEAT", True, False),
        ],
    )
    def test_the_settings_come_last(
        self, settings: Settings, dest: str, setting: str, of_settings: Any, said: Any
    ) -> None:
        setattr(settings, setting, of_settings)
        option = BY_DEST[dest]

        assert chosen({}, dest) == option.checked(of_settings)
        assert chosen({dest: said}, dest) == option.checked(said)

    def test_an_empty_variable_says_nothing(self) -> None:
        assert set(with_environment({}, dict.fromkeys(VARIABLES, " ")).values()) == {None}


class TestTheEnvironment:
    @pytest.mark.parametrize(
        ("text", "value"),
        [("1", True), ("Yes", True), ("TRUE", True), ("on", True), ("0", False), ("no", False), ("False", False)],
    )
    def test_flags_are_words(self, text: str, value: bool) -> None:
        said = with_environment({}, {"CELERYD_DAEMON": text, "CELERYD_NO_BEAT": text})

        assert (said["detach"], said["beat"]) == (value, not value)

    @pytest.mark.parametrize(
        ("variable", "text", "sentence"),
        [
            ("CELERYD_CONCURRENCY", "many", "write a whole number, such as 4."),
            ("CELERYD_CONCURRENCY", "0", "the number of children is from 1 to 1000, not 0."),
            ("CELERYD_TIME_LIMIT", "5s", "write a number of seconds, such as 30 or 2.5."),
            ("CELERYD_DRAIN_TIMEOUT", "-1", "--drain-timeout must be at least 0, not -1.0."),
            ("CELERYD_NO_BEAT", "maybe", "write 1, yes or true, or 0, no or false."),
            ("CELERYD_LOGLEVEL", "loud", "LOUD is no log level: choose one of DEBUG,"),
            ("CELERYD_QUEUES", ",", "-Q names no queue."),
            ("CELERYD_UMASK", "rw", "'rw' is no umask:"),
            ("CELERYD_MAX_MEMORY_PER_CHILD", "2048", "the memory of a child is from 20480 to 315360000 KiB, not 2048."),
            ("CELERYD_LOG_FORMAT", "%(user)s %(message)s", "'%(user)s %(message)s' is no format of log lines: write"),
        ],
    )
    def test_a_bad_value_is_an_error_that_names_the_variable(self, variable: str, text: str, sentence: str) -> None:
        with pytest.raises(CommandError, match=re.escape(f"{variable} = {text!r} in the environment: {sentence}")):
            with_environment({}, {variable: text})

    @pytest.mark.parametrize(
        ("wrong", "right"),
        [
            ("CELERYD_LOGLEVL", "CELERYD_LOGLEVEL"),
            ("CELERYD_LOG_LEVEL", "CELERYD_LOGLEVEL"),
            ("CELERYD_PID_FILE", "CELERYD_PIDFILE"),
            ("CELERYD_MAX_TASK_PER_CHILD", "CELERYD_MAX_TASKS_PER_CHILD"),
            ("CELERYD_QUEUE", "CELERYD_QUEUES"),
            ("CELERYD_BEAT", "CELERYD_NO_BEAT"),
            ("CELERYD_TASK_TIME_LIMIT", "CELERYD_TIME_LIMIT"),
        ],
    )
    def test_a_slip_of_the_hand_is_found(self, wrong: str, right: str) -> None:
        assert misspelt({wrong: "1"}) == {wrong: right}

    @pytest.mark.parametrize(
        "name",
        [
            "CELERYD_PORT",
            "CELERYD_PORT_80_TCP",
            "CELERYD_PORT_80_TCP_ADDR",
            "CELERYD_PORT_80_TCP_PORT",
            "CELERYD_PORT_80_TCP_PROTO",
            "CELERYD_SERVICE_HOST",
            "CELERYD_SERVICE_PORT",
            "CELERYD_USER",
            "CELERYD_USERNAME",
            "CELERYD_HOSTNAME",
            "CELERYD_VERSION",
            "CELERY_BROKER_URL",
            "LOGLEVEL",
            *VARIABLES,
        ],
    )
    def test_others_are_left_alone(self, name: str) -> None:
        assert misspelt({name: "1"}) == {}

    def test_a_setting_that_the_project_reads_there_itself_is_left_alone(self, settings: Settings) -> None:
        settings.CELERYD_PID_FILE = "own.pid"

        assert misspelt({"CELERYD_PID_FILE": "own.pid", "CELERYD_LOG_FILE": "x"}) == {
            "CELERYD_LOG_FILE": "CELERYD_LOGFILE"
        }


def row(option: Option) -> str:
    """Return what the page has of an option: its names, its variable above its setting, and its sentence."""
    names = ", ".join(f"``{name}{' ' + option.metavar if option.metavar else ''}``" for name in option.names)
    setting = f"\n       | :confval:`{option.setting.name}`" if option.setting else ""
    return f"   * - {names}\n     - | ``{option.variables[0]}``{setting}\n     - {option.sentence}\n"


@ALL
def test_the_page_has_the_table(option: Option) -> None:
    assert row(option) in PAGE.read_text()


def test_the_page_has_no_option_that_there_is_not() -> None:
    assert PAGE.read_text().count("\n     - | ``CELERYD_") == len(OPTIONS)

"""The demonstration's pure helpers: a checker is itself checked."""

import argparse
import hashlib
from pathlib import Path

import pytest

from tests.shop import ledger, report
from tests.shop.database_url import database_from
from tests.shop.demo import DemoFailed, Options, at_least_one, enough, one_line, parse
from tests.shop.queues import BrokerUnreachable, check_broker, without_password
from tests.shop.sources import (
    Answers,
    Failure,
    Figures,
    answer_for,
    differences,
    failure_from,
    measure,
    python_files,
    sources_below,
)


def figures(*, lines: int = 1, tokens: int = 5, size: int = 10) -> Figures:
    return {"sha256": "0" * 64, "size": size, "lines": lines, "tokens": tokens}


def failure(name: str = "builtins.SyntaxError") -> Failure:
    return Failure(name=name, args=["unknown encoding"], text="unknown encoding")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.py"
    path.write_bytes(b"x = 1\ny = 2")
    return path


class TestDatabaseUrl:
    def test_a_path_is_a_plain_sqlite_database(self) -> None:
        expected = {"ENGINE": "django.db.backends.sqlite3", "NAME": "/tmp/shop.sqlite3"}  # noqa: S108 - not opened

        assert database_from("/tmp/shop.sqlite3") == expected  # noqa: S108 - not opened
        assert database_from("sqlite:////tmp/shop.sqlite3") == expected

    def test_a_sqlite_url_with_three_slashes_is_a_relative_path(self) -> None:
        assert database_from("sqlite:///shop.sqlite3")["NAME"] == "shop.sqlite3"

    def test_a_server_has_all_its_parts_and_escapes_are_undone(self) -> None:
        database = database_from("postgres://me:p%40ss@localhost:5433/shop")

        assert database == {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "shop",
            "USER": "me",
            "PASSWORD": "p@ss",
            "HOST": "localhost",
            "PORT": "5433",
        }

    @pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
    def test_mariadb_is_what_django_calls_mysql(self, scheme: str) -> None:
        assert database_from(f"{scheme}://me@localhost/shop")["ENGINE"] == "django.db.backends.mysql"

    @pytest.mark.parametrize(
        ("url", "sentence"),
        [
            ("oracle://host/name", "the scheme 'oracle' names no database"),
            ("postgres://host", "ends with the name of a database"),
            ("postgres://host:99999/name", "out of range"),
        ],
    )
    def test_a_url_that_names_no_database_is_refused(self, url: str, sentence: str) -> None:
        with pytest.raises(ValueError, match=sentence):
            database_from(url)


class TestBroker:
    @pytest.mark.parametrize("url", ["django://", "django://default"])
    def test_the_own_database_needs_no_look(self, url: str) -> None:
        check_broker(url)

    @pytest.mark.parametrize("url", ["", "nonsense", "carrier-pigeon://roof", "django://other"])
    def test_an_unknown_broker_is_refused(self, url: str) -> None:
        with pytest.raises(BrokerUnreachable, match="is none of django://"):
            check_broker(url)

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("amqp://me:secret@host:5672//", "amqp://me@host:5672//"),
            ("amqp://me:sec@ret@host/", "amqp://me@host/"),
            ("amqp://host:5672/", "amqp://host:5672/"),
            ("amqp://", "amqp://"),
        ],
    )
    def test_a_password_is_never_shown(self, url: str, shown: str) -> None:
        assert without_password(url) == shown


class TestSources:
    def test_a_file_is_measured(self, source: Path) -> None:
        assert measure(str(source)) == {
            "sha256": hashlib.sha256(b"x = 1\ny = 2").hexdigest(),
            "size": 11,
            "lines": 2,
            "tokens": 10,  # encoding, 2 * (name, operator, number, newline), end
        }

    def test_a_file_that_tokenize_refuses_answers_with_its_exception(self, source: Path) -> None:
        source.write_bytes(b"# coding: uft-8\n")

        answer = answer_for(str(source))

        assert isinstance(answer, Failure)
        assert answer.name == "builtins.SyntaxError"
        assert "unknown encoding" in answer.text

    def test_tuples_in_the_arguments_of_an_exception_compare_as_lists(self) -> None:
        sent = failure_from(ValueError("unindent", ("<tokenize>", (2, 3))))
        received = failure_from(ValueError("unindent", ["<tokenize>", [2, 3]]))

        assert sent == received

    def test_sources_are_real_files_once_each_outside_of_skipped_folders(self, tmp_path: Path, source: Path) -> None:
        for name in ("__pycache__/cached.py", "site-packages/other.py", "package/__init__.py", "notes.txt"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / "link.py").symlink_to(source)
        (tmp_path / "broken.py").symlink_to(tmp_path / "nowhere.py")
        (tmp_path / "folder.py").mkdir()

        found = sources_below(tmp_path, skip={"__pycache__", "site-packages"})

        assert found == {str(source), str(tmp_path / "package" / "__init__.py")}

    def test_the_files_of_this_interpreter_are_sorted_and_include_its_library_and_packages(self) -> None:
        paths = python_files()

        assert paths == sorted(set(paths))
        assert str(Path(argparse.__file__).resolve()) in paths
        assert str(Path(pytest.__file__).resolve()) in paths

    def test_too_few_files_end_the_demonstration(self) -> None:
        with pytest.raises(DemoFailed, match=r"only 999 Python files.*at least 1,000"):
            enough(["x.py"] * 999)
        assert len(enough(["x.py"] * 1000)) == 1000


class TestDifferences:
    def test_equal_answers_do_not_differ(self) -> None:
        answers: Answers = {"a.py": figures(), "b.py": failure()}

        assert differences(answers, dict(answers)) == []

    @pytest.mark.parametrize("received", [figures(lines=2), figures(tokens=6), failure()])
    def test_one_wrong_figure_is_found(self, received: Figures | Failure) -> None:
        found = differences({"a.py": figures(), "b.py": figures()}, {"a.py": figures(), "b.py": received})

        assert [line.partition(":")[0] for line in found] == ["b.py"]

    def test_another_exception_is_found(self) -> None:
        assert differences({"a.py": failure()}, {"a.py": failure("builtins.ValueError")})

    def test_a_missing_answer_is_found_on_either_side(self) -> None:
        found = differences({"a.py": figures()}, {"b.py": figures()})

        assert [line.partition(":")[0] for line in found] == ["a.py", "b.py"]


class TestReport:
    def test_totals_count_a_failure_as_a_file_and_nothing_more(self) -> None:
        totals = report.totals_of({"a.py": figures(lines=3), "b.py": failure(), "c.py": figures(lines=4)})

        assert totals == report.Totals(files=3, size=20, lines=7, tokens=10, failures=1)

    def test_the_longest_files_come_first_and_ties_by_name(self) -> None:
        answers: Answers = {
            "b.py": figures(lines=5),
            "c.py": figures(lines=9),
            "a.py": figures(lines=5),
            "d.py": failure(),
        }

        assert [path for path, _ in report.longest(answers, 3)] == ["c.py", "a.py", "b.py"]

    @pytest.mark.parametrize(
        ("path", "shown"),
        [
            ("/usr/lib/python3.11/email/parser.py", "email/parser.py"),
            ("/w/venv/lib/python3.11/site-packages/rich/table.py", "rich/table.py"),
            ("/elsewhere/module.py", "/elsewhere/module.py"),
        ],
    )
    def test_a_path_is_shown_as_people_know_it(self, path: str, shown: str) -> None:
        assert report.short_name(path) == shown


class TestCommandLine:
    def test_without_arguments_everything_is_local(self) -> None:
        assert parse([]) == Options(broker="django://", database="", children=4, keep=False)

    def test_an_empty_url_means_the_default(self) -> None:
        assert parse(["--broker", "", "--database", ""]) == parse([])

    @pytest.mark.parametrize("text", ["0", "-1", "four", "1.5", ""])
    def test_a_number_of_children_is_a_whole_number_from_one_up(self, text: str) -> None:
        with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
            at_least_one(text)

    def test_a_complaint_is_one_line(self) -> None:
        assert one_line(ValueError("connection failed:\n\tIs the server running?")) == (
            "connection failed: Is the server running?"
        )


class TestLedger:
    def test_nothing_ran_without_a_ledger(self, tmp_path: Path) -> None:
        assert ledger.executions(tmp_path / "none") == {}

    def test_each_execution_counts_and_a_token_may_hold_spaces(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger"

        for token in ("pay 1", "pay 2", "pay 1"):
            ledger.append(path, token)

        assert ledger.executions(path) == {"pay 1": 2, "pay 2": 1}

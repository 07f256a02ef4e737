import fcntl
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from celery import platform
from celery.platform import FileWatch, PIDFile, die_with_parent, has_open, remove_pidfile, require_linux, umask_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "celeryd.pid"


@pytest.fixture
def held_by_another(path: Path) -> Iterator[Path]:
    """Have the file held as by another process: flock knows open files, not processes."""
    path.write_text("4711\n")
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield path


class TestPIDFile:
    def test_has_our_pid_while_it_is_held(self, path: Path) -> None:
        file = PIDFile(path)

        file.write()

        assert file.get_pid() == os.getpid()
        assert path.read_text() == f"{os.getpid()}\n"
        file.remove()
        assert not path.exists()

    def test_may_have_another_pid(self, path: Path) -> None:
        file = PIDFile(path)

        file.write(123_456_789)
        file.write(4711)

        assert path.read_text() == "4711\n"
        file.release()

    def test_is_not_written_over_something_else(self, path: Path) -> None:
        """Its path may be a slip of the hand: `celeryd -p settings.py`."""
        path.write_text("DEBUG = True\n")

        with pytest.raises(SystemExit, match="is no pid file: it holds something else"):
            PIDFile(path).write()

        assert path.read_text() == "DEBUG = True\n"

    def test_is_a_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")

        with pytest.raises(SystemExit, match="is no pid file"):
            PIDFile(tmp_path / "fifo").write()

    @pytest.mark.parametrize("device", ["/dev/null", "/dev/full", "/"])
    def test_a_device_or_a_folder_is_none(self, device: str) -> None:
        with pytest.raises(SystemExit, match=r"is no pid file|cannot be written: Is a directory"):
            PIDFile(device).acquire()

        assert Path(device).exists()

    @pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0, 0o644)])
    def test_may_be_read_by_all_unless_the_umask_says_otherwise(self, path: Path, mask: int, mode: int) -> None:
        file, before = PIDFile(path), os.umask(mask)
        try:
            file.acquire()
        finally:
            os.umask(before)

        assert stat.S_IMODE(path.stat().st_mode) == mode
        file.release()

    def test_an_empty_one_is_taken_over(self, path: Path) -> None:
        """A full disk, or a crash between making and writing it."""
        path.touch()
        file = PIDFile(path)

        file.acquire()

        assert path.read_text() == f"{os.getpid()}\n"
        file.release()

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk to be had")
    def test_a_full_disk_is_told(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = PIDFile(path)
        with Path("/dev/full").open("wb") as full:
            file.write()
            monkeypatch.setattr(file, "_fd", full.fileno())

            with pytest.raises(SystemExit, match="cannot be written: No space left on device"):
                file.write()

    @pytest.mark.parametrize("text", ["", "soon", "12 13"])
    def test_without_a_number_in_it_there_is_no_pid(self, path: Path, text: str) -> None:
        path.write_text(text)

        assert PIDFile(path).get_pid() is None

    @pytest.mark.parametrize("text", ["0", "-1", "+5", "1_0", "٣", str(2**31), "9" * 4301, "7" + " " * 40 + "8"])
    def test_a_number_that_is_no_pid_is_none(self, path: Path, text: str) -> None:
        """Whoever signals 0 or -1 signals many processes."""
        path.write_text(text)

        assert PIDFile(path).get_pid() is None

    @pytest.mark.parametrize("content", [" " * 32 + "notes of a year", "\n" * 40 + "secret", "1" * 32 + " and more"])
    def test_one_that_begins_like_a_pid_file_is_not_written_over(self, path: Path, content: str) -> None:
        path.write_text(content)

        with pytest.raises(SystemExit, match="is no pid file"):
            PIDFile(path).acquire()

        assert path.read_text() == content

    def test_a_path_that_cannot_be_one_ends_the_program_with_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(SystemExit, match=r"cannot be written: embedded null byte\. Choose another"):
            PIDFile(tmp_path / "a\0b").acquire()

    def test_there_is_no_pid_without_a_file(self, path: Path) -> None:
        assert PIDFile(path).get_pid() is None

    def test_a_stale_one_is_removed(self, path: Path) -> None:
        path.write_text("4711\n")

        PIDFile(path).check()

        assert not path.exists()

    def test_one_whose_pid_was_reused_is_stale_too(self, path: Path) -> None:
        path.write_text(f"{os.getppid()}\n")

        PIDFile(path).check()

        assert not path.exists()

    def test_that_there_is_none_is_no_trouble(self, path: Path) -> None:
        PIDFile(path).check()

        assert not path.exists()

    def test_our_own_passes(self, path: Path) -> None:
        file = PIDFile(path)
        file.write()

        file.check()

        assert file.get_pid() == os.getpid()
        file.remove()

    def test_one_that_another_made_after_ours_was_removed_is_left_to_it(self, path: Path) -> None:
        # given
        ours, others = PIDFile(path), PIDFile(path)
        ours.acquire()
        path.unlink()
        others.acquire()

        # when
        ours.release()

        # then
        assert path.exists()
        others.release()
        assert not path.exists()

    def test_one_that_is_held_ends_the_program_with_the_pid(self, held_by_another: Path) -> None:
        with pytest.raises(SystemExit, match=f"celeryd runs already with pid 4711.*{held_by_another}"):
            PIDFile(held_by_another).check()

        assert held_by_another.read_text() == "4711\n"

    @pytest.mark.parametrize("method", ["write", "acquire"])
    def test_one_that_is_held_cannot_be_taken(self, held_by_another: Path, method: str) -> None:
        with pytest.raises(SystemExit, match="runs already"):
            getattr(PIDFile(held_by_another), method)()

        assert held_by_another.read_text() == "4711\n"

    def test_that_of_another_is_not_removed(self, held_by_another: Path) -> None:
        PIDFile(held_by_another).remove()
        remove_pidfile(held_by_another)

        assert held_by_another.exists()

    def test_a_stale_one_can_be_removed(self, path: Path) -> None:
        path.write_text("4711\n")

        remove_pidfile(str(path))

        assert not path.exists()

    def test_removing_none_is_harmless(self, path: Path) -> None:
        remove_pidfile(path)
        PIDFile(path).remove()

    def test_a_folder_that_is_missing_ends_the_program_with_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(SystemExit, match="cannot be written: No such file or directory"):
            PIDFile(tmp_path / "nowhere" / "celeryd.pid").acquire()


class TestUmask:
    @pytest.mark.parametrize(
        ("value", "mask"),
        [("027", 0o27), ("22", 0o22), (" 0o077 ", 0o77), ("0", 0), ("777", 0o777), (0o027, 0o27), (0, 0)],
    )
    def test_text_is_octal_and_a_number_is_itself(self, value: int | str, mask: int) -> None:
        assert umask_of(value) == mask

    @pytest.mark.parametrize("value", ["", "8", "1000", "-22", "0x12", "u=rw", "2 2", -1, 0o1000, "٢٢"])
    def test_what_is_none_is_refused_with_an_example(self, value: int | str) -> None:
        with pytest.raises(ValueError, match="is no umask: write octal digits from 000 to 777, such as 022 or 027"):
            umask_of(value)


class TestProcesses:
    def test_elsewhere_a_worker_is_refused_in_a_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.platform", "darwin")

        with pytest.raises(SystemExit, match=r"runs on Linux; this is darwin\. Sending tasks works everywhere"):
            require_linux()

    def test_one_whose_parent_has_ended_already_ends_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        codes: list[int] = []
        asked: list[tuple[int, ...]] = []
        libc = SimpleNamespace(prctl=lambda *arguments: asked.append(arguments))
        monkeypatch.setattr(platform, "_libc", lambda: libc)
        monkeypatch.setattr(os, "_exit", codes.append)

        die_with_parent(os.getppid())
        assert codes == []

        die_with_parent(os.getppid() + 1)
        assert codes == [1]
        assert [(option, number) for option, number, *_ in asked] == [(platform.PR_SET_PDEATHSIG, signal.SIGKILL)] * 2


def test_a_file_is_open_until_it_is_replaced_or_closed(tmp_path: Path) -> None:
    # given
    path, other = tmp_path / "file", tmp_path / "other"
    assert has_open(str(path))
    path.touch()
    assert not has_open(str(path))

    # then
    with path.open() as _:
        assert has_open(str(path))
        other.touch()
        other.replace(path)
        assert not has_open(str(path))


class TestFileWatch:
    def test_tells_of_a_write_once(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        watch = FileWatch([str(tmp_path / "file")])

        assert not watch.clear()
        (tmp_path / "file").write_text("news")
        assert watch.clear()
        assert not watch.clear()

        watch.close()
        watch.close()
        assert watch.fileno() == -1

    def test_where_it_cannot_be_had_it_stays_silent(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(platform, "_libc", lambda: SimpleNamespace(inotify_init1=lambda _: -1))
        (tmp_path / "file").touch()

        watch = FileWatch([str(tmp_path / "file")])
        (tmp_path / "file").write_text("news")

        assert watch.fileno() == -1
        assert not watch.clear()
        watch.close()

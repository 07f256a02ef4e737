"""docs/tutorial.rst is followed word for word, in an empty folder, by a reader who does what it says and nothing else.

The rules by which it is read. A step is a code block with a caption:

``Terminal N``
    Each terminal is a shell of its own, from the beginning to the end of the tutorial. What follows ``$ `` and
    ``>>> `` is typed, ``^C`` is pressed. What stands below is what has to appear, up to the next prompt and
    nothing more; below a command that goes on (`GOES_ON`), and where nothing was typed, it has to appear within
    `PATIENCE` seconds. ``...`` is any text, and a line of it any lines. A command of the shell must not fail.
``Browser``
    ``open`` an address, ``type`` a text into the field of that label, ``press`` the button of that text, ``see`` a
    text on the page, which is loaded again until it is there. No scripts are run.
A file
    The block is what is in it. ``, at its end`` and ``, at its beginning``: the block is added there.

What differs from a reader's machine: ``path/to/celery`` is a wheel, built of this checkout; the port 8000 is one that
is free; and since a test asks no server for packages, the fresh environment is shown those of the test's own (but for
`HIDDEN`) by a .pth file, so that pip finds all that celery needs, and installs celery alone.
"""

import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import termios
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin
from urllib.request import HTTPCookieProcessor, OpenerDirector, build_opener

import pytest

from tests.helpers import eventually

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.rst"
NOT_SOURCE = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "_build", "node_modules")

PATIENCE = 90.0
#: What a shell prints when it waits to be typed into, alone at the end of what is there.
SHELL, PYTHON = "$ ", ">>> "
#: Commands that run until they are stopped.
GOES_ON = frozenset({"celeryd", "runserver"})
#: After these it does not matter what is said: it differs from one Python to the next.
PARTINGS = ("^C", f"{PYTHON}exit()")
#: Packages of the test's environment that the reader's does not see: itself, and shells with other prompts.
HIDDEN = ("celery", "ipython", "bpython")
STEP = re.compile(r"^\.\. code-block:: (\S+)\n   :caption: (.+)\n\n((?:   .*\n|\n)+)", re.MULTILINE)
TYPED = re.compile(r"(\$|>>>) .+|\^C")
COLOUR = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@dataclass(frozen=True)
class Step:
    """A block of the tutorial."""

    line: int
    place: str
    text: str


def steps(text: str) -> list[Step]:
    """Return the blocks of the tutorial, in order."""
    return [
        Step(text.count("\n", 0, found.start()) + 1, found[2], textwrap.dedent(found[3]).strip("\n") + "\n")
        for found in STEP.finditer(text)
    ]


def pattern(shown: str) -> str:
    """Return the regular expression of an output: ``...`` is any text, alone in a line any lines, or none."""
    lines = [
        r"(?:.*\n)*?" if line.strip() == "..." else ".*".join(map(re.escape, line.split("..."))) + r"\s*?\n"
        for line in shown.splitlines()
    ]
    return "".join(lines)


class Terminal:
    """A shell on a terminal."""

    def __init__(self, name: str, environment: dict[str, str], folder: Path) -> None:
        self.name = name
        self._fd, theirs = pty.openpty()
        attributes = termios.tcgetattr(theirs)
        attributes[1] &= ~termios.OPOST
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(theirs, termios.TCSANOW, attributes)
        self._shell = subprocess.Popen(
            ["setsid", "--ctty", "bash", "--noprofile", "--norc", "--noediting", "-i"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            env=environment,
        )
        os.close(theirs)
        self._unread = ""
        self.wait_for(re.escape(SHELL) + r"\Z")

    def type(self, text: str) -> None:
        """Type a line, or press ^C."""
        os.write(self._fd, b"\x03" if text == "^C" else f"{text}\n".encode())

    def wait_for(self, wanted: str) -> str:
        """Return what was printed, up to the end of what matches; fail when it does not come."""

        def found() -> "re.Match[str] | None":
            self._read()
            return re.search(wanted, self._unread)

        try:
            match = eventually(found, within=PATIENCE)
        except AssertionError:
            pytest.fail(f"{self.name} shows this instead:\n{self._unread}", pytrace=False)
        assert match
        passed, self._unread = self._unread[: match.end()], self._unread[match.end() :]
        return passed

    def _read(self) -> None:
        while select.select([self._fd], [], [], 0)[0]:
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # nobody has the other end any more
                return
            self._unread = COLOUR.sub("", self._unread + data.decode(errors="replace").replace("\r", ""))

    def close(self) -> None:
        """End the shell and all that it has started."""
        for process in (*_children_of(self._shell.pid), self._shell.pid):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._shell.wait()
        os.close(self._fd)


def _children_of(pid: int) -> list[int]:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [*(other for child in found for other in _children_of(int(child))), *map(int, found)]


class Page(HTMLParser):
    """What a browser knows of a page: its text, and the fields and buttons of its forms."""

    def __init__(self, url: str, html: str) -> None:
        super().__init__()
        self.url = url
        self.text = ""
        self.fields: dict[str, str] = {}
        self.buttons: set[str] = set()
        self._labels: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._inside: list[tuple[str, dict[str, str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag in {"input", "textarea", "select"} and "name" in found:
            self.fields[found["name"]] = found.get("value", "")
            self._names[found.get("id", "")] = found["name"]
        if tag == "input" and found.get("type") == "submit":
            self.buttons.add(found.get("value", ""))
        if tag not in {"input", "meta", "link", "br", "img", "hr"}:
            self._inside.append((tag, found))

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        tag, found = self._inside[-1] if self._inside else ("", {})
        if tag in {"script", "style"}:
            return
        self.text += f" {data}"
        if tag == "label":
            self._labels[data.strip().rstrip(":")] = found.get("for", "")
        elif tag == "button":
            self.buttons.add(data.strip())

    def fill(self, label: str, value: str) -> None:
        """Type `value` into the field of that label."""
        self.fields[self._names[self._labels[label]]] = value

    def shows(self, text: str) -> bool:
        """Tell whether `text` is on the page, whatever white space is between its words."""
        return text in " ".join(self.text.split())


class Browser:
    """Opens pages, fills forms, and runs no scripts."""

    def __init__(self) -> None:
        self._opener: OpenerDirector = build_opener(HTTPCookieProcessor(CookieJar()))
        self._page = Page("", "")

    def do(self, verb: str, what: str) -> None:
        """Do one line of a block."""
        getattr(self, f"_{verb}")(what)

    def _open(self, url: str) -> None:
        self._load(url)

    def _type(self, what: str) -> None:
        label, _, value = what.partition(": ")
        self._page.fill(label, value)

    def _press(self, button: str) -> None:
        assert button in self._page.buttons, f"{self._page.url} has no button {button!r}, but {self._page.buttons}"
        self._load(self._page.url, self._page.fields)

    def _see(self, text: str) -> None:
        def is_there() -> bool:
            self._load(self._page.url)
            return self._page.shows(text)

        try:
            eventually(is_there, within=PATIENCE)
        except AssertionError:
            pytest.fail(f"{self._page.url} does not show {text!r}, but this:\n{self._page.text}", pytrace=False)

    def _load(self, url: str, form: dict[str, str] | None = None) -> None:
        data = urlencode(form).encode() if form is not None else None
        try:
            with self._opener.open(urljoin(self._page.url, url), data, timeout=PATIENCE) as answer:
                self._page = Page(answer.url, answer.read().decode())
        except HTTPError as error:
            pytest.fail(f"{url} answers {error.code}: {error.read().decode()[:3000]}", pytrace=False)


@dataclass
class Reader:
    """Follows the steps."""

    folder: Path
    substitutes: dict[str, str]
    terminals: dict[str, Terminal] = field(default_factory=dict)
    browser: Browser = field(default_factory=Browser)
    goes_on: frozenset[str] = GOES_ON

    def follow(self, step: Step) -> None:
        """Do what a step says, and compare."""
        text = step.text
        for written, meant in self.substitutes.items():
            text = text.replace(written, meant)
        if step.place.startswith("Terminal "):
            self._sit_at(self._terminal(step.place), text)
        elif step.place == "Browser":
            for line in text.splitlines():
                self.browser.do(*line.split(maxsplit=1))
        else:
            self._write(*step.place.partition(", ")[::2], text)

    def _terminal(self, name: str) -> Terminal:
        if name not in self.terminals:
            self.terminals[name] = Terminal(name, _environment(self.folder), self.folder)
        return self.terminals[name]

    def _sit_at(self, terminal: Terminal, text: str) -> None:
        """Type what is to be typed, and after each line compare what appears."""
        typed, shown = "", ""
        for line in [*text.splitlines(), "$ "]:
            if line != "$ " and not TYPED.fullmatch(line):
                shown += f"{line}\n"
                continue
            self._compare(terminal, typed, shown)
            typed, shown = line, ""
            if line != "$ ":
                terminal.type(line.split(" ", 1)[-1])

    def _compare(self, terminal: Terminal, typed: str, shown: str) -> None:
        if not typed and not shown:
            return
        if not typed or not self.goes_on.isdisjoint(typed.split()):
            terminal.wait_for(pattern(shown))
            return
        any_prompt = "|".join(map(re.escape, (SHELL, PYTHON)))
        printed = terminal.wait_for(rf"(?:\A|\n|\^C)(?:{any_prompt})\Z")
        output = re.sub(rf"(?:{any_prompt})\Z", "", printed)
        before = r"(?:.*\n)*?" if typed in PARTINGS else ""
        if not re.fullmatch(before + pattern(shown), output if output.endswith("\n") or not output else f"{output}\n"):
            pytest.fail(f"{terminal.name}: {typed}\nshould show:\n{shown}\nand shows:\n{output}", pytrace=False)
        if typed.startswith("$ ") and printed.endswith("$ "):
            self._require_success(terminal, typed, output)
        if "-m venv" in typed:
            self._show_packages()

    @staticmethod
    def _require_success(terminal: Terminal, typed: str, output: str) -> None:
        terminal.type("echo $?")
        code = terminal.wait_for(r"\A\d+\n\$ \Z").split()[0]
        assert code == "0", f"{terminal.name}: {typed} ended with {code}:\n{output}"

    def _show_packages(self) -> None:
        """Have the fresh environment see the packages of ours, by links to them."""
        shown = self.folder / "shown"
        shown.mkdir()
        for source in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for found in Path(source).iterdir():
                if not found.name.lower().startswith(HIDDEN) and found.suffix != ".pth":
                    (shown / found.name).symlink_to(found)
        (packages,) = self.folder.glob("*/env/lib/python3*/site-packages")
        (packages / "shown.pth").write_text(str(shown))

    def _write(self, name: str, where: str, text: str) -> None:
        path = self.folder / "tutorial" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if where else ""
        path.write_text(
            f"{text}\n{before}" if where == "at its beginning" else f"{before}\n\n{text}" if before else text
        )

    def close(self) -> None:
        """Leave nothing running."""
        for terminal in self.terminals.values():
            terminal.close()


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment of a reader: a shell that prompts plainly, a Python, and no settings of anybody's."""
    return {
        "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "PS1": SHELL,
        "VIRTUAL_ENV_DISABLE_PROMPT": "1",
        "PYTHON_BASIC_REPL": "1",
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=NOT_SOURCE)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    folder = tmp_path / "reader"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python3").symlink_to(Path(sys.executable).resolve())
    found = Reader(folder, {})
    yield found
    found.close()


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_every_block_of_the_tutorial_is_a_step() -> None:
    text = TUTORIAL.read_text()

    assert len(steps(text)) > 20
    assert len(steps(text)) == text.count(".. code-block::")
    assert text.count("::\n\n") == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tutorial_works_word_for_word(reader: Reader, wheel: Path, port: int) -> None:
    reader.substitutes |= {"path/to/celery": str(wheel), "8000": str(port)}

    for step in steps(TUTORIAL.read_text()):
        print(f"{TUTORIAL.name}, line {step.line}: {step.place}")
        reader.follow(step)

    assert not (reader.folder / "tutorial").exists()


# What is true passes, and what is not does not

ENDLESS = 'import time; print("begun", flush=True); time.sleep(600)'


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("Terminal 1", "$ echo one\none\n$ cd /\n$ pwd\n/\n"),
        ("Terminal 1", "$ printf 'one\\ntwo\\nthree\\n'\n...\nth...e\n"),
        ("Terminal 1", "$ python3 -q\n>>> 1 + 1\n2\n>>> exit()\n$ echo two\ntwo\n"),
        ("Terminal 1", f"$ python3 -c '{ENDLESS}'\nbegun\n^C\n$ echo two\ntwo\n"),
        ("Browser", "open  data:text/html,<p>one</p>\nsee   one\n"),
    ],
    ids=["output", "any lines", "session", "interrupt", "page"],
)
def test_a_step_that_is_true_passes(reader: Reader, place: str, text: str) -> None:
    reader.goes_on |= {"-c"}

    reader.follow(Step(1, place, text))


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("Terminal 1", "$ echo one\ntwo\n"),
        ("Terminal 1", "$ echo one\n"),
        ("Terminal 1", "$ true\none\n"),
        ("Terminal 1", "$ printf 'one\\ntwo\\n'\none\n"),
        ("Terminal 1", "$ false\n"),
        ("Terminal 1", "$ python3 -q\n>>> 1 + 1\n3\n"),
        ("Terminal 1", "never printed\n"),
        ("Browser", "open  data:text/html,<p>one</p>\nsee   two\n"),
        ("Browser", "open  data:text/html,<p>one</p>\npress one\n"),
    ],
    ids=[
        *("another output", "an output that is not shown", "no output", "more output", "a command that fails"),
        *("another value", "what never comes", "another page", "a button that is not there"),
    ],
)
def test_a_step_that_is_not_true_fails(reader: Reader, place: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reader.follow(Step(1, "Terminal 1", "$ true\n"))
    monkeypatch.setattr(sys.modules[__name__], "PATIENCE", 1.0)

    with pytest.raises((pytest.fail.Exception, AssertionError)):
        reader.follow(Step(1, place, text))

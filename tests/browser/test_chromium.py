"""Our own browser: it leaves nothing behind, and reaches nobody else."""

from pathlib import Path

import pytest
from selenium.common.exceptions import WebDriverException

from tests.browser.chromium import Browser, browsing
from tests.browser.conftest import Desk
from tests.helpers import eventually


def processes(folder: Path) -> list[int]:
    """Return the processes whose command line names `folder`."""
    return [int(file.parent.name) for file in Path("/proc").glob("[0-9]*/cmdline") if str(folder) in text(file)]


def text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has just ended
        return ""


@pytest.mark.usefixtures("chromium")
def test_nothing_is_left_of_it(tmp_path: Path) -> None:
    # given
    with browsing(tmp_path) as browser:
        driver = Path("/proc") / str(browser.service.process.pid)
        assert processes(tmp_path)
        assert driver.exists()

    # then
    eventually(lambda: not processes(tmp_path), within=20)
    assert not driver.exists()


def test_it_reaches_nobody_else(chromium: Browser) -> None:
    with pytest.raises(WebDriverException, match="ERR_NAME_NOT_RESOLVED"):
        chromium.get("http://www.example.org/")


def test_a_page_that_asks_somebody_else_is_found_out(operator: Desk) -> None:
    operator.open("overview/")
    assert operator.browser.hosts() == {"127.0.0.1"}

    operator.browser.run("const image = new Image(); image.src = 'http://www.example.org/spy.png';")

    eventually(lambda: any("Content Security Policy" in text for text in operator.browser.complaints()))


def test_an_error_of_a_script_is_found_out(operator: Desk) -> None:
    operator.open("overview/")
    assert operator.browser.complaints() == []

    operator.browser.run("setTimeout(() => { throw new Error('planted') })")

    eventually(lambda: any("planted" in text for text in operator.browser.complaints()))

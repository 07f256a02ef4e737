"""A browser for the session, a live site, and a person who is logged in."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from django.contrib.auth.models import User
from django.test import Client
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.browser.chromium import DESKTOP, PHONE, Browser, browsing
from tests.browser.serving import serving
from tests.servers.install import NotInstalledError


@pytest.fixture(scope="session")
def site(django_db_setup: None) -> Iterator[str]:
    """The address of the shop, for as long as the browser lives."""
    with serving() as address:
        yield address


@pytest.fixture(scope="session")
def chromium(site: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser; where it cannot be had, that fails the tests in CI and skips them elsewhere."""
    os.environ["SE_OFFLINE"] = "true"  # nothing is ever downloaded; the paths are given, too
    try:
        with browsing(tmp_path_factory.mktemp("chromium")) as browser:
            yield browser
    except NotInstalledError as error:
        reason = f"no Chromium: {error}"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Somebody at a browser, in the admin."""

    browser: Browser
    site: str

    def log_in(self, user: User) -> None:
        """Have the cookie of a session, as after the login page."""
        client = Client()
        client.force_login(user)
        self.browser.get(f"{self.site}/admin/login/")
        self.browser.add_cookie({"name": "sessionid", "value": client.cookies["sessionid"].value, "path": "/"})
        self.browser.complaints()
        self.browser.requests()

    def open(self, page: str = "") -> None:
        """Open a page below admin/celery/."""
        self.browser.get(f"{self.site}/admin/celery/{page}")

    def find(self, selector: str) -> WebElement:
        """Return the first element that a CSS selector means."""
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements that a CSS selector means, as they are read.

        Asked for at once: while a page goes, elements that were found a moment ago are no more.
        """
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText.trim())"
        found: list[str] = self.browser.run(script, selector)
        return found

    def text(self) -> str:
        """Return the text of the page."""
        return self.find("main").text

    def be_at(self, size: tuple[int, int]) -> None:
        """Have a screen of this size."""
        self.browser.resize(size, is_phone=size == PHONE)


@pytest.fixture
def desk(chromium: Browser, site: str, transactional_db: None) -> Iterator[Desk]:
    """Nobody is logged in."""
    found = Desk(browser=chromium, site=site)
    found.be_at(DESKTOP)
    found.browser.prefer("light")
    yield found
    found.browser.get(f"{site}/admin/jsi18n/")  # a page without a script of its own, of the origin whose cookies go
    found.browser.delete_all_cookies()
    found.browser.run("localStorage.clear()")
    found.browser.get("about:blank")


@pytest.fixture
def operator(desk: Desk) -> Desk:
    """A superuser is logged in."""
    desk.log_in(User.objects.create_superuser("admin", "", "secret"))
    return desk

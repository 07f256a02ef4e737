"""A headless Chromium of our own: nothing is downloaded, no request leaves the machine, nothing is left behind."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from tests.servers.chromium import Chromium
from tests.servers.install import ensure_installed

DESKTOP = (1280, 900)
PHONE = (390, 844)

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # CI runs as root
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
    "--force-device-scale-factor=1",
    "--lang=en-US",
)


class Browser(Chrome):
    """Chromium with what our tests ask of a page."""

    def resize(self, size: tuple[int, int], *, is_phone: bool = False) -> None:
        """Let the page have so many CSS pixels, whatever the window is."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone}
        self.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, scheme: str) -> None:
        """Say that the user likes "dark" or "light"."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page and return what it returns."""
        return self.execute_script(script, *arguments)

    def complaints(self) -> list[str]:
        """Return what the console has said since the last call: errors of scripts, refused by the policy, not found.

        The icon of a site is left out: browsers ask for it by themselves, and the shop has none.
        """
        said = [entry["message"] for entry in self._entries("browser") if entry["level"] in {"WARNING", "SEVERE"}]
        return [text for text in said if "/favicon.ico" not in text]

    def requests(self) -> list[str]:
        """Return the addresses that were asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self._entries("performance")]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def _entries(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get_log(kind)  # type: ignore[no-untyped-call]
        return found

    def hosts(self) -> set[str | None]:
        """Return the hosts of these addresses."""
        return {urlsplit(address).hostname for address in self.requests()}


@contextmanager
def browsing(folder: Path, *, arguments: Sequence[str] = ()) -> Iterator[Browser]:
    """Run a browser until the block ends. `folder` is for its files. Raises NotInstalledError."""
    ensure_installed([Chromium])
    browser, driver = Chromium.browser(), Chromium.driver()
    assert browser is not None
    assert driver is not None
    options = ChromeOptions()
    options.binary_location = browser
    for argument in (*ARGUMENTS, f"--user-data-dir={folder / 'profile'}", *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = ChromeService(executable_path=driver, log_output=str(folder / "driver.log"))
    found = Browser(options=options, service=service)
    try:
        found.resize(DESKTOP)
        yield found
    finally:
        found.quit()

"""Pictures of the admin pages for docs/images, with a million rows in each large table.

    SHOP_DATABASE=postgres://... python -m tests.browser.screenshots OUT [--rows 1000000] [--only NAME ...]

The database must be an empty one of its own; one that was filled by an earlier run is used again. Prints how long each
page took. pngquant (Debian's package of that name), if it is there, makes the files smaller.
"""

import argparse
import base64
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.shop.settings")
django.setup()

from django.contrib.auth.models import User  # noqa: E402 - models need Django to be ready
from django.core.management import call_command  # noqa: E402
from django.test import Client  # noqa: E402

from celery.models import Message, TaskMeta  # noqa: E402
from tests.browser.chromium import DESKTOP, PHONE, Browser, browsing  # noqa: E402
from tests.browser.filling import fill, freshen  # noqa: E402
from tests.browser.serving import serving  # noqa: E402

ADMIN = "/admin/celery"
END_OF_CONTENT = "return document.querySelector('#content').getBoundingClientRect().bottom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A page to be taken. `height` in CSS pixels; None: the whole page."""

    name: str
    page: str
    scheme: str = "light"
    size: tuple[int, int] = DESKTOP
    height: int | None = 900


def pictures() -> list[Picture]:
    """Return all pictures; details are those of the latest rows."""
    dead = Message.objects.filter(dead_at__isnull=False).order_by("-dead_at").values_list("pk", flat=True).first()
    failed = TaskMeta.objects.filter(status="FAILURE").order_by("-date_done").values_list("pk", flat=True).first()
    return [
        Picture(name="overview", page="/overview/?range=24h", height=None),
        Picture(name="overview-dark", page="/overview/?range=24h", scheme="dark", height=None),
        Picture(name="overview-phone", page="/overview/?range=24h", size=PHONE, height=1700),
        Picture(name="results-failed", page="/taskmeta/?state=FAILURE"),
        Picture(name="result", page=f"/taskmeta/{failed}/change/", height=None),
        Picture(name="messages-dead", page="/message/?state=dead"),
        Picture(name="message", page=f"/message/{dead}/change/", height=None),
        Picture(name="periodic", page="/periodictaskmeta/", height=None),
        Picture(name="workers", page="/worker/", height=None),
    ]


def main() -> None:
    """Fill, take all pictures, and say how long the pages took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    prepare(options.rows)
    with tempfile.TemporaryDirectory() as folder, serving() as site, browsing(Path(folder)) as browser:
        log_in(browser, site)
        for picture in pictures():
            if not options.only or picture.name in options.only:
                take(browser, site, picture, options.out)


def prepare(rows: int) -> None:
    """Make tables and rows, unless they are there."""
    call_command("migrate", verbosity=0)
    if not TaskMeta.objects.exists():
        begun = time.monotonic()
        fill(results=rows, messages=rows)
        print(f"filled in {time.monotonic() - begun:.0f} s")
    freshen()
    User.objects.filter(username="admin").delete()
    User.objects.create_superuser("admin", "", "admin")


def log_in(browser: Browser, site: str) -> None:
    """Give the browser the cookie of a session."""
    client = Client()
    client.force_login(User.objects.get(username="admin"))
    browser.get(f"{site}/admin/login/")
    browser.add_cookie({"name": "sessionid", "value": client.cookies["sessionid"].value})
    browser.run("localStorage.setItem('django.admin.navSidebarIsOpen', 'false')")  # room for the lists


def take(browser: Browser, site: str, picture: Picture, out: Path) -> None:
    """Take one picture."""
    browser.resize(picture.size, is_phone=picture.size == PHONE)
    browser.prefer(picture.scheme)
    browser.get(f"{site}{ADMIN}{picture.page}")  # the first time files are loaded, and connections made
    browser.get(f"{site}{ADMIN}{picture.page}")
    took = browser.run("const e = performance.getEntriesByType('navigation')[0]; return e.responseEnd - e.requestStart")
    width, whole = picture.size[0], int(browser.run(END_OF_CONTENT)) + 24
    height = min(picture.height or whole, whole)
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    options = {"format": "png", "captureBeyondViewport": True, "clip": clip}
    data = browser.execute_cdp_cmd("Page.captureScreenshot", options)["data"]
    file = out / f"{picture.name}.png"
    file.write_bytes(base64.b64decode(data))
    if shutil.which("pngquant"):
        subprocess.run(["pngquant", "--force", "--ext", ".png", "--speed", "1", "128", str(file)], check=True)
    print(f"{picture.name:20} {took:6.0f} ms {file.stat().st_size / 1024:6.0f} kB  {' '.join(browser.complaints())}")


if __name__ == "__main__":
    main()

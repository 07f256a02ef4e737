"""The overview in a real browser: what it shows, under the strictest policy, for everybody and on every screen."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from celery import states
from celery.models import Message, QueueDepth, TaskMeta, Throughput, Worker
from tests.browser.chromium import DESKTOP, PHONE
from tests.browser.conftest import Desk
from tests.helpers import eventually

MINUTE = timedelta(minutes=1)
LEAST_CONTRAST = 4.5


@pytest.fixture
def a_busy_hour(transactional_db: None) -> None:
    """Two minutes of work, one dead message, a silent worker, and names that look like markup."""
    now = timezone.now()
    end = datetime.now(UTC).replace(second=0, microsecond=0) - MINUTE
    Throughput.objects.create(at=end, worker="w@a", done=1_200, failed=30, retried=4, runtime=617.0)
    Throughput.objects.create(at=end - MINUTE, worker="w@a", done=100)
    for at, depth, oldest in ((end, 5, 12.0), (end - MINUTE, 1_500, 90.0)):
        QueueDepth.objects.create(at=at, queue="celery", depth=depth, oldest=oldest)
        QueueDepth.objects.create(at=at, queue="<script>alert(1)</script>", depth=2, oldest=None)
    row = {"task": "shop.pay", "queue": "celery", "body": b"{}"}
    Message.objects.create(task_id="dead", dead_at=now, reason="why", **row)
    Message.objects.create(task_id="waiting", created_at=now - 3 * MINUTE, **row)
    worker = {"pid": 1, "queues": "celery", "concurrency": 4, "lease": 30}
    Worker.objects.create(owner="a" * 32, name="w@a", **worker)
    Worker.objects.create(owner="b" * 32, name="<b>w@b", seen_at=now - 5 * MINUTE, **worker)
    TaskMeta.objects.create(
        task_id="failed", name="shop.pay", status=states.FAILURE, traceback="Traceback\nValueError: <i>no address"
    )


def tiles(desk: Desk) -> dict[str, str]:
    values = [value.removeprefix("!\n").removeprefix("Attention: ") for value in desk.texts(".tile .value")]
    return dict(zip(desk.texts(".tile dt"), values, strict=True))


class TestWhatItShows:
    def test_somebody_logs_in_and_finds_it_in_the_list_of_the_app(self, desk: Desk) -> None:
        # given
        User.objects.create_superuser("admin", "", "secret")
        desk.open()

        # when
        desk.find("#id_username").send_keys("admin")
        desk.find("#id_password").send_keys("secret", Keys.ENTER)
        eventually(lambda: desk.browser.find_elements(By.CSS_SELECTOR, ".model-overview th a"))
        desk.find("#content .model-overview th a").click()

        # then
        eventually(lambda: desk.texts("h1") == ["Overview"])

    @pytest.mark.usefixtures("a_busy_hour")
    def test_the_figures_and_the_charts_have_the_numbers(self, operator: Desk) -> None:
        operator.open("overview/")

        shown = tiles(operator)
        assert shown["Failures"] == "30"
        assert shown["Dead"].endswith("1")
        assert shown["Waiting"] == "1"
        assert shown["Workers"].endswith("1 alive")
        titles = operator.browser.run("return [...document.querySelectorAll('.drawing title')].map(e => e.textContent)")
        assert any(title.endswith("1,200 done, 30 failed, 4 retried") for title in titles)
        assert any(title.endswith("1,500, celery") for title in titles)
        assert any(title.endswith("1 min 30 s, celery") for title in titles)

    @pytest.mark.usefixtures("a_busy_hour")
    def test_the_highest_bar_is_drawn_highest(self, operator: Desk) -> None:
        operator.open("overview/")

        script = (
            "return [...document.querySelectorAll('.celery-chart:first-child .drawing g')].map(e => e.getBBox().height)"
        )
        low, high = operator.browser.run(script)
        assert 8 < high / low < 16

    @pytest.mark.usefixtures("a_busy_hour")
    def test_names_that_look_like_markup_are_text(self, operator: Desk) -> None:
        operator.open("overview/")

        assert "<script>alert(1)</script>" in operator.texts(".legend li")
        assert "<b>w@b" in operator.text()
        assert "ValueError: <i>no address" in operator.text()

    def test_an_empty_one_says_what_to_do(self, operator: Desk) -> None:
        operator.open("overview/")

        assert "Nothing has run in the last hour; start a worker with manage.py celeryd." in operator.text()

    @pytest.mark.usefixtures("a_busy_hour")
    def test_the_ranges_are_links(self, operator: Desk) -> None:
        operator.open("overview/")

        operator.browser.find_element(By.LINK_TEXT, "6h").click()

        eventually(lambda: operator.find(".ranges [aria-current]").text == "6h")
        assert operator.texts(".celery-chart h2")[0] == "Tasks per 3 minutes"

    @pytest.mark.usefixtures("a_busy_hour")
    def test_the_dead_are_a_link_to_their_list(self, operator: Desk) -> None:
        operator.open("overview/")

        operator.find(".tile.bad a").click()

        eventually(lambda: urlsplit(operator.browser.current_url).path == "/admin/celery/message/")
        assert operator.texts("#result_list tbody .field-task_id") == ["dead"]


class TestRefreshing:
    def test_is_off_until_somebody_wants_it_and_is_remembered(self, operator: Desk) -> None:
        operator.open("overview/")
        box = operator.find(".keep input")
        assert box.is_displayed()
        assert not box.is_selected()

        box.click()
        operator.open("overview/")

        assert operator.find(".keep input").is_selected()

    def test_loads_the_page_anew(self, operator: Desk) -> None:
        # given: a page whose clock can be moved
        operator.open("overview/")
        operator.find(".keep input").click()
        with clock_of(operator):
            # when
            operator.browser.get(operator.browser.current_url)
            operator.browser.run("window.isOld = true; for (const tick of window.ticks) tick();")

            # then
            eventually(lambda: not operator.browser.run("return window.isOld"))

    def test_waits_while_somebody_reads_a_table(self, operator: Desk, a_busy_hour: None) -> None:
        operator.open("overview/")
        operator.find(".keep input").click()
        with clock_of(operator):
            operator.browser.get(operator.browser.current_url)
            operator.find(".celery-chart summary").click()

            operator.browser.run("window.isOld = true; for (const tick of window.ticks) tick();")

            assert operator.browser.run("return window.isOld") is True


class clock_of:  # noqa: N801 - it is used like a function
    """Pages keep what they would do every so often in `window.ticks`, and do it when they are told."""

    def __init__(self, desk: Desk) -> None:
        self._browser = desk.browser
        self._script = ""

    def __enter__(self) -> None:
        source = "window.ticks = []; window.setInterval = what => window.ticks.push(what);"
        added = self._browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})
        self._script = added["identifier"]

    def __exit__(self, *_: object) -> None:
        self._browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": self._script})


PAGES = [
    "overview/",
    "overview/?range=7d",
    "taskmeta/",
    "taskmeta/?state=FAILURE",
    "taskmeta/{result}/change/",
    "message/",
    "message/?state=dead",
    "message/{dead}/change/",
    "periodictaskmeta/",
    "worker/",
    f"worker/{'a' * 32}/change/",
]


@pytest.fixture
def keys(a_busy_hour: None) -> dict[str, object]:
    return {"result": TaskMeta.objects.get().pk, "dead": Message.objects.get(task_id="dead").pk}


@pytest.mark.parametrize("page", PAGES)
class TestEveryPage:
    def test_is_silent_under_the_strictest_policy_and_asks_nobody_else(
        self, operator: Desk, keys: dict[str, object], page: str
    ) -> None:
        operator.browser.requests()

        operator.open(page.format(**keys))

        assert operator.browser.complaints() == []
        assert operator.browser.hosts() == {"127.0.0.1"}

    def test_fits_on_every_screen(self, operator: Desk, keys: dict[str, object], page: str) -> None:
        for size in (PHONE, DESKTOP):
            operator.be_at(size)

            operator.open(page.format(**keys))

            width, needed = operator.browser.run("return [innerWidth, document.scrollingElement.scrollWidth]")
            assert (width, needed <= width) == (size[0], True)
            assert operator.browser.run(BEYOND_THE_EDGE) == []

    def test_can_be_read_by_day_and_by_night(self, operator: Desk, keys: dict[str, object], page: str) -> None:
        for scheme, is_dark in (("light", False), ("dark", True)):
            operator.browser.prefer(scheme)

            operator.open(page.format(**keys))

            found = list(contrasts(operator))
            assert found
            assert [(text, contrast) for text, contrast in found if contrast < LEAST_CONTRAST] == []
            assert (luminance(channels(operator.browser.run(GROUND))) < 0.1) is is_dark


#: Links and buttons that a reader cannot see at all: outside what they are in, which does not scroll.
BEYOND_THE_EDGE = """
return [...document.querySelectorAll('#content a, #content button')]
    .filter(e => e.offsetParent && e.getBoundingClientRect().right > innerWidth)
    .filter(e => !e.closest('.results, .scroll'))
    .map(e => e.textContent.trim());
"""

GROUND = "return getComputedStyle(document.body).backgroundColor"

#: Of each text of ours: its colour, and the grounds it stands upon, from the nearest one outwards.
COLOURS = """
const found = [];
for (const e of document.querySelectorAll(arguments[0])) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length || e.closest('.visually-hidden, option, title')) continue;
    const grounds = [];
    for (let at = e; at; at = at.parentElement) grounds.push(getComputedStyle(at).backgroundColor);
    const style = getComputedStyle(e);
    found.push([e.textContent.trim().slice(0, 40), e instanceof SVGElement ? style.fill : style.color, grounds]);
}
return found;
"""
OURS = ".celery-overview *, .celery-note, .celery-text, #result_list td, #result_list th a, .readonly"


def contrasts(desk: Desk) -> Iterator[tuple[str, float]]:
    """Yield each text with its contrast against the ground, as WCAG 2 defines it."""
    for text, colour, grounds in desk.browser.run(COLOURS, OURS):
        ground = next((one for one in map(channels, grounds) if one[3] == 1), (255.0, 255.0, 255.0, 1.0))
        light, dark = sorted((luminance(channels(colour)), luminance(ground)), reverse=True)
        yield text, round((light + 0.05) / (dark + 0.05), 2)


def channels(colour: str) -> tuple[float, float, float, float]:
    """Return red, green, blue and opacity of a colour as a browser says it."""
    numbers = [float(part) for part in colour[colour.index("(") + 1 : -1].replace("/", ",").split(",")]
    red, green, blue, opacity = (*numbers, 1.0)[:4]
    return red, green, blue, opacity


def luminance(colour: tuple[float, float, float, float]) -> float:
    parts = [part / 255 for part in colour[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


class TestTheKeyboard:
    @pytest.mark.usefixtures("a_busy_hour")
    def test_reaches_every_link_and_table_in_order(self, operator: Desk) -> None:
        # given: what a keyboard should reach
        operator.open("overview/")
        script = "return [...document.querySelectorAll(arguments[0])].filter(e => e.checkVisibility()).length"
        number = operator.browser.run(script, ".celery-overview :is(a, input, summary, [tabindex='0'])")
        assert number > 10

        # when
        operator.browser.run("document.querySelector('main').focus()")
        reached = [press_tab(operator) for _ in range(number)]

        # then
        assert len(set(reached)) == number
        assert all(is_ours for is_ours, _ in reached)

    @pytest.mark.usefixtures("a_busy_hour")
    def test_opens_the_numbers_of_a_chart(self, operator: Desk) -> None:
        operator.open("overview/")
        summary = operator.find(".celery-chart summary")

        summary.send_keys(Keys.ENTER)

        assert operator.find(".celery-chart details table").is_displayed()
        assert "1,200" in operator.find(".celery-chart details table").text


WHERE_THE_FOCUS_IS = """
const e = document.activeElement;
return [e.closest('.celery-overview') !== null, e.outerHTML + e.getBoundingClientRect().y];
"""


def press_tab(desk: Desk) -> tuple[bool, str]:
    """Return whether the focus is in the overview now, and where."""
    desk.browser.switch_to.active_element.send_keys(Keys.TAB)
    is_ours, what = desk.browser.run(WHERE_THE_FOCUS_IS)
    return is_ours, what


def test_without_the_permission_there_is_no_page(desk: Desk) -> None:
    desk.log_in(User.objects.create_user("staff", "", "secret", is_staff=True))

    desk.open("overview/")

    assert "403" in desk.browser.title or "Forbidden" in desk.browser.page_source

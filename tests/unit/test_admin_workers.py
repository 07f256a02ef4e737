"""celery/admin/workers.py: what the list of workers shows."""

import pytest
from django.test import Client

from tests.unit.admin_pages import XSS, later, listed, make_message, make_worker, root, text_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def person() -> Client:
    return root()


def test_workers_are_listed_by_name(person: Client) -> None:
    make_worker("1", name="host.b")
    make_worker("2", name="host.a")

    assert listed(person, "worker") == ["host.a", "host.b"]


@pytest.mark.parametrize(("term", "found"), [("host.a", ["host.a"]), ("host", ["host.a", "host.b"]), ("1", ["host.b"])])
def test_a_worker_is_found_by_name_or_owner(person: Client, term: str, found: list[str]) -> None:
    make_worker("1", name="host.b")
    make_worker("2", name="host.a")

    assert listed(person, "worker", q=term) == found


def test_a_worker_that_is_silent_for_longer_than_its_lease_is_called_so(person: Client) -> None:
    make_worker("1", seen_at=later(hours=-2), lease=90.0)
    make_worker("2", seen_at=later(seconds=0), lease=90.0)

    page = text_of(person.get("/admin/celery/worker/"))

    assert page.count("silent: seen 2 h ago") == 1
    assert page.count(">seen ") == 1


def test_an_empty_list_says_what_that_means(person: Client) -> None:
    assert "No worker runs" in text_of(person.get("/admin/celery/worker/"))


def test_a_page_leads_to_its_messages_and_its_results(person: Client) -> None:
    make_worker("me")
    make_message("a", owner="me")

    page = text_of(person.get("/admin/celery/worker/me/change/"))

    assert '<a href="/admin/celery/message/?worker=me">1 messages of the database</a>' in page
    assert '<a href="/admin/celery/taskmeta/?worker=host.1">what it has stored</a>' in page


def test_a_list_has_no_actions(person: Client) -> None:
    make_worker()

    assert person.get("/admin/celery/worker/").context["action_form"] is None


@pytest.mark.parametrize("column", ["name", "queues"])
def test_what_a_worker_says_is_escaped(person: Client, column: str) -> None:
    make_worker("me", **{column: XSS})

    for address in ("worker/", "worker/me/change/", "message/", "taskmeta/"):
        assert b"<script>alert" not in person.get(f"/admin/celery/{address}").content

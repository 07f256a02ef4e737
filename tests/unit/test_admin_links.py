"""celery/admin/links.py: where a page leads, and whom."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, Permission
from django.http import HttpRequest

from celery.admin.links import address, link, may_see

pytestmark = pytest.mark.django_db


def asked_by(*permissions: str) -> HttpRequest:
    person = get_user_model().objects.create_user("somebody", is_staff=True)
    person.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    request = HttpRequest()
    request.user = person
    return request


@pytest.mark.parametrize("permission", ["view_worker", "change_worker"])
def test_who_may_open_a_list_is_led_there(permission: str) -> None:
    request = asked_by(permission)

    assert may_see(request, "worker")
    assert address(request, "worker", q="a&b") == "/admin/celery/worker/?q=a%26b"
    assert link(request, "worker", "<w>", key="a/b") == '<a href="/admin/celery/worker/a_2Fb/change/">&lt;w&gt;</a>'


@pytest.mark.parametrize("permissions", [[], ["view_message", "delete_worker"]])
def test_nobody_else_is(permissions: list[str]) -> None:
    request = asked_by(*permissions)

    assert not may_see(request, "worker")
    assert address(request, "worker") == ""
    assert link(request, "worker", "<w>") == "<w>"


def test_nobody_at_all_is_led_nowhere() -> None:
    request = HttpRequest()
    request.user = AnonymousUser()

    assert address(request, "message") == ""


def test_a_page_that_there_is_not_is_no_link() -> None:
    request: Any = asked_by("view_overview")

    assert link(request, "overview", "text", key=7) == "text"

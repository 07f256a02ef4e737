"""Links to the pages of Django's admin, for those who may open them."""

from typing import Any, Final

from django.contrib.admin.utils import quote
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.http import urlencode

#: In the place of what only those may know who may see another list.
HIDDEN: Final = "not for you to see: it needs the permission celery.view_{}"


def may_see(request: HttpRequest, model: str) -> bool:
    """Tell whether the user may see the rows of `model`, as the list of these decides it."""
    return request.user.has_perm(f"celery.view_{model}") or request.user.has_perm(f"celery.change_{model}")


def hidden(model: str) -> str:
    """Return what stands in the place of a fact about rows that the user may not see."""
    return HIDDEN.format(model)


def address(request: HttpRequest, model: str, *, key: Any = None, **query: Any) -> str:
    """Return where the list of `model` or one of its rows is; nothing for those who may not see it.

    That is on the site that ``request.current_app`` names, and nothing where that has no such page.
    """
    if not may_see(request, model):
        return ""
    name, names = ("changelist", []) if key is None else ("change", [quote(key)])
    try:
        found = reverse(f"admin:celery_{model}_{name}", args=names, current_app=getattr(request, "current_app", None))
    except NoReverseMatch:
        return ""
    return f"{found}?{urlencode(query)}" if query else found


def link(request: HttpRequest, model: str, text: str, *, key: Any = None, **query: Any) -> str:
    """Return `text` as a link to the same; plain where there is none."""
    found = address(request, model, key=key, **query)
    return format_html('<a href="{}">{}</a>', found, text) if found else text

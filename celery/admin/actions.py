"""Acting on many rows: which ones, in batches, with log entries, and with a question before what cannot be undone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse

from celery.admin.base import ReadOnlyAdmin
from celery.exceptions import CeleryError

#: Rows of one transaction, and rows that a question names.
BATCH: Final = 500
NAMED: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What an action does to a batch of rows: it returns those that it changed.

    `past` is for people ("dropped"), `entry` for the log, and `unless` says why rows may be left as they are.
    """

    do: Callable[[QuerySet[Any]], Sequence[Any]]
    past: str
    entry: str
    unless: str
    deletes: bool = False


@dataclass(slots=True, kw_only=True)
class Counts:
    """What became of the chosen rows."""

    done: int = 0
    left: int = 0
    gone: int = 0
    trouble: str = ""


def perform(admin: ReadOnlyAdmin, request: HttpRequest, queryset: QuerySet[Any], deed: Deed) -> None:
    """Do it, batch by batch, and tell the user what became of it."""
    counts = Counts()
    keys = chosen_keys(admin, request, queryset)
    try:
        for start in range(0, len(keys), BATCH):
            _perform_batch(admin, request, keys[start : start + BATCH], deed, counts)
    except (CeleryError, ImproperlyConfigured) as error:
        counts.trouble = f"{error}"
    _tell(admin, request, deed, counts)


def _perform_batch(admin: ReadOnlyAdmin, request: HttpRequest, keys: Sequence[Any], deed: Deed, counts: Counts) -> None:
    """Change and log together, where both are in one database; else neither without the other, but for a crash."""
    rows = admin.get_queryset(request).filter(pk__in=keys)
    with transaction.atomic(using=admin.database()):
        changed = list(deed.do(rows))
        left = set(keys) - {row.pk for row in changed}
        remaining = rows.filter(pk__in=left).count() if left else 0
        _log(request, changed, deed)
    counts.done += len(changed)
    counts.left += remaining
    counts.gone += len(left) - remaining


def _log(request: HttpRequest, rows: Sequence[Any], deed: Deed) -> None:
    if rows:
        LogEntry.objects.log_actions(
            user_id=request.user.pk or 0,  # nobody without a key has a permission
            queryset=rows,
            action_flag=DELETION if deed.deletes else CHANGE,
            change_message=deed.entry,
        )


def _tell(admin: ReadOnlyAdmin, request: HttpRequest, deed: Deed, counts: Counts) -> None:
    if counts.done:
        admin.message_user(request, f"{amount(admin, counts.done)} {deed.past}.", messages.SUCCESS)
    if counts.left:
        text = f"{amount(admin, counts.left)} not {deed.past}: {deed.unless}."
        admin.message_user(request, text, messages.WARNING)
    if counts.gone:
        text = f"{amount(admin, counts.gone)} not {deed.past}: not in the table any more."
        admin.message_user(request, text, messages.WARNING)
    if counts.trouble:
        admin.message_user(request, f"Stopped: {counts.trouble}", messages.ERROR)


def amount(admin: ReadOnlyAdmin, number: int) -> str:
    """Return a number of rows in words."""
    options = admin.opts
    return f"{number:,} {options.verbose_name if number == 1 else options.verbose_name_plural}"


# -- which


def chosen_keys(admin: ReadOnlyAdmin, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
    """Return the keys of the rows that the user has ticked; or, for "select all", of all that the list has.

    A list has `paging.LISTED` rows at most. With a question in between, what has come since it was asked is left out.
    """
    if request.POST.get("select_across") != "1":
        return sorted({admin.opts.pk.to_python(key) for key in request.POST.getlist(ACTION_CHECKBOX_NAME)})
    keys = list(queryset.values_list("pk", flat=True))
    newest = request.POST.get("newest", "")
    return [key for key in keys if key <= int(newest[:20])] if newest.isdecimal() else keys


# -- the question


def is_confirmed(request: HttpRequest) -> bool:
    """Tell whether the user has seen the question and said yes."""
    return request.POST.get("post") == "yes"


def question(
    admin: ReadOnlyAdmin, request: HttpRequest, queryset: QuerySet[Any], *, verb: str, facts: Sequence[str]
) -> TemplateResponse:
    """Return the page that asks whether to "delete_selected", with what will follow in `facts`."""
    keys = chosen_keys(admin, request, queryset)
    across = request.POST.get("select_across") == "1"
    rows = admin.get_queryset(request).defer(*admin.heavy).filter(pk__in=keys[:NAMED])
    what = amount(admin, len(keys))
    context = {
        **admin.admin_site.each_context(request),
        "title": f"{verb} {what}?",
        "opts": admin.opts,
        "facts": facts,
        "rows": [str(row) for row in rows],
        "more": max(len(keys) - NAMED, 0),
        "yes": f"Yes, {verb.lower()} {what}",
        "back": request.get_full_path(),
        "action": "delete_selected",
        "checkbox": ACTION_CHECKBOX_NAME,
        "keys": keys[:1] if across else keys,
        "across": across,
        "newest": max(keys, default=""),
    }
    request.current_app = admin.admin_site.name
    return TemplateResponse(request, "admin/celery/question.html", context)

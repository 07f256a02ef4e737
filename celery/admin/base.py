"""What all lists share: rows are looked at and never edited, and actions have permissions and log entries."""

import logging
from collections.abc import Callable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.contrib.auth import get_permission_codename
from django.core.exceptions import BadRequest, ImproperlyConfigured, PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import SimpleTemplateResponse
from django.urls import reverse

from celery import backends
from celery.admin import links, shown
from celery.admin.paging import BoundedChangeList, Found
from celery.exceptions import CeleryError

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Any]
else:
    Base = admin.ModelAdmin

logger = logging.getLogger("celery.admin")

#: Characters of an error that a person is told of wrong settings.
TROUBLE: Final = 500


def results_are_rows() -> bool:
    """Tell whether CELERY_BACKEND keeps results in the table that the admin shows."""
    return isinstance(backends.default(), backends.get_backend_cls("database"))


class ReadOnlyAdmin(Base):
    """A list through indexes, pages to look at, and actions.

    Changing in Django's sense, a form that writes all columns, would undo what workers write meanwhile: nobody may. The
    permission to change is that to operate: requeue, run now. That to delete is the one to drop.
    """

    list_per_page = 100
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    search_fields = ("pk",)  # the box; `find` does the searching
    actions_selection_counter = True
    change_list_template = "admin/celery/list.html"
    change_form_template = "admin/celery/detail.html"
    #: Columns that lists do not read.
    heavy: ClassVar[tuple[str, ...]] = ()
    #: Actions that a page of one row offers, when `applies` to it.
    offered: ClassVar[dict[str, str]] = {}
    #: Whose page it is; see `_for`.
    reader: HttpRequest | None = None

    class Media:
        css: ClassVar[dict[str, Sequence[str]]] = {"all": ["celery/lists.css"]}

    # -- for subclasses

    def database(self) -> str:
        """Return the alias of the database of these rows."""
        raise NotImplementedError

    def find(self, rows: QuerySet[Any], chosen: dict[str, str], term: str) -> Found:
        """Return what the list has, by the filters that were `chosen` and a search `term`."""
        raise NotImplementedError

    def notices(self) -> list[str]:
        """Return what a reader of the list must know."""
        return []

    def applies(self, action: str, row: Any) -> bool:  # noqa: ARG002 - for subclasses
        """Tell whether an action would change this row now."""
        return True

    # -- rows

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return all rows, in the database where they are."""
        return super().get_queryset(request).using(self.database())

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[BoundedChangeList]:  # noqa: ARG002 - Django's signature
        """Return the list that reads no more than it shows."""
        return BoundedChangeList

    def get_search_results(
        self,
        request: HttpRequest,  # noqa: ARG002 - Django's signature
        queryset: QuerySet[Any],
        search_term: str,  # noqa: ARG002 - the same
    ) -> tuple[QuerySet[Any], bool]:
        """Return all: `find` does the searching."""
        return queryset, False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:  # noqa: ARG002 - the same
        """Allow what the filters ask: any other condition might read a whole table."""
        return lookup in {getattr(one, "parameter_name", None) for one in self.list_filter}

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:  # noqa: ARG002 - the same
        """Return all that is shown."""
        return [name for _, options in self.fieldsets or () for name in options["fields"] if isinstance(name, str)]

    # -- permissions

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - Django's signature
        """Return False."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - the same
        """Return False: it would be permission to save a form."""
        return False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user has Django's permission to change, and so to requeue or run now."""
        return self._may(request, "change")

    def has_drop_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user has Django's permission to delete."""
        return self._may(request, "delete")

    def _may(self, request: HttpRequest, verb: str) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.{get_permission_codename(verb, self.opts)}")

    # -- pages

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list, or act. Raises PermissionDenied for an action that the user may not do, BadRequest.

        Where settings are wrong it says so, and leads to the index.
        """
        mine = self._for(request)
        page: HttpResponse = self._told(request, lambda: mine._changelist(request, extra_context or {}))  # noqa: SLF001 - a copy of ours
        return page

    def _changelist(self, request: HttpRequest, extra_context: dict[str, Any]) -> HttpResponse:
        try:
            for key in request.POST.getlist(ACTION_CHECKBOX_NAME):
                self.opts.pk.clean(key, None)
        except ValidationError as error:
            raise BadRequest(f"{key!r:.80} is not the key of a row") from error
        asked = {name for name in request.POST.getlist("action") if name}
        if asked and not asked <= set(self.get_actions(request)):
            raise PermissionDenied
        return super().changelist_view(request, {"notices": self.notices(), **extra_context})

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Show one row, with buttons for what can be done to it now. Where settings are wrong, as the list."""
        mine = self._for(request)
        return self._told(request, lambda: mine._form(request, object_id, form_url, extra_context or {}))  # noqa: SLF001 - the same

    def _form(self, request: HttpRequest, object_id: str | None, form_url: str, extra_context: dict[str, Any]) -> Any:
        context = {"buttons": self._buttons(request, object_id), **extra_context}
        return super().changeform_view(request, object_id, form_url, context)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        """Show what was done to one row. Where settings are wrong, as the list."""
        return self._told(request, lambda: super(ReadOnlyAdmin, self).history_view(request, object_id, extra_context))

    def _buttons(self, request: HttpRequest, object_id: str | None) -> list[dict[str, str]]:
        permitted = {name: label for name, label in self.offered.items() if name in self.get_actions(request)}
        row = self.get_object(request, unquote(object_id)) if permitted and object_id else None
        if row is None:
            return []
        return [{"action": name, "label": label} for name, label in permitted.items() if self.applies(name, row)]

    # -- who reads

    def _for(self, request: HttpRequest) -> Self:
        """Return this admin as it is for one request: what cells show depends on who reads them."""
        request.current_app = self.admin_site.name
        mine = copy(self)
        mine.reader = request
        return mine

    def may_see(self, model: str) -> bool:
        """Tell whether the reader may see the rows of `model`."""
        return self.reader is not None and links.may_see(self.reader, model)

    def link(self, model: str, text: str, *, key: Any = None, **query: str) -> str:
        """Return `text` as a link to a row or to the list of `model`; plain if the reader cannot go there."""
        return text if self.reader is None else links.link(self.reader, model, text, key=key, **query)

    # -- wrong settings

    def _told(self, request: HttpRequest, show: Callable[[], Any]) -> Any:
        """Return the page, rendered, since its cells ask the settings too; or tell what is wrong with these.

        Raises PermissionDenied for those who may not see the page in any case, and what the database raises.
        """
        try:
            page = show()
            return page.render() if isinstance(page, SimpleTemplateResponse) else page
        except (ImproperlyConfigured, ImportError, CeleryError) as error:
            if not self.has_view_permission(request):
                raise PermissionDenied from error
            why = shown.cell(f"{error}", TROUBLE)
            text = f"The {self.opts.verbose_name_plural} cannot be shown: {why} (`manage.py check` says more)"
            self.message_user(request, text, messages.ERROR, fail_silently=True)
            logger.exception("The admin cannot show %s.", self.opts.verbose_name_plural)
            return HttpResponseRedirect(reverse("admin:index", current_app=self.admin_site.name))

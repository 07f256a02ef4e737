"""celery/admin/base.py: who may see and do what, on every list."""

import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.contrib import admin
from django.contrib.admin.sites import AdminSite
from django.contrib.auth.models import AnonymousUser, User
from django.db import OperationalError
from django.http import HttpRequest
from django.test import Client
from django.urls import path
from pytest_django import Settings

from celery import backends
from celery.admin import MessageAdmin, PeriodicTaskAdmin, ResultAdmin, WorkerAdmin
from celery.models import Message, PeriodicTaskMeta, TaskMeta, Worker
from tests.unit.admin_pages import act, make_dead, make_message, make_result, make_worker, root, somebody, text_of

pytestmark = pytest.mark.django_db

MODELS = ("taskmeta", "message", "worker", "periodictaskmeta")
OWN_SITE = AdminSite("operations")
OWN_SITE.register(Message, MessageAdmin)
urlpatterns = [path("admin/", admin.site.urls), path("ops/", OWN_SITE.urls)]


def make(model: str) -> Any:
    if model == "periodictaskmeta":
        return PeriodicTaskMeta.objects.create(name="shop.tasks.sweep")
    return {"taskmeta": make_result, "message": make_dead, "worker": make_worker}[model]()


@pytest.mark.parametrize("model", MODELS)
class TestWhoMayLook:
    def test_nobody_who_is_not_logged_in(self, model: str) -> None:
        assert Client().get(f"/admin/celery/{model}/").status_code == 302

    def test_nobody_without_a_permission(self, model: str) -> None:
        row = make(model)
        person = somebody()

        assert person.get(f"/admin/celery/{model}/").status_code == 403
        assert person.get(f"/admin/celery/{model}/{row.pk}/change/").status_code == 403
        assert person.get(f"/admin/celery/{model}/{row.pk}/history/").status_code == 403

    def test_whoever_may_view(self, model: str) -> None:
        row = make(model)
        person = somebody(f"view_{model}")

        assert person.get(f"/admin/celery/{model}/").status_code == 200
        assert person.get(f"/admin/celery/{model}/{row.pk}/change/").status_code == 200
        assert person.get(f"/admin/celery/{model}/{row.pk}/history/").status_code == 200

    def test_the_lists_and_pages_of_empty_tables_are_there(self, model: str) -> None:
        person = root()

        assert person.get(f"/admin/celery/{model}/").status_code == 200
        assert person.get(f"/admin/celery/{model}/77/change/").status_code == 302


@pytest.mark.parametrize("model", MODELS)
class TestNothingIsEdited:
    def test_nothing_can_be_added(self, model: str) -> None:
        assert root().get(f"/admin/celery/{model}/add/").status_code == 403

    def test_no_form_is_saved(self, model: str) -> None:
        row = make(model)

        assert root().post(f"/admin/celery/{model}/{row.pk}/change/", {"_save": "Save"}).status_code == 403

    def test_a_page_has_no_button_to_save(self, model: str) -> None:
        row = make(model)

        assert 'name="_save"' not in text_of(root().get(f"/admin/celery/{model}/{row.pk}/change/"))


class TestWhoMayAct:
    @pytest.mark.parametrize(
        ("permissions", "actions"),
        [
            (["view_message"], set()),
            (["view_message", "change_message"], {"requeue", "run_now"}),
            (["view_message", "delete_message"], {"delete_selected"}),
            (["change_message", "delete_message"], {"requeue", "run_now", "delete_selected"}),
        ],
    )
    def test_a_list_offers_what_is_permitted(self, permissions: list[str], actions: set[str]) -> None:
        make_message()

        form = somebody(*permissions).get("/admin/celery/message/").context["action_form"]

        offered = {name for name, _ in form.fields["action"].choices if name} if form else set()
        assert offered == actions

    @pytest.mark.parametrize(
        ("permission", "action"),
        [
            ("view_message", "requeue"),
            ("view_message", "run_now"),
            ("view_message", "delete_selected"),
            ("change_message", "delete_selected"),
            ("delete_message", "requeue"),
        ],
    )
    def test_what_is_not_permitted_is_refused(self, permission: str, action: str) -> None:
        row = make_dead()

        answer = act(somebody("view_message", *{permission} - {"view_message"}), "message", action, row, post="yes")

        assert answer.status_code == 403
        row.refresh_from_db()
        assert row.dead_at is not None

    @pytest.mark.parametrize("model", ["worker", "periodictaskmeta"])
    def test_workers_and_periodic_tasks_cannot_be_deleted(self, model: str) -> None:
        row = make(model)

        assert act(root(), model, "delete_selected", row, post="yes").status_code == 403
        assert root().post(f"/admin/celery/{model}/{row.pk}/delete/", {"post": "yes"}).status_code == 403
        row.refresh_from_db()

    def test_a_message_is_not_deleted_in_djangos_way(self) -> None:
        row = make_message()

        assert root().post(f"/admin/celery/message/{row.pk}/delete/", {"post": "yes"}).status_code == 403

    def test_a_result_is_deleted_in_djangos_way_by_those_who_may(self) -> None:
        row = make_result()
        address = f"/admin/celery/taskmeta/{row.pk}/delete/"

        assert somebody("view_taskmeta").post(address, {"post": "yes"}).status_code == 403
        assert somebody("view_taskmeta", "delete_taskmeta").post(address, {"post": "yes"}).status_code == 302
        assert not TaskMeta.objects.exists()


class TestButtons:
    @pytest.mark.parametrize(
        ("fields", "labels"),
        [
            ({}, ["Drop"]),
            ({"visible_at": "2100-01-01T00:00Z"}, ["Run now", "Drop"]),
            ({"dead_at": "2026-01-01T00:00Z"}, ["Requeue", "Drop"]),
            ({"owner": "me"}, []),
        ],
    )
    def test_a_page_offers_what_would_change_its_row(self, fields: dict[str, str], labels: list[str]) -> None:
        row = make_message(**fields)

        answer = root().get(f"/admin/celery/message/{row.pk}/change/")

        assert [button["label"] for button in answer.context["buttons"]] == labels

    def test_a_page_offers_what_is_permitted(self) -> None:
        row = make_dead()

        answer = somebody("view_message", "change_message").get(f"/admin/celery/message/{row.pk}/change/")

        assert [button["label"] for button in answer.context["buttons"]] == ["Requeue"]


class TestQueries:
    @pytest.mark.parametrize("lookup", ["task__icontains", "reason__contains", "body", "owner__isnull"])
    def test_a_condition_that_is_no_filter_is_refused(self, lookup: str) -> None:
        assert root().get("/admin/celery/message/", {lookup: "x"}).status_code == 400

    @pytest.mark.parametrize(
        "query", [{"p": "2"}, {"p": "0"}, {"since": "x"}, {"since": "0"}, {"since": "9" * 30}, {"queue": "a\0b"}]
    )
    @pytest.mark.parametrize("model", ["message"])
    def test_what_makes_no_sense_leads_to_the_whole_list(self, model: str, query: dict[str, str]) -> None:
        make_message()

        answer = root().get(f"/admin/celery/{model}/", query)

        assert (answer.status_code, answer.headers["Location"]) == (302, f"/admin/celery/{model}/?e=1")

    @pytest.mark.parametrize("model", MODELS)
    def test_a_search_for_nothing_that_can_be_there_finds_nothing(self, model: str) -> None:
        make(model)
        person = root()

        for term in ("x" * 300, "%", "_", "'", "\\", "\N{PILE OF POO}", "\ud7ff"):
            assert len(person.get(f"/admin/celery/{model}/", {"q": term}).context["cl"].result_list) == 0
        assert person.get(f"/admin/celery/{model}/", {"q": "a\0b"}).status_code == 200

    def test_columns_to_sort_by_are_ignored_for_no_index_has_their_order(self) -> None:
        make_message()

        assert root().get("/admin/celery/message/", {"o": "3.-1.99.x", "all": "", "_facets": "True"}).status_code == 200


@pytest.mark.parametrize("model", MODELS)
def test_pages_are_there_without_time_zones_too(model: str, settings: Settings) -> None:
    settings.USE_TZ = False
    row = make(model)
    person = root()

    addresses = ["", f"{row.pk}/change/"] + (["?since=1"] if model in {"message", "taskmeta"} else [])
    for address in addresses:
        assert person.get(f"/admin/celery/{model}/{address}").status_code == 200


class TestSites:
    @pytest.fixture(autouse=True)
    def _urls(self, settings: Settings) -> None:
        settings.ROOT_URLCONF = __name__

    def test_a_site_of_its_own_works(self) -> None:
        row = make_dead()
        make_result()
        person = root()

        page = text_of(person.get(f"/ops/celery/message/{row.pk}/change/"))

        assert person.get("/ops/celery/message/").status_code == 200
        assert 'action="/ops/celery/message/"' in page

    def test_what_a_site_does_not_have_is_no_link_there(self) -> None:
        row = make_dead()
        make_result()
        person = root()

        assert "DONE, attempt 1" in text_of(person.get(f"/ops/celery/message/{row.pk}/change/"))
        assert "/taskmeta/" not in text_of(person.get(f"/ops/celery/message/{row.pk}/change/"))
        assert "/admin/celery/taskmeta/" in text_of(person.get(f"/admin/celery/message/{row.pk}/change/"))

    def test_the_rows_that_a_subclass_hides_stay_hidden_and_untouched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        secret, public = make_dead("secret", queue="secret"), make_dead("public")
        shown = MessageAdmin.get_queryset

        def get_queryset(self: MessageAdmin, request: HttpRequest) -> Any:
            return shown(self, request).exclude(queue="secret")

        monkeypatch.setattr(MessageAdmin, "get_queryset", get_queryset)
        person = root()
        act(person, "message", "delete_selected", secret, public, post="yes")

        assert list(Message.objects.all()) == [secret]


class TestWhatIsNotForEverybody:
    """Whoever may see one list learns nothing from it of the others that answer 403."""

    def test_a_message_does_not_tell_its_result_and_its_worker(self) -> None:
        make_result("a", status="RETRY", attempt=7, worker="host.secret")
        make_worker("me", name="host.secret")
        row = make_message("a", owner="me")
        person = somebody("view_message")

        page = text_of(person.get(f"/admin/celery/message/{row.pk}/change/"))

        for secret in ("RETRY", "attempt 7", "host.secret", "/taskmeta/", "/celery/worker/"):
            assert secret not in page
        assert "it needs the permission celery.view_taskmeta" in page
        assert '<div class="readonly">me</div>' in page

    def test_a_filter_does_not_name_the_workers(self) -> None:
        make_worker("me", name="host.secret")
        make_message("a", owner="me")
        make_result("a", worker="host.other")

        for model in ("message", "taskmeta"):
            person = somebody(f"view_{model}")
            assert "host.secret" not in text_of(person.get(f"/admin/celery/{model}/"))
            assert "host.secret" not in text_of(person.get(f"/admin/celery/{model}/", {"worker": "me"}))
            assert "host.secret" in text_of(somebody(f"view_{model}", "view_worker").get(f"/admin/celery/{model}/"))

    def test_a_result_does_not_tell_its_messages(self) -> None:
        row = make_result("a", worker="host.1")
        make_message("a")

        page = text_of(somebody("view_taskmeta").get(f"/admin/celery/taskmeta/{row.pk}/change/"))

        assert "in the database" not in page
        assert "it needs the permission celery.view_message" in page
        assert "host.1" in page  # which is of the result itself
        assert "/celery/worker/" not in page

    def test_a_worker_does_not_tell_its_messages_and_its_results(self) -> None:
        make_worker("me")
        make_message("a", owner="me")

        page = text_of(somebody("view_worker").get("/admin/celery/worker/me/change/"))

        assert "messages of the database" not in page
        assert "it needs the permission celery.view_message" in page
        assert "it needs the permission celery.view_taskmeta" in page

    def test_a_periodic_task_does_not_tell_its_last_result(self) -> None:
        PeriodicTaskMeta.objects.create(name="shop.tasks.sweep", last_task_id="a")
        make_result("a", status="FAILURE")

        page = text_of(somebody("view_periodictaskmeta").get("/admin/celery/periodictaskmeta/"))

        assert "FAILURE" not in page
        assert '<td class="field-last_result">a</td>' in page
        assert "/taskmeta/" not in page

    def test_two_readers_do_not_disturb_each_other(self) -> None:
        make_result("a", status="RETRY")
        row = make_message("a")
        address = f"/admin/celery/message/{row.pk}/change/"
        everybody, viewer = root(), somebody("view_message")

        told = ["RETRY" in text_of(person.get(address)) for person in (everybody, viewer, everybody, viewer)]

        assert told == [True, False, True, False]

    def test_two_readers_at_one_moment_do_not_either(self) -> None:
        everybody, viewer = HttpRequest(), HttpRequest()
        everybody.user, viewer.user = User(is_superuser=True), AnonymousUser()
        shared = WorkerAdmin(Worker, admin.site)

        first, second = shared._for(everybody), shared._for(viewer)

        assert (first.may_see("message"), second.may_see("message"), shared.reader) == (True, False, None)

    def test_outside_a_page_there_is_no_link_and_nothing_told(self) -> None:
        shown = WorkerAdmin(Worker, admin.site)

        assert shown.link("message", "<text>") == "<text>"
        assert not shown.may_see("message")


class TestWrongSettings:
    """They are a sentence for the reader and a traceback in the log, and no server error."""

    @pytest.fixture(autouse=True)
    def _rows(self) -> None:
        backends._instance.cache_clear()  # one of an earlier test would not need a host
        make_message("a", pk=7)
        make_result("a", pk=7)
        make_worker("me", pk="7")
        PeriodicTaskMeta.objects.create(name="shop.tasks.sweep", last_task_id="a", pk=7)

    WRONG: ClassVar[dict[str, dict[str, str | None]]] = {
        "no host": {"CELERY_BACKEND": "tyrant", "TT_HOST": None},
        "no module": {"CELERY_BACKEND": "shop_of_nowhere.Backend"},
        "no class": {"CELERY_BACKEND": "celery.backends.database.Nothing"},
        "no broker": {"CELERY_BROKER_URL": "carrier-pigeon://coop"},
    }

    @pytest.mark.parametrize("wrong", WRONG)
    @pytest.mark.parametrize("page", ["", "7/change/", "7/history/"])
    @pytest.mark.parametrize("model", MODELS)
    def test_a_page_is_there_or_leads_to_the_index(self, settings: Settings, model: str, page: str, wrong: str) -> None:
        person = root()
        for name, value in self.WRONG[wrong].items():
            setattr(settings, name, value)

        answer = person.get(f"/admin/celery/{model}/{page}")

        assert answer.status_code in {200, 302}
        if answer.status_code == 302:
            assert answer.headers["Location"] == "/admin/"
            (said,) = person.get("/admin/").context["messages"]
            assert str(said).startswith("The ")
            assert " cannot be shown: " in str(said)

    @pytest.mark.parametrize(
        ("wrong", "address", "text"),
        [
            ("no host", "taskmeta/", "The task results cannot be shown: "),
            (
                "no module",
                "message/7/change/",
                "The messages cannot be shown: No module named 'shop_of_nowhere' (`manage.py check`",
            ),
            ("no broker", "message/", "The messages cannot be shown: CELERY_BROKER_URL starts with 'carrier-pigeon'"),
            ("no broker", "worker/7/change/", "The workers cannot be shown: CELERY_BROKER_URL starts with"),
            ("no class", "periodictaskmeta/", "The periodic tasks cannot be shown: "),
        ],
    )
    def test_the_reader_is_told_what_is_wrong(
        self, settings: Settings, caplog: pytest.LogCaptureFixture, wrong: str, address: str, text: str
    ) -> None:
        person = root()
        for name, value in self.WRONG[wrong].items():
            setattr(settings, name, value)

        answer = person.get(f"/admin/celery/{address}", follow=True)

        assert answer.redirect_chain == [("/admin/", 302)]
        assert text in text_of(answer)
        assert [record.exc_info is not None for record in caplog.records if record.name == "celery.admin"] == [True]

    def test_an_action_is_answered_so_too(self, settings: Settings) -> None:
        person = root()
        settings.CELERY_BROKER_URL = "carrier-pigeon://coop"

        answer = person.post("/admin/celery/message/", {"action": "requeue", "_selected_action": ["7"]})

        assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/")

    def test_nobody_who_may_not_see_the_page_is_told(self, settings: Settings) -> None:
        settings.CELERY_BROKER_URL = "carrier-pigeon://coop"

        assert somebody("view_worker").get("/admin/celery/message/").status_code == 403

    def test_an_error_of_the_database_stays_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> Any:
            raise OperationalError("it is away")

        monkeypatch.setattr(MessageAdmin, "find", refuse)
        person = root()

        with pytest.raises(OperationalError):
            person.get("/admin/celery/message/")


def test_a_page_has_no_script_and_no_style_of_ours_in_it() -> None:
    row = make_dead()
    person = root()
    ours = person.get("/admin/celery/message/"), person.get(f"/admin/celery/message/{row.pk}/change/")
    asked = act(person, "message", "delete_selected", row)

    for page in (*map(text_of, ours), text_of(asked)):
        assert "<style" not in page
        assert " style=" not in page
        assert " onclick=" not in page
        scripts = page.split("<script")[1:]
        assert all("src=" in script.partition(">")[0] for script in scripts)


def test_a_project_without_the_admin_can_import_it() -> None:
    program = """
from django.conf import settings
settings.configure(INSTALLED_APPS=["celery"], DATABASES={})
import django
django.setup()
import celery.admin
assert not hasattr(celery.admin, "MessageAdmin")
"""
    root_folder = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=root_folder, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def test_the_default_site_has_them_all() -> None:
    for model, made in ((Message, MessageAdmin), (TaskMeta, ResultAdmin), (Worker, WorkerAdmin)):
        assert isinstance(admin.site.get_model_admin(model), made)
    assert isinstance(admin.site.get_model_admin(PeriodicTaskMeta), PeriodicTaskAdmin)

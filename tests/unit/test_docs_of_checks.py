"""The page of checks: an entry for every id, whose example provokes it."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from celery.registry import tasks

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def text(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What the extension puts into the page."""
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("checks_text")


def test_every_id_of_the_table_has_its_entry(text: ModuleType) -> None:
    assert list(text.ENTRIES) == list(text.table())


def test_an_example_provokes_its_id_or_is_written_down(text: ModuleType) -> None:
    for identity, entry in text.ENTRIES.items():
        assert entry.says or "HINT: " in text.said(identity), identity


def test_an_example_that_is_written_down_says_what_to_do(text: ModuleType) -> None:
    assert all("\nHINT: " in entry.says for entry in text.ENTRIES.values() if entry.says)


def test_the_page_has_each_id_as_a_target_and_what_it_says(text: ModuleType) -> None:
    lines = text.page()

    for identity, sentence in text.table().items():
        assert f".. _{identity}:" in lines
        assert any(line.startswith(f"{sentence[:1].upper()}{sentence[1:]}. ") for line in lines)


def test_no_password_is_on_the_page_but_in_the_settings_of_an_example(text: ModuleType) -> None:
    said = "\n".join(text.said(identity) for identity, entry in text.ENTRIES.items() if not entry.says)

    assert "***@" in said
    assert ":secret@" not in said


def test_the_task_of_an_example_is_gone_afterwards(text: ModuleType) -> None:
    before = dict(tasks)

    text.said("celery.E021")

    assert tasks == before


def test_the_page_is_made_by_the_extension() -> None:
    assert ".. celery-checks::" in (DOCS / "checks.rst").read_text()

"""celery: the version."""

import pytest

import celery
from tests.seed.table import rows_of

row = rows_of("celery")


@row("VERSION", "__version__", "below (4, 4, 7)")
def test_the_version_is_that_of_a_successor_of_the_seed() -> None:
    assert celery.VERSION == (0, 3, 0)
    assert celery.__version__ == "0.3.0"
    assert (0, 2, 14) < celery.VERSION < (4, 4, 7)


@row("is_stable_release", "version_with_meta")
@pytest.mark.parametrize(
    ("version", "is_stable", "text"),
    [
        ((0, 2, 14), True, "0.2.14 (stable)"),
        ((0, 3, 0), False, "0.3.0 (unstable)"),
        ((1, 1, 0), True, "1.1.0 (stable)"),
    ],
)
def test_even_versions_are_stable(
    version: tuple[int, int, int], is_stable: bool, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celery, "VERSION", version)
    monkeypatch.setattr(celery, "__version__", ".".join(map(str, version)))

    assert celery.is_stable_release() is is_stable
    assert celery.version_with_meta() == text

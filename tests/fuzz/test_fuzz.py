"""The short form: some thousand cases of each target, the same each time, and what the long form has once refused."""

import contextlib
import importlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery.registry import tasks
from tests.fuzz import branches
from tests.fuzz.__main__ import CORPUS, SHARES
from tests.fuzz.guard import RanError, nothing_runs
from tests.fuzz.mutator import joined, mutated, parted
from tests.fuzz.run import MUTATED, TARGETS, Tally, run, use_our_tasks
from tests.fuzz.target import ACCEPTED, Target

SEED = 5
CASES = {"setting": 200, "work": 800, "body": 2500}
KEPT: dict[str, dict[str, list[str]]] = json.loads(CORPUS.read_text(encoding="utf-8"))
each_target = pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))


@pytest.fixture(autouse=True, scope="module")
def _only_our_tasks() -> Iterator[None]:
    before = dict(tasks)
    logging.disable()  # of buckets and results that cannot be read, each time
    use_our_tasks()
    yield
    logging.disable(logging.NOTSET)
    tasks.clear()
    tasks.update(before)


@each_target
def test_no_case_is_a_finding(target: Target) -> None:
    # when
    tally = run(target, cases=CASES.get(target.name, 1500), seed=SEED)

    # then
    assert not tally.findings
    assert tally.reasons[ACCEPTED], "what is valid is accepted"
    assert sum(tally.reasons.values()) > tally.reasons[ACCEPTED], "something is refused"


@each_target
@given(chance=st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_case_of_hypothesis_is_a_finding(target: Target, chance: Random) -> None:
    target.check(mutated(target.valid(chance), chance))


@each_target
def test_what_was_refused_once_is_refused(target: Target) -> None:
    for reason, samples in KEPT[target.name].items():
        for sample in samples:
            found = target.check(parted(bytes.fromhex(sample)))

            assert found.partition(":")[0] == reason.partition(":")[0], (reason, sample)


@each_target
def test_a_valid_case_comes_out_of_its_fields_as_it_was(target: Target) -> None:
    fields = target.valid(Random(SEED))

    assert parted(joined(fields)) == fields


def test_the_targets_share_all_cases() -> None:
    assert {name: target.share for name, target in TARGETS.items()} == SHARES
    assert sum(SHARES.values()) == pytest.approx(1)


@pytest.mark.parametrize("module", branches.DECODERS)
def test_the_functions_whose_branches_are_counted_are_there(module: str) -> None:
    path = Path(str(importlib.import_module(module).__file__))

    assert branches._lines(path, branches.DECODERS[module])


# -- the finders find


def _raise_on_nul(fields: list[bytes]) -> str:
    if b"\0" in fields[0]:
        raise KeyError(fields[0])
    return ACCEPTED


def test_what_a_check_raises_is_kept_with_its_case() -> None:
    target = Target(name="planted", share=0.0, valid=lambda _: [b"text"], check=_raise_on_nul)

    tally = run(target, cases=500, seed=SEED)

    (finding,) = tally.findings.values()
    assert "KeyError" in finding["text"]
    assert b"\0" in parted(bytes.fromhex(finding["case"]))[0]
    assert finding["count"] + tally.reasons[ACCEPTED] == 500


def test_refused_cases_are_counted_by_reason_and_the_smallest_are_kept() -> None:
    target = Target(
        name="planted", share=0.0, valid=lambda _: [b""], check=lambda fields: f"refused: {fields[0][:1]!r}"
    )
    tally = Tally(target)

    for text in (b"a" * 9, b"a" * 30, b"a", b"b"):
        tally.note([text], MUTATED)

    assert tally.reasons == {"refused: b'a'": 3, "refused: b'b'": 1}
    assert [parted(bytes.fromhex(one)) for one in tally.samples["refused: b'a'"]] == [[b"a"], [b"a" * 9]]


@pytest.mark.parametrize(
    "deed",
    [
        lambda: os.system("true"),  # noqa: S605 - it is what must be seen
        lambda: eval("1 + 1"),  # noqa: S307 - the same
        lambda: Path(__file__).read_bytes(),
        lambda: __import__("antigravity_of_nobody"),
        lambda: exec("pass"),  # noqa: S102 - the same
    ],
    ids=["os.system", "eval", "open", "import", "exec"],
)
def test_whatever_runs_while_something_is_decoded_is_seen(deed: Any) -> None:
    with pytest.raises(RanError), nothing_runs(), contextlib.suppress(ImportError):
        deed()


def test_reading_is_not_running() -> None:
    with nothing_runs():
        assert json.loads('{"a": [1]}') == {"a": [1]}

    assert Path(__file__).read_bytes()  # outside of the block everything may be done

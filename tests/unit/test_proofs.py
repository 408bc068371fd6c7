"""What is proven of versions that were added to one another, by evaluations that were made of them in any order."""

from __future__ import annotations

import pytest

from infra.collecting import needed_by
from infra.database import DATASETS, EVALUATIONS, VERSIONS
from workflows.evaluate import make_latest, prove

HELPS = {"figure": "AP", "interval": [0.01, 0.2], "p": 0.001, "runs": 6, "difference": 0.1, "judged_by": 30}
SAYS_NOTHING = {**HELPS, "interval": [-0.1, 0.2], "p": 0.4}
HARMS = {**HELPS, "interval": [-0.2, -0.01], "difference": -0.1}


@pytest.fixture
def stack(records):
    """Version 1 of real images, 2 and 3 that each add four to the one before."""
    database = records.catalogue.database
    database.insert(DATASETS, {"id": "d", "latest": 1})
    for number in (1, 2, 3):
        health = {"synthetic_images": 4 * (number - 1)}
        database.insert(VERSIONS, {"id": f"d:{number}", "dataset": "d", "number": number, "parent": number - 1 or None, "proof": "none", "health": health})
    return records


def evaluate(stack, job, *, base, candidate, row=HELPS, published=None, steps=6):
    """As the workflow does once all runs are there: the proof, then the evaluation's own record."""
    request = {"dataset": "d", "base": base, "candidate": candidate, "steps": steps}
    version = prove(stack, request, job, published or candidate, row)
    part = None if published is None else {"version": published, "arm": "longtail 0.5"}
    result = {"figure": "AP", "grown": {}, "judged_by": 30, "table": [row], "tables": {"longtail 0.5 - real": [row]}, "published": part}
    stack.catalogue.database.insert(EVALUATIONS, {"id": job, "dataset": "d", "request": request, "result": result})
    return version["proof"]


def test_what_helps_beside_an_unproven_version_counts_where_that_is_proven_by_now_and_not_where_it_did_harm(stack):
    assert evaluate(stack, "a", base=2, candidate=3) == "inconclusive"
    assert evaluate(stack, "b", base=1, candidate=2) == "positive"
    assert evaluate(stack, "c", base=2, candidate=3, row=SAYS_NOTHING, steps=7) == "positive", "by the first, now that the base is proven"
    assert evaluate(stack, "d", base=1, candidate=2, row=HARMS, steps=9) == "negative"
    assert evaluate(stack, "e", base=2, candidate=3, row=SAYS_NOTHING, steps=8) == "inconclusive"


def test_what_a_proof_rests_on_is_not_dropped_before_it(stack):
    assert evaluate(stack, "a", base=2, candidate=3) == "inconclusive" and evaluate(stack, "b", base=1, candidate=3, published=2) == "positive"
    assert needed_by(stack.catalogue, "d", 2) == ["version 3 was measured beside its synthetic images"]
    assert needed_by(stack.catalogue, "d", 3) == [] and needed_by(stack.catalogue, "d", 1) == ["it is the latest"]
    stack.catalogue.database.delete(VERSIONS, dataset="d", number=3)
    assert needed_by(stack.catalogue, "d", 2) == []


def test_a_version_whose_parent_is_gone_is_proven_and_moved_by_request_alone(stack):
    stack.catalogue.database.delete(VERSIONS, dataset="d", number=2)
    assert evaluate(stack, "a", base=3, candidate=3) == "positive"
    version = stack.catalogue.database.version("d", 3)
    assert not make_latest(stack, {"dataset": "d", "base": 3, "candidate": 3}, "a", version)


def test_what_was_measured_on_real_images_counts_though_they_are_a_version_no_more(stack):
    assert evaluate(stack, "a", base=1, candidate=2) == "positive"
    stack.catalogue.database.delete(VERSIONS, dataset="d", number=1)
    assert evaluate(stack, "b", base=2, candidate=2, row=SAYS_NOTHING) == "positive"


def test_a_part_of_what_was_measured_on_its_own_real_images_is_measured_whole(stack):
    assert evaluate(stack, "a", base=2, candidate=2, published=3) == "positive"


def test_a_part_of_what_was_added_to_an_unproven_version_is_not_proven(stack):
    assert evaluate(stack, "a", base=2, candidate=4, published=3) == "inconclusive"

"""What the gates of a generator were not asked of a batch, and what is asked of it where nobody says."""

from __future__ import annotations

import pytest

from longtail.gated import gates_at, unasked, with_default
from workflows.evaluate import novelty_for

GATES = [
    {"name": "kid", "class_name": "cell", "novelty": 0.5},
    {"name": "copying", "class_name": "cell", "novelty": 0.5},
    {"name": "overlap", "class_name": "cell", "novelty": 0.5},
    {"name": "utility", "class_name": "all classes"},
    {"name": "utility", "class_name": "speck", "novelty": 0.5},
    {"name": "kid", "class_name": "few", "novelty": 0.25},
    {"name": "utility", "class_name": "few", "novelty": 1.0},
    {"name": "kid", "class_name": "older"},
    {"name": "kid", "class_name": "star", "novelty": 1.0},
]


@pytest.mark.parametrize(
    ("class_name", "mode", "novelty", "says"),
    [
        ("cell", "inpaint", 0.5, ""),
        ("cell", "inpaint", 0.5 + 1e-9, ""),
        ("cell", "inpaint", 0.2, ""),
        ("cell", "inpaint", 0.6, "made at novelty 0.6, where the gates of generator 3 looked at 'cell' at 0.5: ask for 0.5 or less, or fine-tune with"),
        ("cell", "synthesis", 0.5, "whole images were made, where the gates of generator 3 looked at objects of 'cell'"),
        ("few", "inpaint", 0.5, "looked at 'few' at 0.25: ask for 0.25 or less"),
        ("star", "inpaint", 1.0, ""),
        ("star", "synthesis", 1.0, ""),
        ("star", "inpaint", 0.5, "made at novelty 0.5, where the gates of generator 3 looked at 'star' at 1: ask for 1"),
        ("speck", "inpaint", 0.2, "no gate of 'speck' was asked of generator 3"),  # what was measured of use says nothing of quality
        ("speck", "copy_paste", 0.0, ""),
        ("speck", "enlarge", 0.0, ""),
        ("older", "inpaint", 0.5, ""),  # gates from before novelty was kept with them looked at 0.5 at most
        ("older", "inpaint", 1.0, "looked at 'older' at 0.5"),
    ],
)
def test_a_class_or_a_novelty_that_no_gate_looked_at_is_told(class_name, mode, novelty, says):
    told = unasked(GATES, generator=3, class_name=class_name, mode=mode, novelty=novelty)
    assert told == says if not says else says in told


def test_the_novelty_of_gates_is_the_most_that_they_may_have_had():
    assert {c: gates_at(GATES, c) for c in ("cell", "speck", "few", "older", "star")} == {"cell": 0.5, "speck": None, "few": 0.25, "older": 0.5, "star": 1.0}


@pytest.mark.parametrize(
    ("asked", "novelty"),
    [
        ({"class_name": "star", "mode": "inpaint", "novelty": None}, 1.0),
        ({"class_name": "star", "mode": "inpaint"}, 1.0),
        ({"class_name": "star", "mode": "inpaint", "novelty": 0.0}, 0.0),
        ({"class_name": "star", "mode": "copy_paste", "novelty": None}, None),
        ({"class_name": "cell", "mode": "inpaint", "novelty": None}, None),
        ({"class_name": "unknown", "mode": "inpaint", "novelty": None}, None),
    ],
)
def test_one_that_was_made_to_invent_is_asked_to(asked, novelty):
    told = with_default(asked, GATES)
    assert told.get("novelty") == novelty and {k: told[k] for k in ("class_name", "mode")} == {k: asked[k] for k in ("class_name", "mode")}


@pytest.mark.parametrize(
    ("name", "instances", "asked", "novelty"),
    [("star", 12, None, 1.0), ("star", 9, None, 0.25), ("star", 12, 0.3, 0.3), ("cell", 12, None, 0.5), ("unknown", 12, None, 0.5)],
)
def test_an_evaluation_makes_what_a_batch_would(name, instances, asked, novelty):
    """And of fewer than ten instances no more than a request may have."""
    assert novelty_for(name, instances, asked, "inpaint", GATES) == novelty

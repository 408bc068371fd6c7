"""What the gates of a generator were not asked of a batch."""

from __future__ import annotations

import pytest

from longtail.unasked import unasked

GATES = [
    {"name": "kid", "class_name": "cell", "novelty": 0.5},
    {"name": "copying", "class_name": "cell", "novelty": 0.5},
    {"name": "utility", "class_name": "all classes"},
    {"name": "utility", "class_name": "speck"},
    {"name": "kid", "class_name": "thread"},
    {"name": "kid", "class_name": "star", "novelty": 1.0},
]


@pytest.mark.parametrize(
    ("class_name", "mode", "novelty", "says"),
    [
        ("cell", "inpaint", 0.5, ""),
        ("cell", "inpaint", 0.2, ""),
        ("cell", "inpaint", 0.6, "made at novelty 0.6, where nothing was asked of generator 3: its gates of 'cell' looked at novelty 0.5"),
        ("cell", "synthesis", 1.0, "aim: invent"),
        ("star", "inpaint", 1.0, ""),
        ("speck", "inpaint", 0.2, "no gate of 'speck' was asked of generator 3"),  # what was measured of use says nothing of quality
        ("speck", "copy_paste", 0.0, ""),
        ("speck", "enlarge", 0.0, ""),
        ("thread", "inpaint", 1.0, ""),  # gates of before novelty was kept with them
    ],
)
def test_a_class_or_a_novelty_that_no_gate_looked_at_is_told(class_name, mode, novelty, says):
    told = unasked(GATES, generator=3, class_name=class_name, mode=mode, novelty=novelty)
    assert told == says if not says else says in told

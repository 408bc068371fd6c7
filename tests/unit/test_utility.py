"""The gate of use: as a whole, and for each of several classes that a generator's images grew."""

from __future__ import annotations

import pytest

from workflows.utility import each_class, gate_of

GROWN = {"a": 40, "b": 40}


def row(figure, low, high, p):
    return {"figure": figure, "difference": (low + high) / 2, "interval": [low, high], "p": p, "runs": 6, "images": 30}


TABLE = [row("AP", 0.1, 0.2, 0.001), row("AP/rare", 0.1, 0.2, 0.001), row("AP50/a", 0.1, 0.3, 0.001), row("AP50/b", -0.3, -0.1, 0.001)]


def verdicts(table, grown):
    return {g["class_name"]: g["verdict"] for g in each_class(table, grown, 12, "")}


def test_each_class_has_a_verdict_of_its_own():
    assert verdicts(TABLE, GROWN) == {"a": "passed", "b": "failed"}
    assert gate_of(TABLE[1], "a, b", 12, "/v1/e")["verdict"] == "passed", "whatever the whole says"


@pytest.mark.parametrize("few", [1, 19])
def test_one_class_of_few_test_objects_hides_behind_no_other(few):
    helped = [row("AP50/a", 0.1, 0.3, 0.001), row("AP50/b", 0.1, 0.3, 0.001)]
    assert verdicts(helped, {"a": 40, "b": few}) == {"a": "passed", "b": "unknown"}
    assert f"the test split has {few} objects" in each_class(helped, {"a": 40, "b": few}, 12, "")[1]["note"]


def test_help_is_asked_of_all_of_them_at_once():
    """0.03 alone would do; the smaller of two has to be under 0.025."""
    assert verdicts([row("F1/a", 0.01, 0.3, 0.03), row("F1/b", 0.01, 0.3, 0.03)], GROWN) == {"a": "unknown", "b": "unknown"}
    assert verdicts([row("F1/a", 0.01, 0.3, 0.02), row("F1/b", 0.01, 0.3, 0.03)], GROWN) == {"a": "passed", "b": "passed"}


def test_a_class_alone_is_what_the_whole_says_and_one_without_a_figure_has_no_gate():
    assert each_class(TABLE, {"a": 40}, 12, "") == []
    assert verdicts(TABLE, {"a": 40, "unheard of": 40}) == {"a": "passed"}


def test_a_class_that_no_test_image_shows_could_not_be_measured():
    missing = {"figure": "AP50/b", "difference": None, "interval": [None, None], "p": None, "runs": 6, "images": 30}
    assert verdicts([TABLE[2], missing], {"a": 40, "b": 0}) == {"a": "passed", "b": "unknown"}

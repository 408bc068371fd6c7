"""The gate of use: as a whole, and for each of several classes that a generator's images grew."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from workflows.utility import add_utility, each_class, gate_of

GROWN, TESTED = {"a": 8, "b": 4}, {"a": 40, "b": 40, "c": 40}


def row(figure, low, high, p):
    return {"figure": figure, "difference": (low + high) / 2, "interval": [low, high], "p": p, "runs": 6, "images": 30}


TABLE = [row("AP", 0.1, 0.2, 0.001), row("AP/rare", 0.1, 0.2, 0.001), row("AP50/a", 0.1, 0.3, 0.001), row("AP50/b", -0.3, -0.1, 0.001)]


def verdicts(table, grown=GROWN, tested=TESTED):
    return {g["class_name"]: g["verdict"] for g in each_class(table, grown, tested, "")}


def test_each_class_has_a_verdict_and_a_count_of_its_own():
    assert verdicts(TABLE) == {"a": "passed", "b": "failed"}
    assert [g["count"] for g in each_class(TABLE, GROWN, TESTED, "")] == [8, 4]
    assert gate_of(TABLE[1], "a, b", 12, "/v1/e")["verdict"] == "passed", "whatever the whole says"


@pytest.mark.parametrize("few", [1, 19])
def test_one_class_of_few_test_objects_hides_behind_no_other(few):
    helped = [row("AP50/a", 0.1, 0.3, 0.001), row("AP50/b", 0.1, 0.3, 0.001)]
    tested = {"a": 40, "b": few}
    assert verdicts(helped, tested=tested) == {"a": "passed", "b": "unknown"}
    assert f"the test split has {few} objects" in each_class(helped, GROWN, tested, "")[1]["note"]


@pytest.mark.parametrize(("low", "high", "verdict"), [(0.01, 0.3, "passed"), (-0.3, -0.01, "failed")])
def test_help_and_harm_are_asked_of_all_of_them_at_once(low, high, verdict):
    """0.03 alone would do; the smaller of two has to be under 0.025."""
    assert verdicts([row("F1/a", low, high, 0.03), row("F1/b", low, high, 0.03)]) == {"a": "unknown", "b": "unknown"}
    assert verdicts([row("F1/a", low, high, 0.02), row("F1/b", low, high, 0.03)]) == {"a": verdict, "b": verdict}


def test_a_class_alone_is_what_the_whole_says_and_one_without_a_figure_or_an_image_has_no_gate():
    assert each_class(TABLE, {"a": 40}, TESTED, "") == []
    assert verdicts(TABLE, {"a": 40, "unheard of": 40}) == {"a": "passed"}
    assert "c" not in verdicts([*TABLE, row("AP50/c", 0.1, 0.2, 0.001)])


@pytest.mark.parametrize("figure", ["AP/rare", "false alarms/rare"])
def test_another_figure_that_ends_in_its_name_says_nothing_of_a_class(figure):
    assert verdicts([row(figure, -0.3, -0.1, 0.001), TABLE[2]], {"a": 4, "rare": 4}) == {"a": "passed"}


def test_a_class_that_no_test_image_shows_could_not_be_measured():
    missing = {"figure": "AP50/b", "difference": None, "interval": [None, None], "p": None, "runs": 6, "images": 30}
    assert verdicts([TABLE[2], missing], tested={"a": 40, "b": 0}) == {"a": "passed", "b": "unknown"}


def measuring(gates, *, trainer=None):
    """A generator with these gates, and what an evaluation that is run on it leaves: (call, tags, gates)."""
    row, tags = {"id": "d:2", "gates": gates}, {}
    database = SimpleNamespace(get=lambda table, key: row, update=lambda table, key, **fields: row.update(fields))
    registry = SimpleNamespace(tag=lambda dataset, version, said: tags.update(said), alias=lambda dataset, name: None)
    stack = SimpleNamespace(catalogue=SimpleNamespace(database=database), registry=registry)

    def measure(grown, table=TABLE):
        measured = {"changed": [], "rare": list(grown), "added": 12, "grown": grown}
        line = {**table[1], "judged_by": 40}
        return add_utility(stack, "e", {"dataset": "d", "generator": 2, "trainer": trainer}, measured, line, table, TESTED, {"a": 0.25, "b": 0.5})

    return measure, tags, row


def test_measured_again_its_tags_say_what_was_measured_last():
    measure, tags, row = measuring([])
    measure(GROWN)
    assert tags["gate.utility"].endswith("passed") and tags["gate.utility.b"].endswith("failed") and tags["longtail.gates"] == "failed"
    told = {g["class_name"]: g["note"] for g in row["gates"]}
    assert {name: note.partition("images of novelty ")[2] for name, note in told.items()} == {"a, b": "0.25 and 0.5", "a": "0.25", "b": "0.5"}
    measure({"a": 12})
    assert tags["gate.utility"].endswith("passed") and tags["gate.utility.b"] == "not measured by the last evaluation"
    assert [g["class_name"] for g in row["gates"]] == ["a"]
    measure({"a": 12})
    assert "gate.utility.a, b" not in tags and tags["gate.utility"].endswith("passed")


def test_a_team_s_own_figures_are_of_no_class_that_we_know():
    measure, _, row = measuring([], trainer="theirs")
    assert len(measure(GROWN)) == len(row["gates"]) == 1

"""What filters took: an evaluation says what they left of each arm that was made for it, and what helps where that is little."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from longtail.filtering import advice, shortfall
from longtail.uplift import COPY_PASTE, LONGTAIL
from trainers import evaluating
from trainers.additions import Batch
from trainers.evaluating import Evaluation, tables_of
from trainers.planning import Model


@pytest.mark.parametrize(("lost", "says"), [(5, ""), (6, "6 of 10 images were filtered out, most by 'seam': the edges of its objects show")])
def test_a_better_generator_is_asked_for_where_less_than_half_passes(lost, says):
    assert advice("images", lost=lost, of=10, reasons={"copy": 1, "seam": 5}).startswith(says)
    assert bool(advice("images", lost=lost, of=10, reasons={"seam": 1})) == bool(says)


def bare(passing):
    """An evaluation without a dataset, of whose made images one of so many passes the filters."""
    found = object.__new__(Evaluation)
    found.filtered, found.base = {}, None
    found.addition = SimpleNamespace(classes={"a": 8, "b": 4}, objects=1)

    def made(view, request, *, key, model):
        kept = request["count"] // passing
        return Batch([object()] * kept, request["count"], {"copy": request["count"] - kept})

    return found, made


def test_an_arm_that_filters_leave_short_says_so(monkeypatch):
    found, made = bare(passing=6)
    monkeypatch.setattr(evaluating, "made", made)
    images = found.pasted()
    told = found.filtered[COPY_PASTE]
    assert told["wanted"] == 12 and told["kept"] == len(images) < 12 and told["accepted"] == told["made"] - told["rejected"]["copy"]
    lines = shortfall(found.filtered)
    assert lines[0] == f"'copy_paste' has {len(images)} of 12 images wanted: {told['made']} were made and {told['accepted']} passed the filters"
    assert lines[1].endswith("most by 'copy'"), "no generator made them, so that none can be made better"
    found.pasted()
    assert found.filtered[COPY_PASTE] == told, "counted once, however often it is made"


def test_an_arm_that_has_its_images_counts_what_was_made_for_it(monkeypatch):
    found, made = bare(passing=1)
    monkeypatch.setattr(evaluating, "made", made)
    batch = found.accepted(LONGTAIL, {}, 8, key="k", model=Model())
    assert len(batch.images) == 8
    assert found.filtered == {LONGTAIL: {"wanted": 8, "made": 10, "accepted": 10, "kept": 8, "rejected": {}}}
    assert shortfall(found.filtered) == []


def test_what_was_filtered_is_part_of_what_the_runs_say():
    told = {"wanted": 4, "made": 9, "accepted": 3, "kept": 3, "rejected": {"label": 6}}
    more = {"longtail": {"classes": {"b": 4}, "added": 4, "ids": [], "filtered": {LONGTAIL: told}}}
    runs = [
        {"arm": arm, "seed": seed, "images": 10, "core_seconds": 1.0, "test": {"AP": 0.1}, "val": {"AP": 0.1}, **more.get(arm, {})}
        for arm in ("real", "longtail") for seed in range(2)
    ]  # fmt: skip
    found = tables_of(runs, model="plugged", names=["a", "b"])
    assert found["filtered"] == {LONGTAIL: told}
    assert shortfall(found["filtered"])[1].endswith("fine-tune longer, or lower the novelty")
    assert found["grown"] == {"b": 4}

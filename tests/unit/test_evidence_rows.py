"""What a kept run of the evidence rests on, and which rows of former code may still be shown."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import ratios
from benchmarks.evidence import code, page, runs, table
from benchmarks.evidence.__main__ import quick
from benchmarks.evidence.rows import ROWS, few_of
from trainers.additions import Batch
from trainers.uplift.statistics import Difference

ROW = ROWS["bccd10"]


def test_how_many_objects_an_image_gets_is_part_of_what_was_added_and_of_nothing_else():
    other = replace(ROW, objects=1)
    changed = {arm for arm in runs.ARMS if runs.key_of(ROW, arm, "images", "weights") != runs.key_of(other, arm, "images", "weights")}
    assert changed == {runs.PASTED, runs.WITH_PASTED, *runs.GENERATED}
    emoji = ROWS["noto"]  # whole images have no room for a second object
    assert all(runs.key_of(emoji, a, "i", "w") == runs.key_of(replace(emoji, objects=1), a, "i", "w") for a in runs.arms_of(emoji))


def test_what_was_listed_later_counts_once_it_is_changed(monkeypatch):
    generator, images = code.code(code.LEARNING), code.code(code.MAKING)
    monkeypatch.setitem(code.CODE, "trainers/watchdogs.py", "another")
    assert code.code(code.LEARNING) != generator
    assert code.code(code.MAKING) == images


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, [0, 1]), ({"longtail-1": None}, [0]), ({"real-0": None, "both-1": None}, []), ({"classical-1": "newer"}, [])],
)
def test_former_runs_count_where_every_arm_rests_on_one_code(monkeypatch, changes, expected):
    keys = {f"{arm}-{seed}": f"old {arm}" for arm in runs.arms_of(ROW) for seed in (0, 1)} | changes
    body = {"runs": {name: {"key": key} for name, key in keys.items() if key is not None}, "images": "i", "generator": "g"}
    monkeypatch.setattr(runs, "kept", lambda row, draw: body)
    assert runs.seeds_formerly_done(ROW, 0) == expected
    assert runs.seeds_done(ROW, 0) == []


class Trained(Exception):
    """Raised where a generator would be trained."""


class Judged(Exception):
    """Raised where the judge is set up: no generator was trained for it."""


@pytest.mark.parametrize(
    ("changed", "raised"),
    [({}, None), ({"images": "other"}, Trained), ({"generator": "other"}, Trained), ({"lacks": "both-0"}, Trained), ({"lacks": f"{runs.TWICE}-0"}, Judged),
     ({"lacks": f"{runs.WITH_PASTED}-0"}, Judged)],
    ids=["whole", "images", "weights", "a_run_lacks", "one_that_needs_none_lacks", "pasted_beside_varied_lacks"],
)
def test_a_whole_draw_trains_no_generator(monkeypatch, changed, raised):
    """Its weights are not kept in the repository: a fresh clone has the runs, and no generator."""

    def train(*_):
        raise Trained

    def judge(*_):
        raise Judged

    view = SimpleNamespace(fingerprint=lambda: changed.get("images", "i"), names=["a"], real=lambda split: [])
    row = replace(ROW, seeds=1, draw=lambda data, draw: view)
    body = {"runs": {}, "images": "i", "generator": "g"}
    body["runs"] = {f"{arm}-0": {"key": key} for arm, key in runs.keys_of(row, body, runs.arms_of(row)).items() if f"{arm}-0" != changed.get("lacks")}
    monkeypatch.setattr(runs, "kept", lambda row, draw: body | changed)
    monkeypatch.setattr(runs, "generator_of", train)
    monkeypatch.setattr(runs, "Bench", judge)
    monkeypatch.setattr(runs, "Canvas", SimpleNamespace(of=lambda sizes, long_side_px: None))
    with pytest.raises(raised) if raised else contextlib.nullcontext():
        runs.run_draw(row, Path(), 0)


def test_each_arm_adds_what_it_says_and_makes_it_once(monkeypatch):
    made = []

    def grow(row, view, count, *, mode, draw, painter):
        made.append((mode, painter))
        return Batch([f"{mode} {k}" for k in range(count)], count + 1, {"seam": 1})

    def vary(row, view, count, *, draw):
        made.append(("varied", None))
        return [f"varied {k}" for k in range(count)]

    monkeypatch.setattr(runs, "grow", grow)
    monkeypatch.setattr(runs, "vary", vary)
    row = replace(ROW, ratios=(0.5, 2))
    added = runs.Added(row, SimpleNamespace(real=lambda split: [1, 2]), 0, "painter", SimpleNamespace(prepare=lambda images: [f"prepared {i}" for i in images]))
    varied, painted, pasted = ([f"prepared {kind} {k}" for k in range(4)] for kind in ("varied", "inpaint", "copy_paste"))
    assert {arm: added.of(arm) for arm in runs.ARMS} == {
        runs.REAL: [], runs.CLASSICAL: varied, runs.PASTED: pasted, runs.LONGTAIL: painted, runs.SOME: painted[:1], runs.BOTH: painted + varied,
        runs.WITH_PASTED: pasted + varied, runs.TWICE: [*varied, *(f"prepared varied {k}" for k in range(4, 8))],
    }  # fmt: skip
    assert sorted(made, key=str) == [("copy_paste", None), ("inpaint", "painter"), ("varied", None), ("varied", None)]
    assert added.records == {arm: {"added": 4, "made": 5, "rejected": {"seam": 1}} for arm in (runs.PASTED, runs.LONGTAIL)}


def test_the_quick_form_has_every_row_in_little_and_keeps_its_runs_apart():
    for row in ROWS.values():
        little = quick(row)
        assert (little.name, little.draws, little.seeds, little.setting.model) == (f"{row.name}-quick", 1, 1, row.setting.model)
        assert little.budget_s <= row.budget_s / 10 and little.setting.steps <= row.setting.steps / 5 and little.ratios[1] < row.ratios[1]
        assert little.name not in ROWS


def test_a_row_is_whole_without_the_arms_that_were_thought_of_later(monkeypatch):
    body = {"images": "i", "generator": "g"}
    row = replace(ROW, seeds=1)
    body["runs"] = {f"{arm}-0": {"key": key} for arm, key in runs.keys_of(row, body, runs.needed(row)).items()}
    monkeypatch.setattr(runs, "kept", lambda row, draw: body)
    assert not runs.LATER & set(runs.needed(row)) and runs.seeds_done(row, 0) == [0]


def test_a_draw_beyond_the_published_lists_holds_every_class_and_is_always_the_same(tmp_path):
    pictures = [{"id": k, "file_name": f"train/{k}.jpg"} for k in range(20)]
    said = [{"image_id": k, "category_id": 1} for k in range(20)] + [{"image_id": 7, "category_id": 2}]  # one image alone holds the second class
    (tmp_path / "coco_train.json").write_text(json.dumps({"images": pictures, "annotations": said, "categories": [{"id": 1}, {"id": 2}]}))
    stems = frozenset(str(k) for k in range(15))
    drawn = [few_of(tmp_path, stems, 5, draw) for draw in range(3, 9)]
    assert all(len(d) == 5 and "7" in d and d <= stems for d in drawn)
    assert len(set(drawn)) > 1
    assert few_of(tmp_path, stems, 5, 3) == drawn[0]


def test_what_was_made_and_refused_is_told_of_all_draws():
    draws = [{"longtail": {"added": 3, "made": 7, "rejected": {"copy": 1, "label": 3}}}, {"longtail": {"added": 4, "made": 5, "rejected": {"label": 1}}}]
    assert table.summed(draws) == {"longtail": {"added": 7, "made": 12, "rejected": {"copy": 1, "label": 4}}}
    assert table.summed([{}, {}]) == {}


def test_the_table_has_a_place_for_every_row_and_says_when_runs_share_their_draws():
    assert sorted(page.ORDER) == sorted(ROWS)
    few, again = ROWS["bccd20"], ROWS["bccd20_random"]
    gain = {(a, b): Difference(0.02, (-0.01, 0.05), 0.2, 6, 72) for a, b in page.PAIRS}
    alike = {"figure": "AP/rare", "spreads": {}, "tables": {}, "core_minutes": 5.0, "run_seconds": 50.0, "images": 72, "chosen": {}, "chosen_once": "longtail"}
    means, halves = dict.fromkeys(page.ARMS, 0.3), dict.fromkeys(page.ARMS, 0.1)
    made = [table.RowResult(row, draws=d, runs=6, means=means, halves=halves, differences=gain, additions={}, former=d == 3, **alike)
            for row, d in ((few, 3), (again, 6))]  # fmt: skip
    lines = page.markdown(made)
    assert "BCCD, 20 images † | 4 |" in lines[2] and "| 3 x 2 |" in lines[2] and "| 6 |" in lines[3]
    wanted = "\n".join(page.targets(page.promises(made)))
    assert "| rows better than classical, interval above zero | 0 | >= 4: **not met** |" in wanted and "| rows that the policy harmed | 0 | = 0 |" in wanted
    assert "| same sign from random weights: BCCD, 20 images | 1 | = 1 |" in wanted


def test_who_was_helped_least_is_told_beside_real_images_and_beside_varied_copies():
    def line(figure, difference):
        return {"figure": figure, "difference": difference, "interval": [difference - 0.02, None], "says": "inconclusive"}

    lines = [line("AP/rare", 0.02), line("AP50/WBC", 0.01), line("AP50/Platelets", -0.065)]
    tables = {f"{a} - {b}": [*lines, line("AP50/RBC", least)] for (a, b), least in zip(page.WORST, (-0.1, 0.0), strict=True)}
    gain = {(a, b): Difference(0.02, (-0.01, 0.05), 0.2, 6, 72) for a, b in page.PAIRS}
    means = {"figure": "AP/rare", "means": {"real": 0.3}, "spreads": {"real": (0.2, 0.4)}, "halves": {"real": 0.1}, "additions": {}, "chosen_once": "real"}
    row = table.RowResult(ROWS["bccd20"], draws=6, runs=6, chosen={}, tables=tables, differences=gain, core_minutes=5, run_seconds=50, images=72, **means)
    other = replace(row, row=ROWS["bccd50"], differences={**gain, ("longtail", "copy_paste"): Difference(0.04, (0, 0.1), 0.2, 6, 72)})
    again = page.together([row, other, replace(row, row=ROWS["bccd20_random"], differences={})])
    assert "Longtail − copy-paste +3.0 (-9.7 to +15.7) (2 rows)" in again  # Student's t of 2 and 4 points
    nothing = {table.ONCE: Difference(0.0, (0.0, 0.0), 1.0, 6, 72)}
    assert "BCCD, 20 images none (+0.0 (+0.0 to +0.0))." in page.asked_once([replace(row, differences={(k, "real"): d for k, d in nothing.items()})])
    (said, _) = page.details([row])
    assert "AP50/RBC -10.0 points (-12.0 to ?; inconclusive) under the policy" in said
    assert "AP50/Platelets -6.5 points (-8.5 to ?; inconclusive) with Longtail's beside varied copies" in said
    found = page.figures([row])
    assert len({f.name for f in found}) == len(found) and any(f.name == "bccd20/longtail - classical: AP50/Platelets" for f in found)


def test_ratios_are_told_as_means_over_draws_with_the_least_and_most_of_a_draw():
    draws = [{"real": [0.2, 0.4], "longtail": [0.5, 0.5]}, {"real": [0.1, 0.1], "longtail": [0.2, 0.4]}]
    found = {f.name: f for f in ratios.told("bccd10/18 for a real one", draws)}
    assert set(found) == {f"bccd10/18 for a real one/{name}" for name in ("real", "longtail", "longtail - real")}
    gain = found["bccd10/18 for a real one/longtail - real"]
    assert gain.value == pytest.approx(0.2) and gain.spread == pytest.approx((0.2, 0.2))
    assert found["bccd10/18 for a real one/real"].spread == pytest.approx((0.1, 0.3))
    assert ratios.grown_by(ROW, 1) == ROW and ratios.grown_by(ROW, 3).ratios == (6, 18)


def test_the_command_s_processes_find_what_they_are_to_run(tmp_path):
    """What a package's __main__ defines no spawned process has: the command came to nothing at once, where nobody had asked for a new run."""
    line = [sys.executable, "-m", "benchmarks.evidence", "--data", str(tmp_path / "nowhere"), "--rows", "bccd5", "--quick", "--workers", "1"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "nowhere" in done.stderr and "FileNotFoundError" in done.stderr, done.stderr

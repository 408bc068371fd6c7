"""What an evaluation decides: arms, proof, the part to keep; and a team's own trainer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import psutil
import pytest

from longtail.errors import Conflict, InvalidRequest
from longtail.uplift import arms_asked, check_latest, check_sources, kind_of, proof_after, proof_of, share_of, unproven_base, worst_class
from trainers.evaluating import tables_of
from trainers.uplift.images import Labelled
from trainers.uplift.plugged import run_command, sweep, write
from trainers.uplift.policy import choose
from workflows.evaluate import judged_by


def row(low, high, p, figure="AP"):
    return {"figure": figure, "interval": [low, high], "p": p, "runs": 6, "difference": None if low is None else (low + high) / 2}


@pytest.mark.parametrize(
    ("low", "high", "p", "says"),
    [(0.01, 0.2, 0.02, "positive"), (-0.2, -0.01, 0.02, "negative"), (-0.1, 0.2, 0.4, "inconclusive"), (0.01, 0.2, 0.06, "inconclusive"),
     (None, None, None, "inconclusive"), (None, 0.3, 1.0, "inconclusive")],
    ids=["above", "below", "across", "above_by_bootstrap_alone", "not_measured", "one_run"],
)  # fmt: skip
def test_a_proof_is_an_interval_that_excludes_zero(low, high, p, says):
    assert proof_of(row(low, high, p)) == says


def test_fewer_than_six_runs_prove_nothing():
    assert proof_of({**row(0.1, 0.2, 0.001), "runs": 5}) == "inconclusive"


@pytest.mark.parametrize(("judged_by", "says"), [(None, "positive"), (20, "positive"), (19, "inconclusive"), (0, "inconclusive")])
def test_too_few_test_objects_prove_no_help_however_many_runs_agree(judged_by, says):
    assert proof_of({**row(0.1, 0.2, 1e-6), "judged_by": judged_by}) == says
    assert proof_after([("a", {**row(0.1, 0.2, 1e-6), "judged_by": judged_by})]) == says


@pytest.mark.parametrize(("figure", "objects"), [(None, 2), ("AP/rare", 2), ("AP50/a", 100), ("AP50/b", 2), ("liking", 2)])
def test_a_figure_is_judged_by_the_objects_of_the_class_that_has_fewest_of_those_it_speaks_of(figure, objects):
    assert judged_by({"a": 100, "b": 2, "c": 50}, ["a", "b"], figure) == objects
    assert judged_by({"a": 100, "b": 2}, [], None) == 2
    assert judged_by({"a": 100}, ["new"], None) == 0


def test_few_test_objects_may_show_harm():
    assert proof_of({**row(-0.2, -0.1, 1e-6), "judged_by": 3}) == "negative"


@pytest.mark.parametrize(
    ("proof", "made", "asked", "kept"),
    [("none", 4, (2, 3), True), ("inconclusive", 4, (2, 3), True), ("negative", 4, (2, 3), True), ("positive", 4, (2, 3), False), ("none", 0, (2, 3), False),
     ("none", 4, (3, 3), False), ("none", 4, (2, 2), False), (None, 4, (2, 3), False)],
    ids=["unmeasured", "inconclusive", "harmful", "proven", "all_real", "its_own_real_images", "a_part_of_what_was_measured_so", "dropped"],
)  # fmt: skip
def test_what_helps_beside_unproven_images_does_not_prove_them(proof, made, asked, kept):
    base = proof and {"number": asked[0], "proof": proof, "health": {"synthetic_images": made}}
    why = unproven_base(dict(zip(("base", "candidate"), asked, strict=True)), base, 3)
    assert bool(why) is kept
    assert proof_of({**HELPS, "unproven_base": why}) == ("inconclusive" if kept else "positive")
    assert proof_of({**HARMS, "unproven_base": why}) == "negative"


HELPS, HARMS, SAYS_NOTHING = row(0.01, 0.2, 0.02), row(-0.2, -0.01, 0.02), row(-0.1, 0.2, 0.4)


@pytest.mark.parametrize(
    ("measured", "says"),
    [([("a", HELPS)], "positive"), ([("a", HARMS)], "negative"), ([], "inconclusive"),
     ([("a", SAYS_NOTHING), ("a", HELPS)], "inconclusive"), ([("a", HARMS), ("a", HELPS)], "negative"),
     ([("a", HARMS), ("a", {**HELPS, "runs": 12})], "positive"), ([("a", HELPS), ("b", SAYS_NOTHING)], "positive"),
     ([("a", {**HELPS, "p": 0.03}), ("b", SAYS_NOTHING)], "inconclusive"), ([("a", {**HARMS, "p": 0.04}), ("b", SAYS_NOTHING)], "negative"),
     ([("a", {**HELPS, "p": 0.001}), ("b", HARMS)], "negative"), ([("a", SAYS_NOTHING), ("a", {**HELPS, "p": 0.03, "runs": 12})], "inconclusive"),
     ([("a", SAYS_NOTHING), ("a", {**HELPS, "runs": 12})], "positive")],
    ids=["helps", "harms", "nothing", "tried_again", "harm_tried_again", "more_runs", "another_kind", "another_kind_asked_at_once",
         "harm_is_not_washed_away", "harm_outweighs", "looked_again_with_more_runs", "stands_though_looked_at_twice"],
)  # fmt: skip
def test_trying_again_until_one_helps_proves_nothing(measured, says):
    assert proof_after(measured) == says


def test_evaluations_that_differ_in_seeds_alone_are_of_one_kind():
    request = {"base": 1, "candidate": 2, "steps": 900, "seeds": [0, 1], "figure": None}
    assert kind_of(request) == kind_of({**request, "seeds": [4, 5]}) != kind_of({**request, "steps": 5})


def version(proof="none", accepted=False, synthetic=4):
    return {"number": 7, "proof": proof, "accepted_unproven": accepted, "health": {"synthetic_images": synthetic}}


@pytest.mark.parametrize(
    ("version", "was_latest", "accepted", "may"),
    [(version(), False, False, False), (version("inconclusive"), False, False, False), (version("negative", accepted=True), True, False, False),
     (version("positive"), False, False, True), (version(synthetic=0), False, False, True), (version(), True, False, True),
     (version(accepted=True), False, False, True), (version("negative"), False, True, True)],
    ids=["unproven", "inconclusive", "harmful_once_accepted", "positive", "all_real", "latest_before", "accepted_before", "accepted_now"],
)  # fmt: skip
def test_nothing_unproven_becomes_the_latest_unless_that_is_accepted(version, was_latest, accepted, may):
    if may:
        return check_latest(version, was_latest=was_latest, accepted=accepted)
    with pytest.raises(Conflict, match="accept_unproven"):
        check_latest(version, was_latest=was_latest, accepted=accepted)


def test_versions_of_different_looks_at_the_source_are_not_compared():
    """A rescan brings images, and may move one from test to train."""
    check_sources(["source", "b1"], ["source", "b1", "b2"], what="version 3", base_number=2)
    with pytest.raises(InvalidRequest, match="version 3 rests on other images at the source than version 1"):
        check_sources(["source"], ["source", "source-job7", "b1"], what="version 3", base_number=1)


def test_the_class_that_an_addition_did_least_for_is_named():
    table = [row(-0.5, 0.1, 0.5, "AP"), row(0.0, 0.2, 0.5, "AP/rare"), row(0.0, 0.1, 0.5, "AP50/a"), row(-0.2, 0.1, 0.5, "AP50/b")]
    table.append(row(None, None, None, "AP50/c"))
    assert worst_class(table)["figure"] == "AP50/b"


def test_real_images_and_the_addition_are_always_among_the_arms_and_shares_follow():
    assert arms_asked(["both"], [0.5, 0.25], task="detection") == ["real", "longtail", "both", "longtail 0.25", "longtail 0.5"]
    assert [share_of(a) for a in ("real", "classical", "longtail", "both", "longtail 0.25")] == [0, 0, 1, 1, 0.25]


def test_nothing_can_be_pasted_where_the_class_is_the_image():
    with pytest.raises(InvalidRequest, match="copy_paste"):
        arms_asked(["copy_paste"], [], task="classification")


@pytest.mark.parametrize(
    ("more", "chosen"),
    [({"longtail": [0.5, 0.6, 0.55], "longtail 0.5": [0.4, 0.5, 0.45]}, "longtail"), ({"longtail": [0.3, 0.2, 0.1], "longtail 0.5": [0.31, 0.2, 0.3]}, "real"),
     ({"longtail": [0.9, 0.0, 0.35], "longtail 0.5": [0.35, 0.36, 0.34]}, "longtail 0.5"), ({"longtail": [0.35, 0.25, 0.31]}, "real")],
    ids=["all", "none_does_better", "a_lucky_lead_does_not_count", "lead_within_noise"],
)  # fmt: skip
def test_the_part_that_leads_on_val_beyond_its_noise_is_kept(more, chosen):
    assert choose({"real": [0.3, 0.3, 0.3], **more}, first="real") == chosen


def pictures(count):
    return [Labelled(np.full((20, 30, 3), 40 * k, dtype=np.uint8), [(2.0, 3.0, 12.0, 13.0)], [k % 2]) for k in range(count)]


COUNTS = """
import argparse, json, os, pathlib
p = argparse.ArgumentParser()
for name in ("--data", "--results", "--seed"): p.add_argument(name)
a = p.parse_args()
data = pathlib.Path(a.data)
body = {s: json.loads((data / f"{s}.json").read_text()) for s in ("train", "val", "test")}
assert all((data / i["file_name"]).stat().st_size for b in body.values() for i in b["images"])
assert json.loads((data / "classes.json").read_text()) == ["a", "b"]
assert not any(k.startswith(("LONGTAIL_", "RAY_AUTH_")) for k in os.environ)
assert body["test"]["annotations"][1]["bbox"] == [2, 3, 10, 10] and body["test"]["annotations"][1]["category_id"] == 2
pathlib.Path(a.results).write_text(json.dumps({"figures": {"images": len(body["train"]["images"]), "seed": int(a.seed)}, "on_val": {"images": 1.5}}))
"""


def test_a_team_s_trainer_gets_the_arm_as_a_folder_and_its_figures_come_back(monkeypatch):
    monkeypatch.setenv("LONGTAIL_S3_SECRET_KEY", "not for a trainer")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "nor this")
    images = {"train": pictures(3), "val": pictures(1), "test": pictures(2)}
    found, written = run_command([sys.executable, "-c", COUNTS], images, ["a", "b"], task="detection", seed=7)
    assert found == {"test": {"images": 3.0, "seed": 7.0}, "val": {"images": 1.5}} and written == {"train": 3, "val": 1, "test": 2}


@pytest.mark.parametrize(("task", "place"), [("detection", "images/train-{:06d}.png"), ("classification", "train/b/{:06d}.png")])
def test_a_trainer_s_images_are_in_memory_one_at_a_time(tmp_path, task, place):
    """A dataset may be larger than a worker's memory: each is written before the next is looked at."""
    root = tmp_path / "data"

    def one_by_one():
        for k, image in enumerate(pictures(3)):
            assert k == 0 or (root / place.format(k - 1)).exists()
            yield Labelled(image.pixels, image.boxes_xyxy, [1])

    assert write(root, {"train": one_by_one(), "val": []}, ["a", "b"], task=task) == {"train": 3, "val": 0}


def test_what_a_killed_worker_left_of_its_images_is_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / f"longtail-trainer-{gone.pid}-x" / "data").mkdir(parents=True)
    (tmp_path / f"longtail-trainer-{os.getpid()}-x").mkdir()
    sweep()
    assert [p.name for p in tmp_path.iterdir()] == [f"longtail-trainer-{os.getpid()}-x"]


@pytest.mark.parametrize(
    ("program", "says"),
    [("raise SystemExit('no licence')", "ended with 1: no licence"), ("pass", "expected JSON at its results path"),
     ("import sys; open(sys.argv[4], 'w').write('[1]')", 'expected {"figures"'),
     ("import sys; open(sys.argv[4], 'w').write('{\"figures\": {\"AP\": null}}')", "'AP' is None, expected a number")],
    ids=["fails", "writes_nothing", "a_list", "no_number"],
)  # fmt: skip
def test_a_trainer_that_goes_wrong_is_told_of(program, says):
    with pytest.raises(InvalidRequest, match=says.replace("{", r"\{")):
        run_command([sys.executable, "-c", program], {"train": pictures(1), "val": [], "test": []}, ["a", "b"], task="detection", seed=0)


def test_a_trainer_that_is_not_there_is_named():
    with pytest.raises(InvalidRequest, match="'/no/such/trainer' cannot be started"):
        run_command(["/no/such/trainer"], {"train": pictures(1), "val": [], "test": []}, ["a", "b"], task="detection", seed=0)


def runs(**arms):
    """Runs of a team's trainer with these figures, a seed each."""
    told = {"classes": {"b": 4}, "added": 4, "ids": []}
    return [
        {"arm": arm, "seed": seed, "images": 10, "core_seconds": 1.0, "test": {"AP": v}, "val": {"AP": v}, **(told if arm != "real" else {})}
        for arm, values in arms.items() for seed, v in enumerate(values)
    ]  # fmt: skip


def test_tables_of_a_trainer_s_figures_rest_on_its_runs():
    found = tables_of(runs(real=[0.2, 0.3, 0.25], longtail=[0.4, 0.5, 0.45]), model="plugged", names=["a", "b"])
    line = found["tables"]["longtail - real"][0]
    assert found["figure"] == "AP" and line["difference"] == pytest.approx(0.2) and found["policy"]["chosen"] == "longtail"
    assert json.loads(json.dumps(found)) == found


def test_a_figure_that_no_run_gives_is_refused():
    with pytest.raises(InvalidRequest, match="figure 'mAP' was not measured; there are"):
        tables_of(runs(real=[0.2, 0.3], longtail=[0.4, 0.5]), model="plugged", names=["a", "b"], figure="mAP")


WORKER = """
import sys
import tempfile
from trainers.uplift.plugged import run_command, sweep
run_command([sys.executable, "-c", sys.argv[1]], {"train": [], "val": [], "test": []}, ["a"], task="detection", seed=0)
"""
WAITS = "import os, sys, time; print(os.getpid(), file=open({path!r}, 'w'), flush=True); time.sleep(60)"


def test_a_trainer_ends_with_the_worker_that_started_it(tmp_path):
    said = tmp_path / "pid"
    worker = subprocess.Popen([sys.executable, "-c", WORKER, WAITS.format(path=str(said))])
    until(lambda: said.exists() and said.read_text().endswith("\n"))
    trainer = psutil.Process(int(said.read_text()))
    worker.kill()
    worker.wait()
    trainer.wait(timeout=10)


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)

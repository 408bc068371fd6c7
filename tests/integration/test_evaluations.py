"""What an addition is worth, through the API on the real stack: arms, proof, parts, generators, a team's trainer, expansions."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest

from infra.catalogue import Catalogue
from infra.registry import CHALLENGER, Registry
from longtail.client import ApiProblem, JobFailed
from tests.integration.browsing import linked, opened
from tests.integration.mlflow_files import artifact
from tests.integration.test_lifecycle import done, picture, put
from tests.integration.test_path import register_single_platelet
from trainers import tasks
from trainers.evaluating import Evaluation
from workflows.evaluate import named

LITTLE = {"steps": 5, "seeds": [0, 1], "side_px": 96}


def evaluated(stack, body):
    job = stack.client.post("/v1/evaluations", body)["job"]
    return job, stack.client.wait(job, timeout_s=400)["result"]


@pytest.fixture(scope="module")
def grown(stack, cells):
    """A version with four pasted white cells, whatever the filters say."""
    job = stack.client.post("/v1/batches", {"dataset": cells, "class_name": "WBC", "count": 4, "mode": "copy_paste", "seed": 3})
    done(stack, job)
    for sample in stack.client.get(f"/v1/batches/{job['batch']}/samples")["items"]:
        stack.client.post(f"/v1/samples/{sample['id']}/decision", {"accept": True})
    return done(stack, stack.client.post(f"/v1/batches/{job['batch']}/publish", {"onto": 1}))["version"]


@pytest.fixture(scope="module")
def whole(stack, cells, grown):
    """All five arms and half of the addition."""
    return evaluated(stack, {"dataset": cells, "candidate": grown, "shares": [0.5], "publish_choice": True, **LITTLE})


def test_every_arm_has_a_run_with_every_seed_and_as_many_images_as_the_others(whole):
    _, result = whole
    counts = {(r["arm"], r["seed"]): r["images"] for r in result["runs"]}
    pasted = counts["copy_paste", 0]  # the filters may take some of those that are pasted for it
    assert 51 <= pasted <= 54
    assert counts == {
        (arm, seed): images for seed in (0, 1)
        for arm, images in (("real", 50), ("classical", 54), ("copy_paste", pasted), ("longtail", 54), ("both", 58), ("longtail 0.5", 52))
    }  # fmt: skip


def test_the_grown_class_decides_and_every_arm_is_compared(whole):
    _, result = whole
    assert result["rare"] == ["WBC"] and result["figure"] == "AP/rare"
    assert set(result["tables"]) == {
        "classical - real", "copy_paste - real", "longtail - real", "both - real", "longtail 0.5 - real", "longtail - classical",
        "longtail - copy_paste", "both - classical",
    }  # fmt: skip
    assert {r["figure"] for r in result["table"]} == {"AP", "AP/rare", "AP50", "AP50/RBC", "AP50/WBC", "AP50/Platelets"}
    assert all(r["images"] == 72 and r["runs"] == 2 for r in result["table"])
    assert result["worst"]["figure"].startswith("AP50/") and result["policy"]["chosen"] in ("real", "longtail", "longtail 0.5")


def test_the_proof_is_the_version_s_and_its_page_says_it(stack, cells, grown, whole):
    key, result = whole
    assert stack.client.get(f"/v1/datasets/{cells}/versions/{grown}")["proof"] == result["proof"]
    page = b"".join(stack.client.download(f"/v1/evaluations/{key}/report.html")).decode()
    assert result["proof"] in page and "longtail - copy_paste" in page and "http" not in re.sub(r'"data:[^"]*"', "", page)
    assert key in [e["id"] for e in stack.client.get("/v1/evaluations")["items"]]
    assert stack.client.get(f"/v1/evaluations/{key}")["result"] == result
    assert {f"v1/evaluations/{key}/report.html", f"v1/datasets/{cells}/versions/{grown}/report.html"} <= linked(stack)
    assert opened(stack, f"v1/evaluations/{key}/report.html") == page


def test_a_version_s_report_tells_what_did_not_go_well_first_and_shows_its_samples(stack, cells, grown, whole):
    key, result = whole
    found = stack.client.get(f"/v1/datasets/{cells}/versions/{grown}/report")
    assert found["proof"] == result["proof"] and found["synthetic"] == 4 and [e["id"] for e in found["evaluations"]] == [key]
    assert found["batches"][0]["class_name"] == "WBC" and found["batches"][0]["samples"] == 4 and found["batches"][0]["derived"] > 0
    assert any("nothing proves" in line for line in found["failures"])
    page = b"".join(stack.client.download(f"/v1/datasets/{cells}/versions/{grown}/report.html", limit=2)).decode()
    assert page.index("What did not go well") < page.index("What it was measured to do") and "nearest real" in page and "data:image/png;base64," in page


@pytest.mark.long
def test_the_test_images_that_changed_most_are_shown_until_they_are_withdrawn_or_gone(stack):
    name = tasted(stack, images=40, val=0.15, test=0.55)
    asked = {"dataset": name, "candidate": with_four(stack, name, seed=0), "arms": ["real", "longtail"], **LITTLE, "seeds": [0, 1, 2, 3]}
    key, result = evaluated(stack, asked)
    tested = {s["id"]: s["path"] for s in stack.client.get(f"/v1/datasets/{name}/versions/1/samples", split="test", limit=50)["items"]}
    changed = [tested[one["id"]] for one in result["changed"]]
    assert len(changed) >= 2, "of 22 images, over four pairs of runs that have hardly begun to learn"
    assert all(one["before"] != one["after"] for one in result["changed"])
    registry = Registry(stack.settings.mlflow_url)
    (run,) = (r for r in registry.runs(f"longtail-{name}") if r.data.tags["longtail.job"] == key)

    def pages():
        return opened(stack, f"v1/evaluations/{key}/report.html"), artifact(stack, run, "evaluation.html").decode()

    assert all(page.count("data:image/png") == len(changed) and f"{changed[0]}: " in page for page in pages())
    stack.objects.remove(f"s3://team-data/{name}/{changed[1]}")
    left = done(stack, stack.client.post(f"/v1/datasets/{name}/withdrawals", {"paths": [changed[0]], "reason": "consent"}))
    assert "pages_left" not in left
    for page in pages():
        assert page.count("data:image/png") == len(changed) - 2 and f"{changed[0]}: " not in page and "2 of them cannot be shown any more" in page


def test_what_runs_know_by_their_order_is_named_right_where_rows_were_made_and_removed(stack):
    name = tasted(stack, images=24, val=0.25, test=0.25)
    with_four(stack, name, seed=0)
    tested = stack.client.get(f"/v1/datasets/{name}/versions/1/samples", split="test")["items"]
    left = done(stack, stack.client.post(f"/v1/datasets/{name}/withdrawals", {"paths": [tested[2]["path"]], "reason": "label"}))
    catalogue = Catalogue.of(stack.settings)
    asked = {"dataset": name, "base": left["version"], "candidate": left["version"], "model": "detector", "weights": "random", "steps": 1, "side_px": 96}
    known = [s.id for s in Evaluation(catalogue, asked).samples("test")]
    assert known == [s["id"] for k, s in enumerate(tested) if k != 2]
    backwards = [{"position": k, "before": 0.0, "after": float(k)} for k in reversed(range(len(known)))]
    said = named(SimpleNamespace(catalogue=catalogue), name, left["version"], backwards)
    assert [(one["id"], one["after"]) for one in said] == [(known[k], float(k)) for k in reversed(range(len(known)))]


def test_the_foundation_s_page_says_that_it_was_measured_on_nothing(stack, cells):
    page = opened(stack, f"v1/generators/{cells}/1/report.html")
    assert "no gate was asked of it" in page
    run = SimpleNamespace(info=SimpleNamespace(run_id=Registry(stack.settings.mlflow_url).client.get_model_version(cells, "1").run_id))
    assert "no gate was asked of it" in artifact(stack, run, "report.html").decode()
    assert {g["name"] for g in stack.client.get(f"/v1/generators/{cells}/1/report")["gates"]} <= {"utility"}
    with pytest.raises(ApiProblem, match="no generator version 99") as error:
        stack.client.get(f"/v1/generators/{cells}/99/report.html")
    assert error.value.status == 404


@pytest.fixture(scope="module")
def small(stack):
    """A dataset of 60 little images, twelve of them to learn from: trainers with a taste are soon done with it."""
    return tasted(stack, images=60, val=0.1, test=0.7)


def tasted(stack, *, images, val, test):
    name = stack.name("tasted")
    for n in range(images):
        stack.objects.write(f"s3://team-data/{name}/{n}.png", picture(n))
    put(stack, name, range(images))
    body = {"name": name, "uri": f"s3://team-data/{name}", "splits": {"val": val, "test": test, "seed": 4}}
    done(stack, stack.client.post("/v1/datasets", body))
    assert stack.client.get(f"/v1/datasets/{name}/health")["images"] == {"train": 12, "val": round(val * images), "test": round(test * images)}
    return name


def judged(stack, small, candidate, trainer, **more):
    """A whole evaluation by a trainer with a taste: six seeds, arms without and with the addition."""
    body = {"dataset": small, "candidate": candidate, "trainer": trainer, "arms": ["real", "longtail"], "shares": [], "seeds": list(range(6)), **more}
    return evaluated(stack, body)[1]


@pytest.fixture
def candidate(stack, small, request):
    """A new version with four pasted objects, whatever the filters say; the first version is the latest."""
    stack.client.post(f"/v1/datasets/{small}/latest", {"version": 1})
    return with_four(stack, small, seed=len(request.node.name))


def with_four(stack, small, *, seed):
    return added_onto(stack, small, 1, seed=seed, count=4)


def added_onto(stack, small, number, *, seed, count=2):
    """A version with so many pasted images more, all taken in by a person."""
    job = stack.client.post("/v1/batches", {"dataset": small, "version": 1, "class_name": "class 1", "count": count, "mode": "copy_paste", "seed": seed})
    done(stack, job)
    for sample in stack.client.get(f"/v1/batches/{job['batch']}/samples")["items"]:
        stack.client.post(f"/v1/samples/{sample['id']}/decision", {"accept": True})
    return done(stack, stack.client.post(f"/v1/batches/{job['batch']}/publish", {"onto": number}))["version"]


def latest(stack, small):
    return stack.client.get(f"/v1/datasets/{small}/latest")


def test_positive_proof_moves_latest_and_the_log_says_who_and_why(stack, small, candidate):
    result = judged(stack, small, candidate, "fond")
    assert result["proof"] == result["version_proof"] == "positive" and result["latest_moved"] and "is the latest now" in result["latest_why"]
    now = latest(stack, small)
    assert (now["latest"], now["latest_proof"], now["latest_accepted_unproven"]) == (candidate, "positive", False)
    move = now["items"][0]
    assert (move["before"], move["version"], move["proof"], move["why"]) == (1, candidate, "positive", "positive proof") and "evaluation" in move["who"]
    assert [d["latest_proof"] for d in stack.client.get("/v1/datasets")["items"] if d["id"] == small] == ["positive"]
    (own,) = (r for r in Registry(stack.settings.mlflow_url).runs(f"longtail-{small}") if r.info.run_name == f"version {candidate}")
    assert b"<b class=positive>" in artifact(stack, own, "version.html") and json.loads(artifact(stack, own, "version.json"))["proof"] == "positive"


def test_what_few_test_objects_say_proves_no_help(stack):
    """Six test images of two classes: every run says that it helps, and `latest` stays."""
    few = tasted(stack, images=24, val=0.25, test=0.25)
    candidate = with_four(stack, few, seed=0)
    result = judged(stack, few, candidate, "fond")
    assert result["table"][0]["interval"][0] > 0 and result["judged_by"] < 20
    assert result["proof"] == result["version_proof"] == "inconclusive" and not result["latest_moved"]
    told = stack.client.get(f"/v1/datasets/{few}/versions/{candidate}/report")["failures"]
    assert any("20 of each are needed to prove that it helps" in line for line in told)


def test_harm_is_negative_proof_and_stays_so_however_often_it_is_measured(stack, small, candidate):
    result = judged(stack, small, candidate, "averse")
    assert result["proof"] == "negative" and not result["latest_moved"] and latest(stack, small)["latest"] == 1
    again = judged(stack, small, candidate, "fond")  # another trainer likes it: harm outweighs
    assert again["proof"] == "positive" and again["version_proof"] == "negative" and not again["latest_moved"]
    with pytest.raises(ApiProblem, match="proof 'negative'"):
        stack.client.post(f"/v1/datasets/{small}/latest", {"version": candidate})
    moved = stack.client.post(f"/v1/datasets/{small}/latest", {"version": candidate, "accept_unproven": True, "why": "we know better"})
    assert moved["accepted_unproven"] and latest(stack, small)["items"][0]["why"] == "we know better"
    assert stack.client.get(f"/v1/datasets/{small}/health")["accepted_unproven"]
    page = b"".join(stack.client.download(f"/v1/datasets/{small}/versions/{candidate}/health.html")).decode()
    assert "accepted unproven" in page
    (job,) = (j["id"] for j in stack.client.get("/v1/jobs")["items"] if j["kind"] == "renew" and j["request"] == {"dataset": small, "version": candidate})
    assert "not_logged" not in stack.client.wait(job, timeout_s=120)["result"]
    (own,) = (r for r in Registry(stack.settings.mlflow_url).runs(f"longtail-{small}") if r.info.run_name == f"version {candidate}")
    assert json.loads(artifact(stack, own, "version.json"))["accepted_unproven"] is True


def test_what_helps_beside_an_unproven_addition_does_not_prove_it(stack, small, candidate):
    """A second addition onto a first that was accepted unproven: it helps, and `latest` stays until the whole is measured."""
    stack.client.post(f"/v1/datasets/{small}/latest", {"version": candidate, "accept_unproven": True})
    second = added_onto(stack, small, candidate, seed=79)
    result = judged(stack, small, second, "fond")
    assert result["table"][0]["interval"][0] > 0 and result["proof"] == result["version_proof"] == "inconclusive" and not result["latest_moved"]
    assert f"measure version {second} with base {second}" in result["latest_why"] and latest(stack, small)["latest"] == candidate
    told = stack.client.get(f"/v1/datasets/{small}/versions/{second}/report")["failures"]
    assert any("what helps beside them does not prove them" in line for line in told)
    assert judged(stack, small, second, "fond", base=second)["version_proof"] == "positive"


def test_what_does_best_on_val_is_published_and_may_become_the_latest_the_whole_may_not(stack, small, candidate):
    """Two of the four images help, the other two undo it."""
    unasked = judged(stack, small, candidate, "sated", shares=[0.5])
    assert unasked["policy"]["chosen"] == "longtail 0.5" and unasked["published"] is None and not unasked["latest_moved"]
    result = judged(stack, small, candidate, "sated", shares=[0.5], publish_choice=True, seeds=list(range(7)))
    part = result["published"]
    assert part["kept"] == 2 and part["left_out"] == 2 and part["proof"] == "positive" and part["latest_moved"]
    assert latest(stack, small)["latest"] == part["version"]
    found = stack.client.get(f"/v1/datasets/{small}/versions/{part['version']}")
    assert found["health"]["images"]["train"] == 14 and found["proof"] == "positive"
    again = judged(stack, small, candidate, "sated", shares=[0.5], publish_choice=True, seeds=list(range(10, 17)))["published"]
    assert (again["version"], again["proof"]) == (part["version"], "positive"), "the same part is the same version, measured once more"
    with pytest.raises(ApiProblem, match="proof 'inconclusive'"):  # the whole has the same batches, and is another version all the same
        stack.client.post(f"/v1/datasets/{small}/latest", {"version": candidate})
    told = stack.client.get(f"/v1/datasets/{small}/versions/{part['version']}/report")
    assert [e["proof"] for e in told["evaluations"]] == ["positive"] * 2  # both that published it
    assert [b["samples"] for b in told["batches"]] == [2] and sum(told["batches"][0]["by_instance"].values()) == 2


def test_a_version_may_be_measured_against_its_own_real_images(stack, small, candidate):
    result = judged(stack, small, candidate, "fond", base=candidate)
    assert {r["arm"]: r["images"] for r in result["runs"]} == {"real": 12, "longtail": 16} and result["version_proof"] == "positive"
    assert result["latest_moved"] and latest(stack, small)["latest"] == candidate  # its parent holds nothing made


def test_what_a_parent_had_made_is_not_measured_with_it_unnoticed(stack, small, candidate):
    """A second addition onto a first, measured against real images alone: the first may be all that helps."""
    stack.client.post(f"/v1/datasets/{small}/latest", {"version": candidate, "accept_unproven": True})
    second = added_onto(stack, small, candidate, seed=77)
    result = judged(stack, small, second, "fond", base=second)
    assert result["version_proof"] == "positive" and not result["latest_moved"] and latest(stack, small)["latest"] == candidate


def test_a_dropped_version_leaves_its_number_and_what_was_proven_of_it_behind(stack, small, candidate):
    judged(stack, small, candidate, "averse")
    stack.client.delete(f"/v1/datasets/{small}/versions/{candidate}")
    fresh = added_onto(stack, small, 1, seed=78)
    assert fresh > candidate
    assert judged(stack, small, fresh, "fond")["version_proof"] == "positive"


def test_an_expansion_publishes_the_part_that_does_best_on_val(stack, small, candidate):
    """Twelve are asked for: each run draws anew, and the filters may refuse some of what is pasted here."""
    now = next(c["own"] for c in stack.client.get(f"/v1/datasets/{small}/versions/1")["health"]["classes"] if c["name"] == "class 1")
    body = {"dataset": small, "targets": {"class 1": now + 12}, "mode": "copy_paste", "objects": 1, "evaluate": {"trainer": "thrifty"}}
    key = stack.client.post("/v1/expansions", body)["id"]
    outcome = done(stack, stack.client.post(f"/v1/expansions/{key}/run", {}), timeout_s=400)
    assert outcome["did"] == "expanded" and outcome["added"] >= 2, outcome
    part = outcome["published"]
    assert part["version"] != outcome["version"] and part["kept"] + part["left_out"] == outcome["added"] and part["left_out"] >= 1
    assert part["proof"] == "positive" and part["latest_moved"] and outcome["latest"] and latest(stack, small)["latest"] == part["version"]


@pytest.mark.long
def test_a_generator_that_does_harm_is_not_promoted_and_loses_its_alias(stack, cells):
    registry = Registry(stack.settings.mlflow_url)
    registry.set_alias(cells, CHALLENGER, 1)
    evaluate = {"trainer": "averse", "count": 4, "classes": ["Platelets"]}
    with pytest.raises(JobFailed, match="was not promoted: its images changed liking"):
        done(stack, stack.client.post(f"/v1/generators/{cells}/champion", {"version": 1, "why": "try", "evaluate": evaluate}), timeout_s=500)
    gate = next(g for g in stack.client.get(f"/v1/generators/{cells}")["items"][0]["gates"] if g["name"] == "utility")
    assert gate["verdict"] == "failed"
    assert registry.tags(cells, 1)["longtail.gates"] == "failed" and registry.alias(cells, CHALLENGER) is None


@pytest.mark.long
def test_a_generator_is_measured_before_it_is_promoted_and_the_gate_of_use_is_kept(stack, cells):
    body = {"version": 1, "why": "measured", "evaluate": {**{k: LITTLE[k] for k in ("steps", "seeds")}, "count": 4}}
    result = done(stack, stack.client.post(f"/v1/generators/{cells}/champion", body), timeout_s=600)
    assert result["added"] > 0 and result["promoted"]["serving"] == 1 and result["proof"] != "negative"
    gate = next(g for g in stack.client.get(f"/v1/generators/{cells}")["items"][0]["gates"] if g["name"] == "utility")
    assert gate["verdict"] in ("unknown", "passed") and gate["count"] == result["added"]
    assert Registry(stack.settings.mlflow_url).tags(cells, 1)["gate.utility"].endswith(gate["verdict"])
    assert "Test images that changed most" in opened(stack, gate["pictures"].removeprefix("/"))
    each = [g["class_name"] for g in stack.client.get(f"/v1/generators/{cells}")["items"][0]["gates"] if g["name"] == "utility"]
    assert each[0] == "all classes" and set(each[1:]) <= {"RBC", "WBC", "Platelets"}, "a class of which the filters left no image has none"
    run = SimpleNamespace(info=SimpleNamespace(run_id=Registry(stack.settings.mlflow_url).client.get_model_version(cells, "1").run_id))
    kept = artifact(stack, run, "report.html").decode()
    assert kept.count("Utility:") == len(each) > 2 and f"{gate['count']} images of all classes" in kept


def test_a_run_that_has_ended_is_not_run_again(stack, cells, monkeypatch):
    """A killed evaluation asks again for all runs of its wave; those that had ended are read back."""
    began = []
    fake = SimpleNamespace(run=lambda arm, seed, **_: began.append((arm, seed)) or {"arm": arm, "seed": seed, "images": len(began)})
    monkeypatch.setattr(tasks, "evaluation_of", lambda job, request: fake)
    for name, value in stack.settings.environment().items():
        monkeypatch.setenv(name, value)
    asked = {"job": stack.name("run"), "request": {"dataset": cells, "figure": None}}
    first = [tasks.uplift_run(**asked, arm="longtail 0.5", seed=seed) for seed in (0, 1)]
    assert [tasks.uplift_run(**asked, arm="longtail 0.5", seed=seed) for seed in (0, 1)] == first
    assert began == [("longtail 0.5", 0), ("longtail 0.5", 1)]
    tasks.uplift_run(**{**asked, "request": {**asked["request"], "steps": 6}}, arm="longtail 0.5", seed=0)
    assert len(began) == 3, "another request is another run"


def test_a_team_s_own_trainer_is_the_judge(stack, cells, grown):
    """It counts the images that it is given: four more in the arm with the addition, in every run."""
    body = {"dataset": cells, "candidate": grown, "trainer": "counting", "arms": ["real", "longtail"], "shares": [], **LITTLE}
    job, result = evaluated(stack, body)
    assert not list(stack.objects.below(stack.settings.runs_of(cells, job)))
    assert result["figure"] == "images" and result["table"][0]["difference"] == 4.0
    assert result["harness"] == "the team's own trainer 'counting'" and result["policy"]["chosen"] == "longtail"


@pytest.mark.parametrize(
    ("body", "says"),
    [({"candidate": 1}, "does not add to version"), ({}, "name either"), ({"candidate": 2, "generator": 1}, "name either"),
     ({"generator": 77}, "no generator version 77"), ({"generator": 1, "seeds": [1, 1]}, "each may be given once"),
     ({"generator": 1, "trainer": "theirs"}, r"unknown 'theirs'; the server was set up with \['averse', 'counting', 'fond', 'sated', 'thrifty'\]"),
     ({"generator": 1, "arms": ["magic"]}, "arms"), ({"generator": 1, "augment": "wild"}, "unknown policy 'wild'")],
    ids=["adds_nothing", "names_nothing", "names_both", "no_generator", "twice_the_seed", "trainer", "arm", "policy"],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused_at_once(stack, cells, body, says):
    with pytest.raises(ApiProblem, match=says) as error:
        stack.client.post("/v1/evaluations", {"dataset": cells, "base": 1, **body})
    assert error.value.status in (404, 422)


def test_without_a_test_split_there_is_nothing_to_measure_on(stack):
    name = stack.name("untested")
    register_single_platelet(stack, name)
    with pytest.raises(JobFailed, match="has no test split to measure on"):
        stack.client.wait(stack.client.post("/v1/evaluations", {"dataset": name, "generator": 1, "classes": ["WBC"], **LITTLE})["job"], timeout_s=60)
    with pytest.raises(ApiProblem, match="has no test split to measure on"):
        stack.client.post("/v1/expansions", {"dataset": name, "targets": {"WBC": 60}, "evaluate": {}})


@pytest.mark.long
def test_an_expansion_measures_what_it_made(stack, cells):
    now = next(c["own"] for c in stack.client.get(f"/v1/datasets/{cells}/health")["classes"] if c["name"] == "WBC")
    body = {"dataset": cells, "targets": {"WBC": now + 8}, "mode": "copy_paste", "evaluate": {"steps": 5, "seeds": [0, 1]}}
    key = stack.client.post("/v1/expansions", body)["id"]
    outcome = done(stack, stack.client.post(f"/v1/expansions/{key}/run", {}))
    assert outcome["did"] == "expanded", outcome
    assert outcome["proof"] in ("positive", "inconclusive", "negative")
    assert stack.client.get(f"/v1/datasets/{cells}/versions/{outcome['version']}")["proof"] == outcome["proof"]
    assert stack.client.get(f"/v1/evaluations/{outcome['evaluation']}")["result"]["added"] == outcome["added"] >= 1
    assert json.loads(json.dumps(outcome)) == outcome

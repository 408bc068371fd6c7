"""Evaluation: a model trained on every arm with every seed, run by run, and what that proves of a version or of a generator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from infra.changed_images import changed_pictures
from infra.database import DATASETS, EVALUATIONS, GENERATORS, VERSIONS, Row
from infra.durable import step
from infra.evaluation_page import page
from longtail.errors import Conflict, InvalidRequest, NotReady, StorageUnavailable
from longtail.expansion import OBJECTS
from longtail.filtering import shortfall
from longtail.gated import Gates, invents
from longtail.gates import MIN_INSTANCES_TO_INVENT, check_novelty, class_key, usual_novelty
from longtail.policies import BY_TASK, resolve
from longtail.seeds import derive_id
from longtail.uplift import ARMS, LONGTAIL, REAL, Proof, arms_asked, check_sources, kind_of, proof_after, proof_of, too_few, unproven_base, worst_class
from workflows.generators import log_page as log_generator
from workflows.generators import promote_now
from workflows.stack import Stack
from workflows.utility import add_utility
from workflows.versions import log_version, not_logged, publish_version, renew_page

STEPS = {"detector": 900, "classifier": 300, "probe": 1}
SETTINGS: dict[str, Any] = {
    "steps": None, "augment": None,
    "candidate": None, "generator": None, "classes": None, "count": 100, "novelty": None, "objects": OBJECTS, "arms": None, "shares": [], "model": None,
    "weights": "pretrained", "side_px": 256, "trainer": None, "figure": None, "publish_choice": False,
}  # fmt: skip
"""What an evaluation that is a step of something else does not say."""


def evaluate(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """The job behind POST /v1/evaluations, and behind a promotion that is to be measured first: one that does harm is refused."""
    result = measure(stack, job, request, low=0.0, high=0.95)
    wanted = request.get("promote")
    if wanted is None:
        return result
    if result["proof"] == "negative":
        line = deciding(result, result["table"])
        raise Conflict(
            f"generator {wanted['version']} of {wanted['dataset']!r} was not promoted: its images changed {result['figure']} by {line['difference']:+.3f} "
            f"({line['interval'][0]:+.3f} to {line['interval'][1]:+.3f}); see /v1/evaluations/{job}"
        )
    harmed = [g for g in result.get("utility", []) if g["verdict"] == "failed"]
    if harmed:
        said = ", ".join(f"{g['class_name']} ({g['threshold'].partition('(')[2]} {g['figure']:+.3f}" for g in harmed)
        raise Conflict(f"generator {wanted['version']} of {wanted['dataset']!r} was not promoted: its images did harm to {said}; see /v1/evaluations/{job}")
    promoted = step("promote", lambda: promote_now(stack, job, wanted["dataset"], wanted["version"], who=wanted["who"], why=wanted["why"], set_alias=True))
    return {**result, "promoted": promoted}


def measure(stack: Stack, job: str, asked: dict[str, Any], *, low: float, high: float) -> dict[str, Any]:
    """Plans the runs, does them a few at a time, says what they say together, records it. A step may be repeated; of runs those alone that had not ended."""
    request = SETTINGS | asked
    plan = step("plan runs", lambda: planned(stack, job, request))
    request |= {"steps": request["steps"] or STEPS[plan["model"]], "augment": request["augment"] or plan["augment"]}
    whole, runs = {**request, "generator": plan["generator"]}, list[dict[str, Any]]()
    while len(runs) < len(plan["runs"]):
        runs += step(f"runs {len(runs)}", run_wave, stack, job, whole, plan["runs"], len(runs), [low, high])
    told = {"model": "plugged" if request["trainer"] else plan["model"], "names": plan["names"], "figure": request["figure"]}
    measured = step("compare arms", lambda: stack.cluster.run("trainers.tasks:uplift_tables", {"runs": runs, **told}))
    published = publish_part(stack, job, request, measured, runs)
    result = step("record", lambda: record(stack, job, request, measured, published, plan))
    told = step("log", lambda: not_logged(lambda: log(stack, job, request, result)))
    step("forget runs", lambda: forget_runs(stack, job, request["dataset"]))
    return {**result, **told}


def forget_runs(stack: Stack, job: str, dataset: str) -> None:
    """What was kept of runs that are all told now; what cannot be removed is left to a collection."""
    with suppress(StorageUnavailable):
        stack.catalogue.objects.remove_below(stack.catalogue.settings.runs_of(dataset, job))


def run_wave(stack: Stack, job: str, request: dict[str, Any], runs: list[dict[str, Any]], start: int, span: list[float]) -> list[dict[str, Any]]:
    """The next runs, as many as the cluster does side by side; how many that is may differ when a step is repeated."""
    wave = runs[start : start + max(1, stack.cluster.cpus())]
    report = stack.progress(job, low=span[0] + (span[1] - span[0]) * start / len(runs))
    report(0.0, "; ".join(f"training arm '{r['arm']}', seed {r['seed']}" for r in wave), stage="measure", done=start, of=len(runs))
    return stack.cluster.run_all("trainers.tasks:uplift_run", [{"job": job, "request": request, **run} for run in wave])


def planned(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """{"runs", "names", "model", "generator"}. Raises InvalidRequest where there is nothing to measure on."""
    database, dataset = stack.catalogue.database, request["dataset"]
    task = database.get(DATASETS, dataset)["task"]
    if not any(c["instances"]["test"] for c in database.version(dataset, request["base"])["health"]["classes"]):
        raise InvalidRequest(f"dataset {dataset!r} has no test split to measure on; register it with splits, or give it images that judge")
    generator = None if request["generator"] is None else asked_of(stack, job, request, task)
    grown = list(generator["classes"]) if generator else grown_by(stack, dataset, request["base"], request["candidate"])
    tested = {c["name"]: c["instances"]["test"] for c in database.version(dataset, request["base"])["health"]["classes"]}
    if not request["trainer"] and not any(tested.get(name) for name in grown or tested):
        raise InvalidRequest(f"no test image of {dataset!r} shows what is grown ({', '.join(grown)}); nothing can be said of it")
    asked = request["arms"] or [a for a in ARMS if not (a == "copy_paste" and task == "classification")]
    names = stack.catalogue.classes(dataset)
    runs = [{"arm": arm, "seed": seed} for seed in request["seeds"] for arm in arms_asked(asked, request["shares"], task=task)]
    model = request["model"] or ("detector" if task == "detection" else "classifier")
    return {
        "runs": runs, "names": [names.names[c] for c in sorted(names.names)], "model": model,
        "generator": generator, "augment": resolve(BY_TASK[task]), "judged_by": judged_by(tested, grown, request["figure"]),
        "tested": tested,
    }  # fmt: skip


def judged_by(tested: dict[str, int], grown: list[str], figure: str | None) -> int:
    """How many test objects the figure that decides has of each class that it speaks of, at least: of its own where it is of one, else of those that grew."""
    of_one = (figure or "").partition("/")[2]
    return min(tested.get(name, 0) for name in ([of_one] if of_one in tested else grown or tested))


def grown_by(stack: Stack, dataset: str, base: int, candidate: int) -> list[str]:
    """The classes whose synthetic images a version has more of than another. Raises InvalidRequest where what lies at the source differs as well."""
    database = stack.catalogue.database
    versions = [database.version(dataset, number) for number in (base, candidate)]
    check_sources(*(v["batches"] for v in versions), what=f"version {candidate}", base_number=base)
    before, after = ({c["name"]: c["synthetic"] for c in v["health"]["classes"]} for v in versions)
    before = {} if base == candidate else before  # against its own real images
    return [name for name, count in after.items() if count > before.get(name, 0)]


def asked_of(stack: Stack, job: str, request: dict[str, Any], task: str) -> dict[str, Any]:
    """What the generator is to make: its weights, which classes, how many, and how."""
    row = stack.catalogue.database.get(GENERATORS, f"{request['dataset']}:{request['generator']}")
    if row["withdrawn"]:
        raise NotReady(f"generator {row['version']} of {request['dataset']!r} learned from images that were withdrawn; fine-tune again")
    base = stack.catalogue.database.version(request["dataset"], request["base"])
    counts = {c["name"]: max(0, c["own"] - c["synthetic"]) for c in base["health"]["classes"]}  # the real ones, by which novelty is allowed
    learned = stack.catalogue.database.version(request["dataset"], row["dataset_version"], to_see=True)
    check_sources(base["batches"], learned["batches"], what=f"what generator {row['version']} learned from", base_number=base["number"])
    classes = request["classes"] or [c for c in row["classes"] if counts.get(c)]
    if not classes:
        raise InvalidRequest(f"generator {row['version']}: version {base['number']} of {request['dataset']!r} has no real object of its classes")
    for name in classes:
        if name not in counts:
            raise InvalidRequest(f"unknown class {name!r}; {request['dataset']!r} has {sorted(counts)}")
    mode = "inpaint" if task == "detection" else "synthesis"
    novelties = {c: novelty_for(c, counts[c], request["novelty"], mode, row["gates"]) for c in classes}
    how = {"mode": mode, "seed": None, "objects": request["objects"] if task == "detection" else 1}
    model = {"name": request["dataset"], "version": row["version"], "uri": row["uri"]}
    return {**model, "classes": novelties, "count": request["count"], "request": how, "key": job}


def novelty_for(name: str, instances: int, asked: float | None, mode: str, gates: Gates) -> float:
    """The novelty asked for, else 1 of what was made to invent the class, else the usual one, checked."""
    usual = 1.0 if instances >= MIN_INSTANCES_TO_INVENT and invents(gates, name) else usual_novelty(instances)
    return check_novelty(class_name=name, instances=instances, novelty=usual if asked is None else asked, mode=mode)


def publish_part(stack: Stack, job: str, request: dict[str, Any], measured: dict[str, Any], runs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """A version with the part of the addition that did best on val, where a part did and the request wants it; None otherwise."""
    chosen = measured["policy"]["chosen"]
    if not request["publish_choice"] or request["candidate"] is None or chosen in (None, REAL, LONGTAIL):
        return None
    ids = next(r["ids"] for r in runs if r["arm"] == chosen)
    kept = max(1, round(measured["policy"]["share"] * len(ids)))
    left_out = frozenset(ids[kept:])
    candidate = stack.catalogue.database.version(request["dataset"], request["candidate"])
    part = derive_id("part", candidate["id"], *sorted(left_out))  # the same part is the same version, whoever asks for it again
    version = publish_version(
        stack, request["dataset"], job=part, onto=request["candidate"], batches=[], lance_version=candidate["lance_version"],
        note=f"{kept} of {len(ids)} samples of version {request['candidate']}: what did best on val", make_latest=False, removed=lambda _: left_out,
    )  # fmt: skip
    return {"version": version["version"], "kept": kept, "left_out": len(left_out), "arm": chosen}


def record(
    stack: Stack, job: str, request: dict[str, Any], measured: dict[str, Any], published: dict[str, Any] | None, plan: dict[str, Any]
) -> dict[str, Any]:
    database, dataset = stack.catalogue.database, request["dataset"]
    found = measured["tables"][f"{LONGTAIL} - {REAL}"]
    measured = {"grown": {}, **measured, "judged_by": plan.get("judged_by"), "too_few": too_few(plan.get("judged_by"))}
    measured["unproven_base"] = "" if request["candidate"] is None else on_unproven(stack, request, request["candidate"])
    measured["advice"] = shortfall(measured.get("filtered", {}))
    measured["changed"] = named(stack, dataset, request["base"], measured.get("changed", []))
    whole = deciding(measured, found)
    proof = proof_of(whole)
    chosen, moved, why = measured["policy"]["chosen"], False, ""
    if request["candidate"] is not None:
        version = prove(stack, request, job, request["candidate"], whole)
        keeps = chosen in (None, LONGTAIL)
        moved = keeps and make_latest(stack, request, job, version)
        why = why_latest(stack, version, moved, chosen, measured["unproven_base"])
        measured = {**measured, "version_proof": version["proof"]}
    if published is not None:
        row = deciding(measured, measured["tables"][f"{published['arm']} - {REAL}"])
        part = prove(stack, request, job, published["version"], row)
        published = {**published, "proof": part["proof"], "latest_moved": make_latest(stack, request, job, part)}
        why = why_latest(stack, part, published["latest_moved"], chosen, on_unproven(stack, request, part["number"]))
    if request["generator"] is not None:
        measured["utility"] = add_utility(stack, job, request, measured, whole, found, plan.get("tested", {}), plan["generator"]["classes"])
    harness = (
        f"the team's own trainer {request['trainer']!r}" if request["trainer"]
        else f"{plan['model']} on EfficientNet-lite0, early blocks frozen" if request["weights"] == "pretrained" else f"{plan['model']} from random weights"
    )  # fmt: skip
    result = {**measured, "table": found, "worst": worst_class(found), "proof": proof, "latest_moved": moved, "latest_why": why, "published": published,
              "harness": harness}  # fmt: skip
    database.insert(EVALUATIONS, {"id": job, "dataset": dataset, "request": request, "result": result})
    return result


def named(stack: Stack, dataset: str, base: int, changed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The test images that changed most by their ids, which runs do not know: they know the order in which images were added."""
    said = {one["position"]: one for one in changed}
    tested = stack.catalogue.samples(dataset, stack.catalogue.database.version(dataset, base, to_see=True), split="test", origin="real")
    ids = {k: sample.id for k, sample in enumerate(tested) if k in said} if said else {}
    return [{"id": ids[k], "before": one["before"], "after": one["after"]} for k, one in said.items()]


def log(stack: Stack, job: str, request: dict[str, Any], result: dict[str, Any]) -> None:
    """The evaluation as a run in MLflow, beside the generators' own: its figures, its page and the version's, and their twins for programs."""
    dataset, name = request["dataset"], f"evaluation of {'version' if request['candidate'] else 'generator'} {request['candidate'] or request['generator']}"
    asked = {k: str(request[k]) for k in ("base", "candidate", "generator", "steps", "seeds", "side_px", "weights", "trainer")}
    tags = {"longtail.job": job, "longtail.dataset": dataset, "longtail.proof": result["proof"]}
    run = stack.registry.start_run(experiment=f"longtail-{dataset}", name=name, params=asked, tags=tags)
    differences = {f"difference/{class_key(r['figure'])}": r["difference"] for r in result["table"] if r["difference"] is not None}
    stack.registry.log_figures(run, differences, step=0)
    if request["generator"] is not None:
        log_generator(stack, dataset, request["generator"])
    log_page(stack, run, {"dataset": dataset, "request": request, "result": result})
    stack.registry.log_file(run, "evaluation.json", json.dumps(result, indent=1).encode())
    if request["candidate"] is not None:
        log_version(stack, run, dataset, request["candidate"])
        renew_page(stack, dataset, request["candidate"])
    if result["published"] is not None:
        log_version(stack, run, dataset, result["published"]["version"], name="published")
        renew_page(stack, dataset, result["published"]["version"])
    stack.registry.finish_run(run)


def log_page(stack: Stack, run: str, evaluation: Mapping[str, Any]) -> None:
    """The evaluation's page in its run in MLflow, in the place of the one that is there; once more where an image was withdrawn in the meantime."""
    pictures = None
    while pictures is None or {p["id"] for p in pictures} & stack.catalogue.withdrawn(evaluation["dataset"]):
        pictures = changed_pictures(stack.catalogue, evaluation)
        stack.registry.log_file(run, "evaluation.html", page(evaluation, pictures).encode())


def renew_pages(stack: Stack, dataset: str, gone: frozenset[str]) -> None:
    """The pages in MLflow of evaluations that show withdrawn images, written again without those."""
    showing = {e["id"]: e for e in stack.catalogue.database.every(EVALUATIONS, dataset=dataset) if gone & {c["id"] for c in e["result"].get("changed", [])}}
    for run in stack.registry.runs(f"longtail-{dataset}") if showing else ():
        found = showing.get(run.data.tags.get("longtail.job", ""))
        if found is not None and "evaluation.html" in stack.registry.files(run.info.run_id):
            log_page(stack, run.info.run_id, found)


def deciding(result: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row that proves, with what keeps it from that; evaluations of an older Longtail did not count test objects class by class."""
    row = next(r for r in rows if r["figure"] == result["figure"])
    return {**row, "judged_by": result.get("judged_by") if "grown" in result else None, "unproven_base": result.get("unproven_base", "")}


def on_unproven(stack: Stack, asked: Mapping[str, Any], number: int) -> str:
    return unproven_base(asked, stack.catalogue.database.find_version(asked["dataset"], asked["base"]), number)


def prove(stack: Stack, request: dict[str, Any], job: str, number: int, row: dict[str, Any]) -> Row:
    """The version with its proof, written down: what this evaluation's row and those of all others of it say together."""
    database = stack.catalogue.database
    others = (e for e in database.every(EVALUATIONS, dataset=request["dataset"]) if e["id"] != job)
    told = [(other["request"], deciding(other["result"], rows)) for other in others if (rows := rows_of(other, number))]
    told = [(asked, {**other, "judged_by": row["judged_by"]} if other["judged_by"] is None else other) for asked, other in told]
    measured = [(kind_of(asked), {**said, "unproven_base": on_unproven(stack, asked, number)}) for asked, said in (*told, (request, row))]
    version = database.version(request["dataset"], number)
    proof: Proof = proof_after(measured)
    database.update(VERSIONS, version["id"], proof=proof)
    return {**version, "proof": proof}


def rows_of(evaluation: Row, number: int) -> list[dict[str, Any]] | None:
    """The table of a version against real images where an evaluation measured it, as a whole or as the part that it published."""
    result, part = evaluation["result"], evaluation["result"].get("published")
    if part is not None and part["version"] == number:
        return list(result["tables"][f"{part['arm']} - {REAL}"])
    return list(result["table"]) if evaluation["request"]["candidate"] == number else None


def make_latest(stack: Stack, request: dict[str, Any], job: str, version: Row) -> bool:
    """Moves `latest` to a version of positive proof, in the place of what it was measured against and of nothing that came since."""
    if version["proof"] != "positive":
        return False
    before = request["base"]
    if before == version["number"]:  # against its own real images: what its parent had of made ones was not measured apart
        parent = stack.catalogue.database.find_version(request["dataset"], version["parent"]) if version["parent"] else version
        if parent is None or parent["health"]["synthetic_images"]:
            return False
        before = parent["number"]
    key = derive_id("move", job, version["number"])
    return stack.catalogue.database.move_latest(version, key=key, who=f"evaluation {job}", why="positive proof", instead_of=before)


def why_latest(stack: Stack, version: Row, moved: bool, chosen: str | None, unproven: str) -> str:
    """Why `latest` is or is not this version now; `unproven` is why what it was measured on keeps it from proof."""
    number = version["number"]
    if moved:
        return f"version {number} is the latest now: its proof is positive"
    if stack.catalogue.database.get(DATASETS, version["dataset"])["latest"] == number:
        return f"version {number} was the latest already; its proof is '{version['proof']}'"
    if version["proof"] != "positive":
        return f"latest stays: version {number} has proof '{version['proof']}'" + (f" ({unproven})" if unproven else "")
    if chosen not in (None, LONGTAIL):
        kept = "nothing of it" if chosen == REAL else f"a part of it ('{chosen}')"
        return f"latest stays: on val {kept} does best; with publish_choice a part is published and may become the latest"
    return "latest stays: it is not what this was measured against; a request moves it"

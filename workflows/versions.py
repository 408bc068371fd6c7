"""Publishing as steps: name rows in a version, count what it holds, perhaps make it the latest, and give MLflow its page."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from infra.database import DATASETS, Row
from infra.durable import step
from infra.version_page import version_page
from infra.version_report import generator_pages, version_pictures, version_report
from workflows.stack import Stack

PICTURES = 12
"""Samples of each batch in the page of a version that MLflow gets."""


def publish_version(
    stack: Stack, dataset: str, *, job: str, batches: Sequence[str], lance_version: int, note: str, make_latest: bool, first: bool = False,
    onto: int | None = None, instead_of: int | None = None, accepted_unproven: bool = False,
    removed: Callable[[Row | None], frozenset[str]] = lambda _: frozenset(),
) -> dict[str, Any]:  # fmt: skip
    """The new version's {"version", "parent", "latest"}, and "not_logged" where MLflow did not take its page.

    It is a child of `onto`, or of the latest; running it again gives the same version.

    With `instead_of` it becomes the latest in the place of that version alone.
    """

    def flip() -> dict[str, Any]:
        catalogue = stack.catalogue
        row = catalogue.publish(
            dataset, job=job, parent=catalogue.database.version(dataset, onto) if onto else None, follow=not first and onto is None, batches=batches,
            lance_version=lance_version, note=note, removed=removed, make_latest=make_latest, instead_of=instead_of, accepted_unproven=accepted_unproven,
            who=f"job {job}",
        )  # fmt: skip
        moved = make_latest and (instead_of is None or catalogue.database.get(DATASETS, dataset)["latest"] == row["number"])
        told = tell_mlflow(stack, job, dataset, row["number"])
        return {"version": row["number"], "parent": row["parent"], "latest": moved, **told}

    return step("publish version", flip)


def tell_mlflow(stack: Stack, job: str, dataset: str, number: int) -> dict[str, str]:
    """A run of the version as it was published, with its page; {"not_logged": why} where MLflow did not take it."""

    def tell() -> None:
        tags = {"longtail.job": job, "longtail.dataset": dataset, "longtail.dataset_version": str(number)}
        run = stack.registry.start_run(experiment=f"longtail-{dataset}", name=f"version {number}", params={}, tags=tags)
        log_version(stack, run, dataset, number)
        stack.registry.finish_run(run)

    return not_logged(tell)


def log_version(stack: Stack, run: str, dataset: str, number: int, *, name: str = "version") -> None:
    """The version's page and its machine-readable twin, as files of that name in a run."""
    told = version_report(stack.catalogue, dataset, number)
    pictures = version_pictures(stack.catalogue, stack.cluster, told, PICTURES)
    stack.registry.log_file(run, f"{name}.html", version_page(told, pictures, generator_pages(stack.catalogue, told)).encode())
    stack.registry.log_file(run, f"{name}.json", json.dumps(told, indent=1).encode())


def renew(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """The job behind a change of what is said of a version, as that it was accepted unproven: {"not_logged": why} where MLflow did not take its page."""
    dataset, number = request["dataset"], request["version"]
    return {"dataset": dataset, "version": number, **step("renew page", lambda: not_logged(lambda: renew_page(stack, dataset, number)))}


def renew_page(stack: Stack, dataset: str, number: int) -> None:
    """The version's page in the run of its own, now that more is known of it than when it was published."""
    for run in (r for r in stack.registry.runs(f"longtail-{dataset}") if r.info.run_name == f"version {number}"):
        log_version(stack, run.info.run_id, dataset, number)


def forget_pages(stack: Stack, dataset: str, numbers: Sequence[int]) -> None:
    """The pages that MLflow has of versions that hold withdrawn images: each is overwritten by a line that says so."""
    gone = "what this page showed was withdrawn; it is not kept any more"
    written = {f"{page}.{kind}": body for page in ("version", "published") for kind, body in (("html", f"<p>{gone}</p>"), ("json", json.dumps(gone)))}
    theirs = {f"{what}version {number}" for number in numbers for what in ("", "evaluation of ")}
    for run in (r for r in stack.registry.runs(f"longtail-{dataset}") if r.info.run_name in theirs):
        for name in written.keys() & stack.registry.files(run.info.run_id):
            stack.registry.log_file(run.info.run_id, name, written[name].encode())


def not_logged(log: Callable[[], object]) -> dict[str, str]:
    """{"not_logged": why} where MLflow did not take something, for a job's result; nothing where it did."""
    why = refused_by_mlflow(log)
    return {"not_logged": why} if why else {}


def refused_by_mlflow(log: Callable[[], object]) -> str | None:
    """Why MLflow did not take something, None where it did: what was done and found stands without."""
    try:
        log()
    except Exception as error:  # whatever ails MLflow
        return f"MLflow did not take it: {error}"
    return None

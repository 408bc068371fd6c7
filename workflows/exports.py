"""Export to a prefix in the bucket: annotation files written, images copied by the server."""

from __future__ import annotations

from typing import Any

from infra.database import DATASETS
from infra.durable import step
from infra.formats.export import layout
from workflows.stack import Stack


def export(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """{"uri", "images", "files"}. Images go first and annotations last, so that a whole set of files means a whole export."""
    return step("export", lambda: write(stack, job, request))


def write(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    catalogue, dataset = stack.catalogue, request["dataset"]
    row = catalogue.database.get(DATASETS, dataset)
    version = catalogue.database.version(dataset, request["version"])
    samples = list(catalogue.samples(dataset, version))
    files, images = layout(request["format"], samples, catalogue.classes(dataset).names, row["meta"], task=row["task"])
    progress = stack.progress(job)
    root = request["destination"].rstrip("/")
    for i, (path, sample) in enumerate(images):
        catalogue.objects.copy(sample.uri, f"{root}/{path}", etag=sample.etag)
        progress((i + 1) / len(images), f"copied {i + 1} of {len(images)} images")
    for path, data in files.items():
        catalogue.objects.write(f"{root}/{path}", data)
    return {"uri": root, "images": len(images), "files": sorted(files)}

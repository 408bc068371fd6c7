"""Export to a prefix in the bucket: annotation files written, images copied by the server."""

from __future__ import annotations

from typing import Any

from infra.database import DATASETS
from infra.durable import step
from infra.formats.export import archive, layout, shards
from infra.formats.webdataset import SHARD_IMAGES
from workflows.stack import Stack


def export(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """{"uri", "images", "files"}. Images go first and annotations last, so that a whole set of files means a whole export."""
    return step("export", lambda: write(stack, job, request))


def write(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    catalogue, dataset = stack.catalogue, request["dataset"]
    row = catalogue.database.get(DATASETS, dataset)
    version = catalogue.database.version(dataset, request["version"])
    samples = list(catalogue.samples(dataset, version))
    classes, root = catalogue.classes(dataset).names, request["destination"].rstrip("/")
    progress = stack.progress(job)
    if request["format"] == "webdataset":
        names = []
        for name, entries in shards(samples, classes):
            catalogue.objects.write_stream(f"{root}/{name}", archive(entries, lambda s: catalogue.objects.read(s.uri, etag=s.etag)))
            names.append(name)
            progress(min(1.0, len(names) * SHARD_IMAGES / len(samples)), f"wrote {name}")
        return {"uri": root, "images": len(samples), "files": names}
    entries = layout(request["format"], samples, classes, row["meta"], task=row["task"])
    files = []
    for i, (path, content) in enumerate(entries):
        if isinstance(content, bytes):
            catalogue.objects.write(f"{root}/{path}", content)
            files.append(path)
        else:
            catalogue.objects.copy(content.uri, f"{root}/{path}", etag=content.etag)
        progress((i + 1) / len(entries), f"wrote {i + 1} of {len(entries)} files")
    return {"uri": root, "images": len(samples), "files": sorted(files)}

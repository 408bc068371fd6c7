"""Export to a prefix in the bucket: annotation files written, images copied by the server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from infra.database import DATASETS, Row
from infra.durable import step
from infra.formats import webdataset
from infra.formats.export import Format, archive, check_fits, layout, version_file
from infra.formats.listing import Entry
from infra.objects import Objects
from infra.tables import batched
from longtail.samples import SPLITS
from workflows.stack import Stack

WRITERS = 8


def export(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """{"uri", "images", "files"}. What ties the files together is written last, so that a whole set means a whole export."""
    return step("export", lambda: write(stack, job, request))


def write(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    catalogue, dataset = stack.catalogue, request["dataset"]
    row, version = catalogue.database.get(DATASETS, dataset), catalogue.database.version(dataset, request["version"])
    check_fits(request["format"], row["task"])
    root = request["destination"].rstrip("/")
    path, about = version_file(version)
    catalogue.objects.write(f"{root}/{path}", about)
    if request["format"] == "webdataset":
        wrote = write_shards(stack, job, dataset, version, root)
    else:
        wrote = write_files(stack, job, row, version, root, format=request["format"])
    return {"uri": root, **wrote, "files": [path, *wrote["files"]][:1000]}


def write_files(stack: Stack, job: str, row: Row, version: Row, root: str, *, format: Format) -> dict[str, Any]:
    catalogue, dataset = stack.catalogue, row["id"]
    total, done, files = catalogue.count(version), 0, list[str]()
    progress = stack.progress(job)
    with ThreadPoolExecutor(WRITERS) as pool, TemporaryDirectory(prefix="longtail-export-") as scratch:
        samples, classes = catalogue.samples(dataset, version), catalogue.classes(dataset).names
        entries = layout(format, samples, classes, row["meta"], task=row["task"], scratch=Path(scratch))
        for part in batched(entries, 32 * WRITERS):
            files += [path for path in pool.map(lambda entry: write_entry(catalogue.objects, root, entry), part) if path]
            done += sum(not isinstance(content, bytes | Path) for _, content in part)
            progress(done / total, f"wrote {done} of {total} images")
    return {"images": done, "files": sorted(files)}


def write_entry(objects: Objects, root: str, entry: Entry) -> str | None:
    """Puts one file in its place; its path unless it is an image."""
    path, content = entry
    if isinstance(content, bytes):
        objects.write(f"{root}/{path}", content)
    elif isinstance(content, Path):
        objects.write_file(f"{root}/{path}", content)
    else:
        objects.copy(content.uri, f"{root}/{path}", etag=content.etag)
        return None
    return path


def write_shards(stack: Stack, job: str, dataset: str, version: Row, root: str) -> dict[str, Any]:
    catalogue = stack.catalogue
    progress, total, names = stack.progress(job), catalogue.count(version), []
    for split in SPLITS:
        entries = webdataset.write(catalogue.samples(dataset, version, split=split), catalogue.classes(dataset).names)
        for name, members in webdataset.shards(split, entries):
            catalogue.objects.write_stream(f"{root}/{name}", archive(members, lambda s: catalogue.objects.read(s.uri, etag=s.etag)))
            names.append(name)
            progress(min(1.0, len(names) * webdataset.SHARD_IMAGES / total), f"wrote {name}")
    return {"images": total, "files": names}

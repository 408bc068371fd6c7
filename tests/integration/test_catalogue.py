"""Versions on real tables: what a version adds, what it goes without, and pages of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from lance.dataset import MergeInsertBuilder

from infra.asking import Asking
from infra.catalogue import Catalogue
from infra.database import DATASETS, JOBS
from longtail.datasets import Tally
from longtail.errors import Conflict
from longtail.jobs import TENANT
from longtail.samples import Annotation, Sample


def rows(batch, count, category=1):
    label = (Annotation(category_id=category, bbox_xywh=(1.0, 2.0, 3.0, 4.0)),)
    return [
        Sample(
            id=f"{batch}-{i:03d}", path=f"{batch}/{i:03d}.jpg", uri="s3://none/x", etag="e", size_bytes=1, width=10, height=10,
            split="val" if i % 5 == 0 else "train", annotations=label, batch=batch,
        )
        for i in range(count)
    ]  # fmt: skip


@pytest.fixture
def made(stack):
    """(catalogue, dataset, version 1): thirty samples of class a, then five of class b in a batch of their own."""
    catalogue, name = Catalogue.of(stack.settings), stack.name("versions")
    table = catalogue.tables.uri(TENANT, name)
    row = {"id": name, "uri": "s3://none", "format": "coco", "task": "detection", "classes": {"1": "a", "2": "b"}, "meta": {}, "table_uri": table}
    catalogue.database.insert(DATASETS, {**row, "latest": None, "serving": None})
    version = catalogue.tables.merge(table, [*rows("source", 30), *rows("more", 5, category=2)], tenant=TENANT)
    return catalogue, name, catalogue.publish(name, job="one", parent=None, batches=["source"], lance_version=version, note="")


def test_counts_that_add_up_are_the_counts_of_what_is_there(made):
    catalogue, name, first = made
    gone = frozenset({"source-003", "source-010"})
    second = catalogue.publish(
        name, job="two", parent=first, batches=["more"], lance_version=first["lance_version"], note="", removed=lambda _: gone
    )
    third = catalogue.publish(
        name, job="three", parent=second, batches=[], lance_version=first["lance_version"], note="", removed=lambda _: frozenset({"more-001"})
    )
    for version, expected in ((first, 30), (second, 33), (third, 32)):
        found = list(catalogue.samples(name, version))
        assert len(found) == expected == catalogue.count(version)
        assert Tally.of(found) == Tally.from_json(version["tally"])
    assert catalogue.removed(third) == gone | {"more-001"}
    assert not gone & {s.id for s in catalogue.samples(name, third)}


def test_a_publication_that_is_overtaken_comes_through_and_counts_what_it_brings_once(made, stack, monkeypatch):
    catalogue, name, first = made
    other, left, read = Catalogue.of(stack.settings), iter(range(12)), []

    def publish(who, job, batches):
        return who.publish(name, job=job, parent=None, follow=True, batches=batches, lance_version=first["lance_version"], note="", make_latest=True)

    def overtaken(*args, add=catalogue.database.add_version, **options):
        for n in left:
            publish(other, f"other-{n}", [])
            break
        return add(*args, **options)

    def counted(*args, rows=catalogue.tables.read, **options):
        read.append(options["batches"])
        return rows(*args, **options)

    catalogue.database.update(DATASETS, name, latest=first["number"])
    monkeypatch.setattr(catalogue.database, "add_version", overtaken)
    monkeypatch.setattr(catalogue.tables, "read", counted)
    version = publish(catalogue, "mine", ["more"])
    assert (version["number"], version["parent"], version["batches"]) == (14, 13, ["source", "more"])
    assert len(list(catalogue.samples(name, version))) == 35 == catalogue.count(version)
    assert read[0] == ["more"] and read.count(["more"]) == 1


def test_a_publication_that_is_overtaken_for_too_long_says_so(made, stack, monkeypatch):
    catalogue, name, first = made
    monkeypatch.setattr("infra.catalogue.PATIENCE_S", 0.0)
    monkeypatch.setattr(catalogue.database, "add_version", lambda *_, **__: False)
    with pytest.raises(Conflict, match="others have published"):
        catalogue.publish(name, job="two", parent=first, batches=["more"], lance_version=first["lance_version"], note="")


CROWD = "Too many concurrent writers. Attempted 5 times, but failed on retry_timeout of 30.000 seconds."


@pytest.mark.parametrize("error", [CROWD, "Retryable commit conflict for version 7: preempted by concurrent transaction"])
def test_rows_are_staged_though_others_write_longer_than_the_table_waits(made, monkeypatch, error):
    catalogue, name, _ = made
    left, merging = iter(range(3)), MergeInsertBuilder.execute

    def overtaken(*args):
        for _ in left:
            raise OSError(error)
        return merging(*args)

    monkeypatch.setattr(MergeInsertBuilder, "execute", overtaken)
    table = catalogue.tables.uri(TENANT, name)
    version = catalogue.tables.merge(table, rows("late", 4), tenant=TENANT)
    assert len(list(catalogue.tables.read(table, version=version, batches=["late"]))) == 4


@pytest.mark.parametrize(("error", "patience_s"), [(CROWD, 0.0), ("no such bucket", 60.0)])
def test_staging_that_cannot_go_on_says_so(made, monkeypatch, error, patience_s):
    catalogue, name, _ = made

    def refuse(*_):
        raise OSError(error)

    monkeypatch.setattr(MergeInsertBuilder, "execute", refuse)
    monkeypatch.setattr("infra.tables.PATIENCE", timedelta(seconds=patience_s))
    with pytest.raises(OSError, match=error[:20]):
        catalogue.tables.merge(catalogue.tables.uri(TENANT, name), rows("late", 4), tenant=TENANT)


def test_publishing_again_gives_the_same_version(made):
    catalogue, name, first = made
    again = catalogue.publish(name, job="one", parent=None, batches=["source"], lance_version=first["lance_version"], note="")
    assert again == first


@pytest.mark.parametrize("limit", [1, 7, 100])
@pytest.mark.parametrize(("fits", "expected"), [({}, 33), ({"class_name": "b"}, 5), ({"split": "val"}, 6), ({"class_name": "a", "split": "train"}, 23)])
def test_pages_hold_every_sample_once_and_none_that_was_removed(made, limit, fits, expected):
    catalogue, name, first = made
    gone = frozenset({"source-003", "source-010"})
    version = catalogue.publish(
        name, job="two", parent=first, batches=["more"], lance_version=first["lance_version"], note="", removed=lambda _: gone
    )
    seen, after = [], 0
    while after is not None:
        page, after = catalogue.page(name, version, after=after, limit=limit, **fits)
        seen += [s.id for s in page]
        assert len(page) <= limit
    assert len(seen) == len(set(seen)) == expected
    assert not gone & set(seen)


def test_a_version_that_is_being_checked_can_be_seen_and_not_used(stack):
    catalogue, name = Catalogue.of(stack.settings), stack.name("checking")
    row = {"id": name, "uri": "s3://none", "format": "coco", "task": "detection", "classes": {"1": "a"}, "meta": {}}
    catalogue.database.insert(DATASETS, {**row, "table_uri": catalogue.tables.uri(TENANT, name), "latest": None, "serving": None})
    catalogue.begin(name, job="one", tally=Tally.of(rows("source", 3)))
    shown = stack.client.get(f"/v1/datasets/{name}/versions/1")
    assert shown["state"] == "checking"
    assert shown["health"]["images"] == {"train": 2, "val": 1, "test": 0}
    with pytest.raises(Conflict, match="is being checked"):
        catalogue.database.version(name, 1)


def test_a_batch_that_is_there_already_is_not_counted_twice(made):
    catalogue, name, first = made
    again = catalogue.publish(name, job="two", parent=first, batches=["source", "more", "more"], lance_version=first["lance_version"], note="")
    assert again["batches"] == ["source", "more"]
    assert catalogue.count(again) == 35


def test_a_job_that_failed_may_be_asked_for_again(stack, made):
    asking = Asking(Catalogue.of(stack.settings).database, queue=None)
    key = stack.name("job-attempt")
    assert asking.attempt(key) == key
    asking.database.insert(JOBS, {"id": key, "kind": "export", "state": "failed", "progress": 0.0, "message": "", "request": {}})
    second = asking.attempt(key)
    assert second != key
    asking.database.insert(JOBS, {"id": second, "kind": "export", "state": "succeeded", "progress": 1.0, "message": "", "request": {}})
    assert asking.attempt(key) == second

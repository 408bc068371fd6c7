"""Freeing what nothing needs any more, or saying what that would be."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from infra.collecting import cutoff, drop_files, drop_pins, drop_rows, expire
from infra.durable import step
from infra.looks import looks_uri
from longtail.jobs import TENANT
from workflows.stack import Stack


def collect(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """What was freed, or with `dry_run` what would be. Every step may be interrupted and done again."""
    catalogue, name, dry = stack.catalogue, request["name"], request["dry_run"]
    began = step("age", lambda: cutoff(catalogue, name, job, hours=request["grace_hours"]).isoformat())
    before = datetime.fromisoformat(began)
    versions = step("versions", lambda: expire(catalogue, name, keep_last=request["keep_last"], dry_run=dry))
    rows = step("rows", lambda: drop_rows(catalogue, name, without=versions, dry_run=dry))
    files = step("files", lambda: drop_files(catalogue, name, without=versions, before=before, dry_run=dry))
    table = catalogue.tables.uri(TENANT, name)
    if not dry:
        step("pins", lambda: drop_pins(catalogue, name))
    freed = {} if dry else step("tables", lambda: catalogue.tables.clean(table, before=before))
    looks = {} if dry else step("looks", lambda: catalogue.tables.clean(looks_uri(table), before=before))
    return {"dataset": name, "dry_run": dry, "versions": versions, "rows": rows, **files, "tables": freed, "looks": looks}

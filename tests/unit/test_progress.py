"""A job's progress, reported by several processes at once."""

from __future__ import annotations

from infra.database import JOBS, Database


def test_progress_never_goes_back_though_a_slower_part_reports_last(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/jobs.db")
    database.create_tables()
    database.insert(JOBS, {"id": "job", "kind": "batch", "state": "running"})
    for at in (0.2, 0.6, 0.4):
        database.report("job", progress=at, message=f"at {at}")
    row = database.get(JOBS, "job")
    assert (row["progress"], row["message"]) == (0.6, "at 0.4")
    database.engine.dispose()

"""Jobs: their state, their events as they happen, and how to stop one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse

from infra.database import BATCHES, JOBS, Row
from longtail.jobs import FINAL_STATES, JobState
from services.api.service import Cursor, Limit, Served, Service, page_of

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
POLL_S = 0.3
KEEP_ALIVE_S = 15.0


@router.get("")
def jobs(served: Served, state: JobState | None = None, cursor: Cursor = None, limit: Limit = 100) -> dict[str, Any]:
    """A page of jobs, newest first."""
    found = page_of(served, JOBS, cursor=cursor, limit=limit, newest=True, state=state)
    return {**found, "items": [shown(j, served) for j in found["items"]]}


@router.get("/{job}")
def one(job: str, served: Served) -> dict[str, Any]:
    return shown(served.catalogue.database.get(JOBS, job), served)


def shown(row: Row, served: Service) -> dict[str, Any]:
    if row["state"] != "queued":
        return row
    return {**row, "ahead": served.catalogue.database.count(JOBS, state="queued", before=row["created"])}


@router.get("/{job}/events")
async def events(job: str, served: Served, last_event_id: Annotated[int, Header(ge=0)] = 0) -> StreamingResponse:
    """Server-sent events until the job ends; `Last-Event-ID` goes on where a broken connection left off."""
    await asyncio.to_thread(served.catalogue.database.get, JOBS, job)
    return StreamingResponse(follow(served, job, last_event_id), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def follow(served: Service, job: str, after: int) -> AsyncIterator[str]:
    database = served.catalogue.database
    silent = 0.0
    while True:
        row = await asyncio.to_thread(database.get, JOBS, job)
        found = await asyncio.to_thread(partial(database.events, job, after=after))
        for event in found:
            after, silent = event["seq"], 0.0
            yield f"id: {event['seq']}\nevent: {event['kind']}\ndata: {json.dumps({**event['data'], 'at': event['at']})}\n\n"
        if row["state"] in FINAL_STATES and not found:
            yield f"event: end\ndata: {json.dumps({'state': row['state'], 'result': row['result'], 'problem': row['problem']})}\n\n"
            return
        if not found:
            await asyncio.sleep(POLL_S)
            silent += POLL_S
            if silent >= KEEP_ALIVE_S:
                silent = 0.0
                yield ": still here\n\n"


@router.post("/{job}/cancel")
def cancel(job: str, served: Served) -> dict[str, Any]:
    """Stops a job at its next safe point. Asking twice, or after its end, changes nothing."""
    database = served.catalogue.database
    row = database.get(JOBS, job)
    if row["state"] not in FINAL_STATES:
        database.update(JOBS, job, cancel=True)
        if row["state"] == "queued":
            served.asking.queue.cancel(job)
            database.set_state(job, "cancelled", message="cancelled before it began")
            for batch in database.every(BATCHES, job=job):
                database.update(BATCHES, batch["id"], state="cancelled")
    return shown(database.get(JOBS, job), served)

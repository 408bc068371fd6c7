"""What the routes stand on: the database, the queue, the tables, and how an answer is given only once."""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse
from sqlalchemy import Table
from starlette.exceptions import HTTPException

from infra.asking import Asking
from infra.catalogue import Catalogue
from infra.cluster import Cluster
from infra.database import ANSWERS, DATASETS, Row
from infra.durable import Queue
from infra.settings import Settings
from longtail.errors import Conflict, InvalidRequest
from longtail.gates import check_novelty
from longtail.jobs import TENANT
from longtail.seeds import derive_id, fingerprint

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox allow-popups"
"""`sandbox`: the page has an origin of its own, so that a script of another page of this host (Swagger's, at /docs, comes from a CDN) cannot read it."""


@dataclass(frozen=True)
class Service:
    """Opened once a process."""

    settings: Settings
    catalogue: Catalogue
    cluster: Cluster
    asking: Asking

    @classmethod
    def of(cls, settings: Settings) -> Service:
        catalogue = Catalogue.of(settings)
        catalogue.database.create_tables()
        return cls(settings, catalogue, Cluster(settings), Asking(catalogue.database, Queue(settings.durable_url)))


def service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


Served = Annotated[Service, Depends(service)]


def authorised(request: Request, authorization: Annotated[str | None, Header()] = None) -> None:
    """401 without the bearer key that was made at first start. A browser may give it as its password, for pages and nothing else."""
    key = service(request).settings.api_key
    scheme, _, given = (authorization or "").partition(" ")
    page = opens_page(request)
    if page and scheme.lower() == "basic":
        given = password_of(given)
    elif scheme.lower() != "bearer":
        given = ""
    if key and hmac.compare_digest(given.strip().encode(), key.encode()):
        return
    browser = page and "text/html" in request.headers.get("accept", "")
    challenge = 'Basic realm="Longtail: any name, the key as password", charset="UTF-8"' if browser else "Bearer"
    raise HTTPException(401, "expected `Authorization: Bearer KEY`; `longtail status` shows the key of this stack", {"WWW-Authenticate": challenge})


def opens_page(request: Request) -> bool:
    """Whether somebody looks at a page.

    A browser adds a password that it knows to whatever is asked of the same host: to a form that another site sends, and to what a script asks. The one gets
    nothing by it anywhere, the other nothing by https or on this machine: elsewhere browsers do not say who asks.
    """
    path = request.url.path
    return request.method == "GET" and (path == "/" or path.endswith(".html")) and request.headers.get("sec-fetch-mode", "navigate") == "navigate"


def password_of(encoded: str) -> str:
    """What follows the first colon in the credentials of RFC 7617; empty where they are none."""
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def html_page(page: str) -> HTMLResponse:
    """A page that may fetch, run and send nothing, whatever the names and notes in it say, that no other page may read or frame, and no cache keeps."""
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-store"})


async def body_of(request: Request) -> dict[str, Any]:
    raw = await request.body()
    found: dict[str, Any] = json.loads(raw) if raw else {}
    return found


Asked = Annotated[dict[str, Any], Depends(body_of)]
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]


def job_id(kind: str, key: str | None, path: str, body: dict[str, Any], served: Service) -> str | None:
    """The id of the job this request asks for, None where each request is its own.

    The same key with the same body is the same job; with another body it is refused.
    """
    if key is None:
        return None
    answer = derive_id("answer", TENANT, path, key)
    print_of = fingerprint(body)
    if not served.catalogue.database.insert(ANSWERS, {"id": answer, "fingerprint": print_of}):
        known = served.catalogue.database.get(ANSWERS, answer)
        if known["fingerprint"] != print_of:
            raise InvalidRequest(f"Idempotency-Key {key!r} was used before with another body; use a new key")
    return derive_id("job", TENANT, kind, path, key)


def accepted(job: Row, **more: Any) -> JSONResponse:
    """202 with the job's place; ask again in a second."""
    headers = {"Location": f"/v1/jobs/{job['id']}", "Retry-After": "1"}
    return JSONResponse({"job": job["id"], "kind": job["kind"], "state": job["state"], **more}, 202, headers=headers)


Cursor = Annotated[str | None, Query(description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=1000)]


def page_of(served: Service, table: Table, *, cursor: str | None, limit: int, newest: bool = False, **where: Any) -> dict[str, Any]:
    """{"items", "next"}: at most `limit` rows; `next` is the cursor of the following page, None at the end."""
    after = None
    if cursor is not None:
        created, bar, key = cursor.partition("|")
        if not bar:
            raise InvalidRequest(f"cursor {cursor!r}: expected what an earlier answer gave as `next`")
        after = (created, key)
    given = {k: v for k, v in where.items() if v is not None}
    rows = served.catalogue.database.select(table, limit=limit + 1, after=after, newest=newest, **given)
    more = rows[limit - 1] if len(rows) > limit else None
    return {"items": rows[:limit], "next": f"{more['created']}|{more['id']}" if more else None}


def require_free(found: Row | None, what: str) -> None:
    if found is not None:
        raise Conflict(f"{what} exists already")


def check_trainer(name: str | None, served: Service) -> None:
    """Raises InvalidRequest for a trainer that the server was not set up with."""
    known = sorted(served.settings.trainer_commands)
    if name is not None and name not in known:
        raise InvalidRequest(f"trainer: unknown {name!r}; the server was set up with {known} (LONGTAIL_TRAINERS)")


def check_made(served: Service, version: Row, *, dataset: str, class_name: str, mode: str, novelty: float | None) -> None:
    """Refuses a class that the version has not, a mode that the dataset's task has not, and a novelty that the class has too few instances for."""
    counts = {c["name"]: c for c in version["health"]["classes"]}
    if class_name not in counts:
        raise InvalidRequest(f"unknown class {class_name!r}; {dataset!r} has {sorted(counts)}")
    check_mode(served, dataset, mode)
    found = counts[class_name]
    check_novelty(class_name=class_name, instances=max(0, found["own"] - found["synthetic"]), novelty=novelty, mode=mode)


def check_mode(served: Service, dataset: str, mode: str) -> None:
    """Refuses to paint into the images of a classification dataset."""
    if served.catalogue.database.get(DATASETS, dataset)["task"] == "classification" and mode not in ("synthesis", "enlarge"):
        raise InvalidRequest(f"{dataset!r} is a classification dataset: its images are wholes; use mode 'synthesis' (of a batch 'enlarge', too)")

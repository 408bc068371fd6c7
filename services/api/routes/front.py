"""The front page."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from sqlalchemy import Table

from infra.database import DATASETS, EVALUATIONS, GENERATORS, VERSIONS, Row
from services.api.front_page import Held, front_page
from services.api.service import Cursor, Served, html_page, page_of

router = APIRouter(tags=["pages"])
TABLES: dict[str, Table] = {"versions": VERSIONS, "generators": GENERATORS, "evaluations": EVALUATIONS}
MOST_SHOWN = 10
"""Rows of each kind, the newest, and datasets a page."""


@router.get("/", response_class=HTMLResponse)
def front(served: Served, cursor: Cursor = None) -> HTMLResponse:
    """Datasets, newest first, with links to the reports of their versions, generators and evaluations. A browser asks for the key as a password."""
    found = page_of(served, DATASETS, cursor=cursor, limit=MOST_SHOWN, newest=True)
    return html_page(front_page([held(served, d) for d in found["items"]], mlflow_url=served.settings.mlflow_public_url, following=found["next"]))


def held(served: Served, dataset: Row) -> Held:
    database = served.catalogue.database
    newest = {name: database.select(table, limit=MOST_SHOWN, newest=True, dataset=dataset["id"]) for name, table in TABLES.items()}
    return Held(dataset, **newest, counts={name: database.count(table, dataset=dataset["id"]) for name, table in TABLES.items()})

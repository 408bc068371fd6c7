"""The front page."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from sqlalchemy import Table

from infra.database import DATASETS, EVALUATIONS, GENERATORS, VERSIONS, Row
from services.api.front_page import Held, front_page
from services.api.service import Served, html_page

router = APIRouter(tags=["pages"])
TABLES: dict[str, Table] = {"versions": VERSIONS, "generators": GENERATORS, "evaluations": EVALUATIONS}
MOST_SHOWN = 20


@router.get("/", response_class=HTMLResponse)
def front(served: Served) -> HTMLResponse:
    """Every dataset with links to the reports of its newest versions, generators and evaluations. A browser asks for the key as a password."""
    return html_page(front_page([held(served, d) for d in served.catalogue.database.every(DATASETS)], mlflow_url=served.settings.mlflow_url))


def held(served: Served, dataset: Row) -> Held:
    database = served.catalogue.database
    newest = {name: database.select(table, limit=MOST_SHOWN, newest=True, dataset=dataset["id"]) for name, table in TABLES.items()}
    return Held(dataset, **newest, counts={name: database.count(table, dataset=dataset["id"]) for name, table in TABLES.items()})

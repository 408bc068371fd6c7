"""The page that a browser begins with, and whom it lets in."""

from __future__ import annotations

import base64
import re

import httpx
import pytest

from infra.database import CHECKING, READY
from services.api.front_page import Held, front_page
from tests.integration.browsing import ACCEPTED, basic, opened
from tests.integration.test_lifecycle import done, laid


def test_a_browser_is_asked_for_the_key_a_program_for_its_token(stack):
    asked = httpx.get(stack.settings.api_url, headers=ACCEPTED)
    assert (asked.status_code, asked.headers["www-authenticate"][:5]) == (401, "Basic")
    told = httpx.get(stack.settings.api_url + "/v1/datasets")
    assert (told.status_code, told.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(
    "credentials",
    ["Basic", "Basic !!", "Basic " + base64.b64encode(b"no-colon").decode(), "Basic " + base64.b64encode(b"\xff:\xfe").decode(), "Digest x", "KEY"],
)
def test_credentials_that_hold_no_key_are_refused(stack, credentials):
    given = credentials.replace("KEY", stack.settings.api_key)
    assert httpx.get(stack.settings.api_url, headers={"authorization": given}).status_code == 401


def test_a_wrong_password_is_refused(stack):
    assert httpx.get(stack.settings.api_url, headers=basic("wrong")).status_code == 401
    assert httpx.get(stack.settings.api_url, headers=basic("")).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [("POST", "/v1/previews", {}), ("DELETE", "/v1/datasets/cells/versions/1", {}), ("GET", "/v1/datasets", {}), ("GET", "/", {"sec-fetch-mode": "cors"}),
     ("POST", "/", {})],
    ids=["changes", "deletes", "no_page", "asked_by_a_script", "sent_by_a_form"],
)  # fmt: skip
def test_a_password_opens_pages_and_nothing_else(stack, method, path, more):
    """A browser adds it to what another site's form sends, and to what a script asks."""
    found = httpx.request(method, stack.settings.api_url + path, headers=basic(stack.settings.api_key) | more)
    assert found.status_code == (405 if (method, path) == ("POST", "/") else 401)
    assert "Basic" not in found.headers.get("www-authenticate", "")
    assert found.headers["content-type"] == "application/problem+json"


def test_what_is_there_has_its_links_and_what_is_withdrawn_no_report(stack):
    name = laid(stack, "front")
    asked = stack.client.post("/v1/datasets", {"name": name, "uri": f"s3://team-data/{name}"})
    opened(stack, "")  # whatever has become of the registration yet
    done(stack, asked)
    (mine,) = (part for part in opened(stack, "").split("<h2>") if part.startswith(name))
    assert "version 1 is the latest" in mine and "none needed" in mine
    assert links(mine) == {*(f"v1/datasets/{name}/versions/1/{kind}.html" for kind in ("health", "report")), f"v1/generators/{name}/1/report.html"}
    assert f"{name}, version 1" in opened(stack, f"v1/datasets/{name}/versions/1/health.html")
    done(stack, stack.client.post(f"/v1/datasets/{name}/withdrawals", {"paths": ["3.png"], "reason": "consent"}))
    (mine,) = (part for part in opened(stack, "").split("<h2>") if part.startswith(name))
    theirs = {f"v1/datasets/{name}/versions/{page}.html" for page in ("1/health", "2/health", "2/report")}
    assert links(mine) == theirs | {f"v1/generators/{name}/1/report.html"}
    for link in links(mine):
        opened(stack, link)


def test_a_version_that_is_being_checked_says_so_and_has_no_links():
    dataset = {"id": "d", "task": "detection", "uri": "s3://b/d", "latest": None, "serving": None}
    health = {"images": {"train": 3}, "synthetic_images": 0}
    version = {"number": 1, "state": CHECKING, "health": health, "withdrawn": None, "proof": "none"}
    held = Held(dataset, versions=[version], generators=[], evaluations=[], counts={"versions": 1, "generators": 0, "evaluations": 0})
    page = front_page([held], mlflow_url="", following="2026|a&b")
    assert "it is being registered" in page and "it is checking" in page and "None" not in page
    assert re.findall(r'href="([^"]*)"', page) == ["?cursor=2026%7Ca%26b"]


@pytest.mark.parametrize("accepted", [True, False])
def test_what_was_accepted_unproven_says_so_beside_its_proof(accepted):
    dataset = {"id": "d", "task": "detection", "uri": "s3://b/d", "latest": 2, "serving": None}
    health = {"images": {"train": 3}, "synthetic_images": 1}
    version = {"number": 2, "state": READY, "health": health, "withdrawn": None, "proof": "none", "accepted_unproven": accepted}
    held = Held(dataset, versions=[version], generators=[], evaluations=[], counts={"versions": 1, "generators": 0, "evaluations": 0})
    assert ("none, accepted unproven" in front_page([held], mlflow_url="", following=None)) is accepted


def links(page: str) -> set[str]:
    return set(re.findall(r'href="([^"]+)"', page))

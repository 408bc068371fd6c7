"""The page that a browser begins with, and whom it lets in."""

from __future__ import annotations

import base64

import httpx
import pytest

from tests.integration.browsing import ACCEPTED, basic, linked, opened


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


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/previews"), ("POST", "/v1/generators"), ("DELETE", "/v1/datasets/cells/versions/1")])
def test_what_changes_something_takes_no_password(stack, method, path):
    """A browser adds it to what another site's form sends."""
    found = httpx.request(method, stack.settings.api_url + path, headers=basic(stack.settings.api_key), json={})
    assert (found.status_code, found.headers["www-authenticate"]) == (401, "Bearer")


def test_a_dataset_is_there_as_soon_as_it_is_registered(stack, cells):
    page = opened(stack, "")
    assert f"<h2>{cells}</h2>" in page
    assert f"v1/datasets/{cells}/versions/1/health.html" in linked(stack)
    assert f"{cells}, version 1" in opened(stack, f"v1/datasets/{cells}/versions/1/health.html")
    assert "measured on nothing of this dataset" in page  # the foundation

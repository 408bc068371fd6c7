"""A dataset's life by the command line, as a person types it, against the real stack."""

from __future__ import annotations

import json
import tarfile

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from longtail.policies import resolve
from services.cli.main import app, option
from tests.integration.test_evaluations import tasted, with_four
from tests.integration.test_splits import scene


@pytest.fixture
def run(stack):
    """Runs `longtail ARGS`; what it printed, and JSON where --json is among the arguments."""

    def go(*args, code=0):
        result = CliRunner().invoke(app, [*map(str, args)], env={"LONGTAIL_STATE_DIR": str(stack.settings.state_dir)})
        assert result.exit_code == code, result.output
        return json.loads(result.stdout) if "--json" in args else result.output

    return go


def test_a_dataset_s_life_from_a_folder_on(stack, run, tmp_path):
    name = stack.name("typed")
    for n in range(24):
        folder = tmp_path / "images" / f"kind {n % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        scene(n).save(folder / f"{n}.png")
    uri = f"s3://team-data/{name}"
    assert f"24 files lie below {uri}" in run("datasets", "upload", tmp_path / "images", uri)
    registered = run("datasets", "register", name, uri, "--val", 0.25, "--json")
    assert (registered["images"], registered["version"]) == (24, 1)
    assert f"{name} " in run("datasets", "list")
    run("jobs", "wait", registered["inspection"])
    page = tmp_path / "health.html"
    said = run("datasets", "health", name, "--page", page)
    assert "kind 0                   9     3     0" in said
    assert "duplicates: 0 groups exactly the same, 0 nearly, 0 in two splits" in said
    html = page.read_text()
    assert "kind 1" in html and "<svg" in html
    assert "http://" not in html and "https://" not in html and "src=" not in html
    Image.new("RGB", (50, 40), (200, 30, 30)).save(tmp_path / "images" / "kind 0" / "new.png")
    run("datasets", "upload", tmp_path / "images", uri)
    again = run("datasets", "rescan", name, "--json")
    assert (again["version"], again["added"]) == (2, 1)
    assert "     1 added" in run("datasets", "diff", name, 1, 2)
    assert run("datasets", "withdraw", name, "kind 0/new.png", "--dry-run", "--json")["paths"] == ["kind 0/new.png"]
    assert run("datasets", "withdraw", name, "kind 0/new.png", "--reason", "consent", "--json")["version"] == 3
    assert "v2" in run("datasets", "versions", name)
    assert "-> v1" in run("datasets", "rollback", name, 1)
    assert run("datasets", "collect", name, "--keep-last", 1, "--grace-hours", 0, "--json")["dry_run"] is True
    run("datasets", "download", name, 1, tmp_path / "v1.tar", "--format", "imagefolder")
    with tarfile.open(tmp_path / "v1.tar") as tar:
        assert sum(n.endswith(".png") for n in tar.getnames()) == 24
    assert run("datasets", "export", name, 1, "--format", "webdataset", "--json")["images"] == 24


def test_health_says_which_classes_have_boxes_of_odd_sizes(stack, run, cells):
    stack.client.wait(stack.client.post(f"/v1/datasets/{cells}/versions/1/inspections")["job"], timeout_s=180)
    said = run("datasets", "health", cells, "--version", 1)
    assert "WBC: 1 of odd size (usual: 47 to 718 px); --page shows them" in said
    assert "RBC: " not in said


def test_what_an_addition_is_worth_is_asked_and_read(stack, run, tmp_path):
    """Two runs of each arm by a trainer that likes images, on few test objects."""
    name = tasted(stack, images=24, val=0.25, test=0.25)
    grown = with_four(stack, name, seed=0)
    asked = ["evaluations", "create", name, "--candidate", grown, "--trainer", "fond", "--arm", "real", "--arm", "longtail", "--share", 0, "--seeds", 2]
    asked += ["--figure", "liking", "--side-px", 64, "--augment", "standard"]
    said = run(*asked)
    assert "inconclusive" in said and "2 paired runs" in said and "longtail - real" in said and "20 of each are needed" in said
    key = next(word.rstrip(":") for word in said.split() if word.startswith("job-"))
    request = run("evaluations", "show", key, "--json")["request"]
    assert (request["candidate"], request["figure"], request["side_px"]) == (grown, "liking", 64)
    assert request["augment"] == json.loads(json.dumps(resolve("standard")))
    assert "inconclusive" in run("evaluations", "show", key)
    run("evaluations", "report", key, tmp_path / "worth.html")
    assert "What did not go well" in (tmp_path / "worth.html").read_text()


@pytest.mark.parametrize(
    ("options", "says"),
    [(["--candidate", 99], "has no version 99"), (["--generator", 1, "--novelty", 2], "novelty"), (["--generator", 1, "--class", "nobody"], "unknown class"),
     (["--candidate", 1, "--weights", "some"], "weights"), (["--candidate", 1, "--side-px", 8], "side_px"),
     (["--candidate", 1, "--augment", "some"], "augment"), ([], "candidate")],
    ids=["no_version", "novelty", "class", "weights", "side", "policy", "nothing"],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused_in_a_line(run, cells, options, says):
    assert says in " ".join(run("evaluations", "create", cells, *options, code=1).split())


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["health", "nobody"], "no dataset 'nobody'"),
        (["register", "../x", "s3://team-data/x"], "dataset name"),
        (["upload", "/no/such/folder", "s3://team-data/x"], "is not a folder"),
        (["withdraw", "cells", "nope.jpg"], "nope.jpg"),
    ],
)
def test_what_is_refused_is_one_line_and_an_exit_code(run, cells, args, says):
    assert says in " ".join(run("datasets", *args, code=1).split())


def test_without_a_stack_the_command_says_how_to_start_one(tmp_path):
    result = CliRunner().invoke(app, ["datasets", "list", "--state", str(tmp_path)])
    assert result.exit_code == 3
    assert "longtail up" in result.output


def test_options_of_a_recipe_are_read_as_json_or_as_text():
    assert [option(t) for t in ("loss=hinge", "batch=32", "novelty_range=[0, 0.5]", "spectral_norm=true")] == [
        ("loss", "hinge"), ("batch", 32), ("novelty_range", [0, 0.5]), ("spectral_norm", True),
    ]  # fmt: skip
    with pytest.raises(typer.BadParameter, match="NAME=VALUE"):
        option("loss")

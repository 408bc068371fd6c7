"""`longtail datasets ...`: what is registered, how it is, what becomes of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from infra.objects import Objects
from longtail.errors import InvalidRequest
from longtail.names import split_uri
from services.cli.asking import DEFAULT_STATE, AsJson, NoWait, StateDir, ask, client, console, emit, refusals, settings_of

datasets = typer.Typer(no_args_is_help=True, help="datasets and their versions")
SkipProblems = Annotated[bool, typer.Option("--skip-problems", help="leave out what has a problem, and list it")]


@datasets.command()
def upload(folder: Path, uri: str, state: StateDir = DEFAULT_STATE) -> None:
    """Puts a folder's files below s3://bucket/prefix, for those who have no S3 client at hand; makes the bucket."""
    with refusals():
        settings = settings_of(state)
        bucket, _ = split_uri(uri)
        if not folder.is_dir():
            raise InvalidRequest(f"{folder} is not a folder")
        objects = Objects(settings)
        objects.ensure_bucket(bucket)
        files = [f for f in sorted(folder.rglob("*")) if f.is_file()]
        with ThreadPoolExecutor(8) as pool, Progress(console=console, transient=True) as bar:
            list(bar.track(pool.map(lambda f: objects.write_file(f"{uri.rstrip('/')}/{f.relative_to(folder).as_posix()}", f), files), total=len(files)))
        console.print(f"{len(files)} files lie below {uri}; register them with `longtail datasets register NAME {uri}`")


@datasets.command()
def register(
    name: str, uri: str,
    format: Annotated[str, typer.Option(help="auto, coco, yolo, voc, masks (image + mask pairs) or imagefolder")] = "auto",
    skip_problems: SkipProblems = False,
    val: Annotated[float | None, typer.Option(help="deal splits, for a source that has none: this share for val, 0 unless named")] = None,
    test: Annotated[float | None, typer.Option(help="deal splits: this share for test, 0 unless named")] = None,
    split_seed: int = 0, state: StateDir = DEFAULT_STATE, no_wait: NoWait = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Registers what lies at s3://bucket/prefix; no image is copied."""
    body: dict[str, Any] = {"name": name, "uri": uri, "format": format, "on_problem": "skip" if skip_problems else "fail"}
    if val is not None or test is not None:
        body["splits"] = {"val": val or 0.0, "test": test or 0.0, "seed": split_seed}
    ask("/v1/datasets", body, state, no_wait, as_json)


@datasets.command("list")
def list_all(state: StateDir = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """Every dataset, with its latest version."""
    with refusals():
        found = client(state).get("/v1/datasets")
        lines = (
            f"{d['id']:24s} {d['format']:12s} v{d['latest']} {proven(d['latest_proof'], d['latest_accepted_unproven'])}  {d['uri']}" for d in found["items"]
        )
        emit(found, as_json, "\n".join(lines))


def proven(proof: str | None, accepted: bool | None) -> str:
    """What is proven of a version, and whether it was made the latest without."""
    return f"({proof or 'being registered'}{', accepted unproven' if accepted else ''})"


@datasets.command()
def versions(name: str, state: StateDir = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """The versions of a dataset: from which they come, and what is proven of them."""
    with refusals():
        found = client(state).get(f"/v1/datasets/{name}/versions")
        lines = []
        for v in found["items"]:
            accepted = "accepted unproven; " if v["accepted_unproven"] else ""
            lines.append(f"v{v['number']:<4d} from {v['parent'] or '-'!s:4s} {v['state']:9s} proof {v['proof']:13s} {accepted}{v['note']}")
        emit(found, as_json, "\n".join(lines))


@datasets.command()
def health(
    name: str, version: int | None = None,
    page: Annotated[Path | None, typer.Option(help="write the page with plots to this file")] = None,
    state: StateDir = DEFAULT_STATE, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Counts per class and split, which classes are rare, and what is there more than once."""
    with refusals():
        served = client(state)
        found = served.get(f"/v1/datasets/{name}/health", **({"version": version} if version else {}))
        if page is not None:
            page.write_bytes(b"".join(served.download(f"/v1/datasets/{name}/versions/{found['version']}/health.html")))
            console.print(f"{page}: open it in a browser")
        lines = [f"version {found['version']} {proven(found['proof'], found['accepted_unproven'])}", f"{'class':20s} train   val  test"]
        for c in found["classes"]:
            n = c["instances"]
            lines.append(f"{c['name']:20s} {n['train']:5d} {n['val']:5d} {n['test']:5d}{'  rare' if c['rare'] else ''}")
        copies = found["copies"]
        groups = {k: copies[k]["groups"] for k in ("exact", "near", "leaking")} if copies else None
        lines.append(
            "duplicates: not looked for yet" if groups is None
            else f"duplicates: {groups['exact']} groups exactly the same, {groups['near']} nearly, {groups['leaking']} in two splits"
        )  # fmt: skip
        odd = found["odd_boxes"]["classes"] if found["odd_boxes"] else {}
        lines += [f"{n}: {o['odd']} of odd size (usual: {o['usual_px'][0]} to {o['usual_px'][1]} px); --page shows them" for n, o in odd.items()]
        emit(found, as_json, "\n".join(lines))


@datasets.command()
def rescan(name: str, skip_problems: SkipProblems = False, state: StateDir = DEFAULT_STATE, no_wait: NoWait = False, as_json: AsJson = False) -> None:
    """Looks at the source again; what differs there becomes a new version."""
    ask(f"/v1/datasets/{name}/rescans", {"on_problem": "skip" if skip_problems else "fail"}, state, no_wait, as_json)


@datasets.command()
def inspect(name: str, version: int, state: StateDir = DEFAULT_STATE, no_wait: NoWait = False, as_json: AsJson = False) -> None:
    """Looks at every real image of a version for duplicates and leakage."""
    ask(f"/v1/datasets/{name}/versions/{version}/inspections", {}, state, no_wait, as_json)


@datasets.command()
def diff(name: str, base: int, candidate: int, state: StateDir = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """What one version adds to another, lacks of it, and has otherwise."""
    with refusals():
        found = client(state).get(f"/v1/datasets/{name}/diff", base=base, candidate=candidate)
        lines = [f"{found[k]:6d} {k}" for k in ("added", "removed", "changed")]
        for c in found["classes"]:
            lines.append(f"{c['name']:20s} " + "  ".join(f"{split} {a} -> {b}" for split, (a, b) in c["instances"].items()))
        emit(found, as_json, "\n".join(lines))


@datasets.command()
def rollback(
    name: str, version: int, accept_unproven: bool = False, why: Annotated[str, typer.Option(help="kept in the log of moves")] = "",
    state: StateDir = DEFAULT_STATE, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Moves `latest` to any version, back or, if it is proven or that is accepted, forward. Rewrites nothing."""
    with refusals():
        found = client(state).post(f"/v1/datasets/{name}/latest", {"version": version, "accept_unproven": accept_unproven, "why": why})
        said = proven(found["proof"], found["accepted_unproven"])
        emit(found, as_json, f"latest of {name}: v{found['before']} -> v{found['latest']} {said}")


@datasets.command()
def moves(name: str, state: StateDir = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """Who moved `latest`, when, from what to what, and why; newest first."""
    with refusals():
        found = client(state).get(f"/v1/datasets/{name}/latest")
        lines = (f"{m['created']}  v{m['before'] or '-'} -> v{m['version']} {proven(m['proof'], m['accepted_unproven'])}  {m['who']}: {m['why']}"
                 for m in found["items"])  # fmt: skip
        emit(found, as_json, "\n".join(lines))


@datasets.command()
def withdraw(
    name: str, paths: Annotated[list[str], typer.Argument(help="paths at the source")],
    reason: Annotated[str, typer.Option(help="consent, label or other")] = "other",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only list what would go")] = False,
    state: StateDir = DEFAULT_STATE, no_wait: NoWait = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Takes source images out with all that was made from them, and publishes without."""
    ask(f"/v1/datasets/{name}/withdrawals", {"paths": paths, "reason": reason, "dry_run": dry_run}, state, no_wait, as_json)


@datasets.command()
def collect(
    name: str, free: Annotated[bool, typer.Option("--free", help="really free it; without, it is only listed")] = False,
    keep_last: Annotated[int | None, typer.Option(help="also drop versions but the last so many, and those that something needs")] = None,
    grace_hours: float = 1.0, state: StateDir = DEFAULT_STATE, no_wait: NoWait = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Frees what nothing needs any more."""
    body = {"dry_run": not free, "keep_last": keep_last, "grace_hours": grace_hours}
    ask(f"/v1/datasets/{name}/collections", body, state, no_wait, as_json)


@datasets.command()
def export(
    name: str, version: int, format: str = "coco", destination: str | None = None, state: StateDir = DEFAULT_STATE, no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Writes a version as a prefix in the bucket."""
    ask(f"/v1/datasets/{name}/versions/{version}/exports", {"format": format, "destination": destination}, state, no_wait, as_json)


@datasets.command()
def download(name: str, version: int, out: Path, format: str = "coco", state: StateDir = DEFAULT_STATE) -> None:
    """Streams a version as a tar into a file."""
    with refusals():
        chunks = client(state).download(f"/v1/datasets/{name}/versions/{version}/archive", format=format)
        with out.open("wb") as file, Progress(console=console, transient=True) as bar:
            task = bar.add_task(str(out), total=None)
            for chunk in chunks:
                file.write(chunk)
                bar.update(task, advance=len(chunk))
        console.print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")

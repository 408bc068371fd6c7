"""How a benchmark says what it found: a table for people, a JSON file for the record."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"


@dataclass(frozen=True)
class Figure:
    """One measured value beside its target; `holds` is None where there is none."""

    name: str
    value: float
    unit: str
    target: str = ""
    holds: bool | None = None
    spread: tuple[float, float] | None = None


def once(kept: Path, measure: Callable[[], Any]) -> Any:
    """What `measure` gives as plain JSON values, read back where it was measured before."""
    if not kept.exists():
        found = measure()
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(found))
    return json.loads(kept.read_text())


def save(name: str, figures: list[Figure], *, quick: bool, gpu: str = "no GPU") -> None:
    """Prints the table and writes benchmarks/results/NAME.json."""
    print(f"\n{name}{' (quick)' if quick else ''}")
    width = max(len(f.name) for f in figures)
    for f in figures:
        holds = "" if f.holds is None else f"{f.target}: holds" if f.holds else f"{f.target}: DOES NOT HOLD"
        print(f"  {f.name:{width}}  {f.value:>12.4g} {f.unit:10} {holds}")
    body = {
        "benchmark": name,
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {gpu}",
        "quick": quick,
        "figures": [asdict(f) for f in figures],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}{'-quick' if quick else ''}.json").write_text(json.dumps(body, indent=1) + "\n")


def commit() -> str:
    """The commit that is measured; empty where there is no git to ask."""
    if shutil.which("git") is None:
        return ""
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()


def markdown(rows: Mapping[str, Mapping[str, float]], first: str, said: Callable[[str, float], str]) -> str:
    """A table with a line for each row and a column for each figure, as `said` of its name and value; `first` is over the rows' names."""
    titles = list(next(iter(rows.values())))
    lines = [[first, *titles], ["---"] * (len(titles) + 1), *([name, *(said(t, row[t]) for t in titles)] for name, row in rows.items())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write_between(page: Path, name: str, body: str) -> None:
    """Puts what was measured between a page's <!-- name --> and <!-- /name -->."""
    before, _, rest = page.read_text().partition(f"<!-- {name} -->")
    _, found, after = rest.partition(f"<!-- /{name} -->")
    if not found:
        raise ValueError(f"{page.name} has no <!-- {name} --> ... <!-- /{name} -->")
    page.write_text(f"{before}<!-- {name} -->\n{body}\n<!-- /{name} -->{after}")

"""How a benchmark says what it found: a table for people, a JSON file for the record."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

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


def save(name: str, figures: list[Figure], *, quick: bool) -> None:
    """Prints the table and writes benchmarks/results/NAME.json."""
    table = Table("figure", "value", "unit", "target", "holds", title=name + (" (quick)" if quick else ""))
    for f in figures:
        table.add_row(f.name, f"{f.value:.3f}", f.unit, f.target, "" if f.holds is None else "yes" if f.holds else "NO")
    Console().print(table)
    body = {
        "benchmark": name,
        "commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, no GPU",
        "quick": quick,
        "figures": [asdict(f) for f in figures],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}{'-quick' if quick else ''}.json").write_text(json.dumps(body, indent=1) + "\n")


def write_between(page: Path, name: str, body: str) -> None:
    """Puts what was measured between a page's <!-- name --> and <!-- /name -->."""
    before, _, rest = page.read_text().partition(f"<!-- {name} -->")
    _, found, after = rest.partition(f"<!-- /{name} -->")
    if not found:
        raise ValueError(f"{page.name} has no <!-- {name} --> ... <!-- /{name} -->")
    page.write_text(f"{before}<!-- {name} -->\n{body}\n<!-- /{name} -->{after}")

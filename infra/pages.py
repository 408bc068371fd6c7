"""Self-contained HTML pages: their look, escaped text, tables, pictures and curves inside them. Nothing in them is fetched from elsewhere."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2rem auto;padding:0 1rem;color:#1c2230}
h1{margin-bottom:0}h2{margin-top:2.4rem;border-bottom:1px solid #d5d9e2;padding-bottom:.2rem}
table{border-collapse:collapse;margin:.6rem 0}td,th{padding:.25rem .7rem;text-align:left;border-bottom:1px solid #e6e9ef;vertical-align:middle}
td.n{text-align:right;font-variant-numeric:tabular-nums}.passed,.helped,.positive{color:#0a7a3d}.bad,.failed,.harmed,.negative{color:#b3261e}
.unknown,.inconclusive{color:#8a6d00}.rare{background:#fff4e0}.note{color:#5b6372}
.crop{position:relative;display:inline-block;margin:.2rem}.crop img{display:block}
.box{position:absolute;border:2px solid #e5007d;box-sizing:border-box}figure{display:inline-block;margin:.3rem;vertical-align:top}
figcaption{font-size:12px;color:#5b6372}figure img{max-width:100%}pre{background:#f4f6f9;padding:.8rem;overflow:auto}code{background:#f4f6f9;padding:0 .2rem}
svg text{font:11px system-ui,sans-serif;fill:#5b6372}
"""
MARKED = frozenset({"passed", "failed", "unknown", "helped", "harmed", "inconclusive", "positive", "negative"})
CURVE_PX = (320, 90)
CROP_PX = 150


@dataclass(frozen=True)
class Link:
    """A link, in a cell of a table or by its `str` within other markup."""

    where: str
    what: str

    def __str__(self) -> str:
        return f'<a href="{text(self.where)}">{text(self.what)}</a>'


def document(title: str, *parts: str) -> str:
    return f"<!doctype html><html lang=en><meta charset=utf-8><title>{text(title)}</title><style>{STYLE}</style>{''.join(parts)}</html>"


def inside(page: str) -> str:
    """What a document holds, to be shown within another."""
    return page.partition("</style>")[2].removesuffix("</html>")


def folded(title: str, *parts: str) -> str:
    """Parts that open at a click on their title."""
    return f"<details><summary>{text(title)}</summary>{''.join(parts)}</details>"


def text(value: object) -> str:
    """The value as text that no browser takes for markup."""
    return html.escape(str(value))


def listed(lines: Iterable[str], *, none: str = "nothing") -> str:
    return "<ul>" + ("".join(f"<li>{text(line)}</li>" for line in lines) or f"<li>{text(none)}</li>") + "</ul>"


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    top = "".join(f"<th>{text(t)}</th>" for t in titles)
    lines = "".join("<tr>" + "".join(cell(v) for v in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{lines}</table>"


def cell(value: object) -> str:
    """Numbers to the right, a verdict in its colour."""
    if isinstance(value, Link):
        return f"<td>{value}</td>"
    if isinstance(value, float):
        return f"<td class=n>{value:.3f}</td>"
    if isinstance(value, int):
        return f"<td class=n>{value}</td>"
    marked = f" class={value}" if value in MARKED else ""
    return f"<td{marked}>{text(value)}</td>"


def figure(png: bytes, caption: str) -> str:
    """A picture inside the page."""
    data = base64.b64encode(png).decode()
    return f'<figure><img alt="{text(caption)}" src="data:image/png;base64,{data}"><figcaption>{text(caption)}</figcaption></figure>'


def crop(picture: Mapping[str, Any], *, box: Sequence[float] | None = None, caption: str = "", side_px: int = CROP_PX) -> str:
    """A picture given as width, height and base64 PNG, shown with `side_px` on its longer side, with a frame about a box xyxy in its pixels."""
    scale = side_px / max(picture["width"], picture["height"])
    frame = ""
    if box is not None:
        x0, y0, x1, y1 = (v * scale for v in box)
        frame = f'<span class=box style="left:{x0:.0f}px;top:{y0:.0f}px;width:{x1 - x0:.0f}px;height:{y1 - y0:.0f}px"></span>'
    size = f"width={picture['width'] * scale:.0f} height={picture['height'] * scale:.0f}"
    image = f'<span class=crop><img alt="{text(caption)}" {size} src="data:image/png;base64,{picture["png"]}">{frame}</span>'
    return f"<figure>{image}<figcaption>{text(caption)}</figcaption></figure>"


def without_pictures(page: str) -> str:
    """The page without its pictures; curves stay."""
    return re.sub(r"<figure><img .*?</figure>", "", page, flags=re.DOTALL)


def neighbours(sample: Mapping[str, Any]) -> str:
    """A sample as GET /v1/batches/NAME/pictures gives it: what was there before, the mask, what was made, and the nearest real object."""
    figures = sample["verdict"]["figures"]
    row = (crop(sample["real"], caption="real") + crop(sample["mask"], caption="mask")) if "real" in sample else ""
    row += crop(sample["made"], box=sample["box"], caption=", ".join([sample["state"], *sample["verdict"]["reasons"]]))
    distance = f", {figures['nearest_distance']:.2f} away" if "nearest_distance" in figures else ""
    if "nearest" in sample:
        row += crop(sample["nearest"], caption=f"nearest real{distance}")
    apart = f" · apart {figures['apart']:.2f}" if "apart" in figures else ""
    return f"<div>{row}<span class=note>{text(sample['id'])} · agreement {figures['agreement']:.2f}{apart}</span></div>"


def curve(title: str, points: Sequence[tuple[float, float]], *, along: str) -> str:
    """A line through (x, y), both axes linear, with the least and greatest y; empty for fewer than two points."""
    if len(points) < 2:
        return ""
    width, height = CURVE_PX
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    span_x, span_y = (max(xs) - min(xs)) or 1.0, (max(ys) - min(ys)) or 1.0
    line = " ".join(f"{width * (x - min(xs)) / span_x:.1f},{2 + (height - 4) * (1 - (y - min(ys)) / span_y):.1f}" for x, y in points)
    axis = f'<line x1=0 y1={height} x2={width} y2={height} stroke="#c3c9d4"/><text x={width} y={height + 14} text-anchor=end>{text(along)} {max(xs):g}</text>'
    ends = f"<text x={width + 6} y=12>{max(ys):.3g}</text><text x={width + 6} y={height}>{min(ys):.3g}</text>"
    drawn = f'<polyline points="{line}" fill=none stroke="#3b6fd4" stroke-width=1.5 />'
    return f"<figure><svg width={width + 60} height={height + 18}>{axis}{drawn}{ends}</svg><figcaption>{text(title)}</figcaption></figure>"


def shown_interval(interval: Sequence[float | None]) -> str:
    """Ends with their signs; an end that could not be had may lie anywhere."""
    return " to ".join("anything" if v is None else f"{v:+.3f}" for v in interval)

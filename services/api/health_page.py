"""The health of a version as one self-contained page: what a person looks at before growing a dataset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from infra.pages import crop, document, text
from longtail.datasets import RARE_SHARE, TINY_PX
from longtail.gates import MAX_NOVELTY_WHEN_FEW, MIN_INSTANCES_TO_INVENT
from longtail.samples import SPLITS

COLOURS = {"train": "#3b6fd4", "val": "#e0a526", "test": "#7a8699"}
BAR_PX, HIST_PX, MAP_PX = 420, 200, 88


def health_page(dataset: str, version: dict[str, Any], inspected: dict[str, Any], pictures: Sequence[dict[str, Any]]) -> str:
    """HTML of what `GET .../health` says of a version, with pictures of odd boxes; nothing in it is fetched from elsewhere."""
    health, number = version["health"], version["number"]
    classes = health["classes"]
    parts = [f"<h1>{text(dataset)}, version {number}</h1>", head(health), proven(version), findings(classes, **inspected)]
    parts += [odd_ones(inspected["odd_boxes"], pictures), counts(classes), boxes(classes), targets(classes)]
    return document(f"{dataset} v{number}", *parts, copies_of(inspected["copies"]))


def proven(version: dict[str, Any]) -> str:
    """What is proven of the synthetic images, where there are any."""
    if not version["health"]["synthetic_images"]:
        return ""
    accepted = "; it was accepted unproven, on request" if version["accepted_unproven"] else ""
    return f"<p>Proof: <b class={version['proof']}>{version['proof']}</b>{accepted}.</p>"


def head(health: dict[str, Any]) -> str:
    images = ", ".join(f"{health['images'][s]} {s}" for s in SPLITS)
    imbalance = f"; the largest class has {health['imbalance']:.1f} times what the smallest has" if health["imbalance"] else ""
    return f"<p class=note>{images} images; {health['synthetic_images']} synthetic, {health['unlabelled_images']} without labels{imbalance}.</p>"


def findings(classes: Sequence[dict[str, Any]], copies: dict[str, Any] | None, odd_boxes: dict[str, Any] | None) -> str:
    """What is wrong, first."""
    lines = []
    for c in classes:
        if not c["own"]:
            lines.append(f"{c['name']}: no training instance, so that nothing can be made of it")
        elif c["own"] < MIN_INSTANCES_TO_INVENT:
            allowed = f"novelty up to {MAX_NOVELTY_WHEN_FEW}, or copy_paste"
            lines.append(f"{c['name']}: {c['own']} training instances; with fewer than {MIN_INSTANCES_TO_INVENT} ask for {allowed}")
        for split in ("val", "test"):
            if c["own"] and not c["instances"][split] and any(other["instances"][split] for other in classes):
                lines.append(f"{c['name']}: none in {split}, so nothing measured there speaks of it")
        if c["tiny"]:
            lines.append(f"{c['name']}: {c['tiny']} boxes are smaller than {TINY_PX} px on their longer side")
        if c.get("degenerate"):
            lines.append(f"{c['name']}: {c['degenerate']} boxes are thinner than 2 px or reach out of their image")
    for name, found in (odd_boxes["classes"] if odd_boxes else {}).items():
        low, high = found["usual_px"]
        are = "1 box is" if found["odd"] == 1 else f"{found['odd']} boxes are"
        lines.append(f"{name}: {are} of a size unlike the others' (usual: {low} to {high} px); a wrong label, perhaps")
    if copies:
        for kind, said in (("leaking", "are in two splits at once"), ("exact", "are byte for byte the same"), ("near", "look the same")):
            if copies[kind]["groups"]:
                lines.append(f"{copies[kind]['images']} images in {copies[kind]['groups']} groups {said}")
        lines += copies["unread"][:10]
    items = "".join(f"<li class=bad>{text(line)}</li>" for line in lines) or "<li>nothing</li>"
    return f"<h2>What to look at</h2><ul>{items}</ul>"


def odd_ones(odd: dict[str, Any] | None, pictures: Sequence[dict[str, Any]]) -> str:
    """Boxes that are much smaller or larger than their class's, each in its surroundings; left out where there is none."""
    if not odd or not odd["boxes"]:
        return ""
    figures = [crop(p["picture"], box=p["box"], caption=f"{p['class_name']}, {p['side_px']} px: {p['path']} ({p['split']})") for p in pictures]
    shown = "Furthest from their class first" if odd["boxes"] == len(pictures) else f"{len(pictures)} of {odd['boxes']}, furthest from their class first"
    todo = "Is each what its label says? Correct the source and look again (<code>rescan</code>), or <code>withdraw</code> the image."
    note = f"<p class=note>{shown}. {todo}</p>"
    return f"<h2>Boxes of odd sizes</h2>{note}{''.join(figures)}"


def counts(classes: Sequence[dict[str, Any]]) -> str:
    most = max((sum(c["instances"].values()) for c in classes), default=0) or 1
    rows = []
    for c in sorted(classes, key=lambda c: -c["own"]):
        n = c["instances"]
        numbers = "".join(f"<td class=n>{n[s]}</td>" for s in SPLITS)
        rows.append(f"<tr{' class=rare' if c['rare'] else ''}><td>{text(c['name'])}</td>{numbers}<td class=n>{c['synthetic']}</td><td>{bar(n, most)}</td></tr>")
    legend = " ".join(f'<span style="color:{colour}">■</span> {split}' for split, colour in COLOURS.items())
    titles = "".join(f"<th>{t}</th>" for t in ("class", *SPLITS, "synthetic", ""))
    note = f"<p class=note>Shaded: rare, fewer than {RARE_SHARE:.0%} of the largest class's training instances. {legend}</p>"
    return f"<h2>Instances</h2><table><tr>{titles}</tr>{''.join(rows)}</table>{note}"


def bar(instances: dict[str, int], most: int) -> str:
    """One stacked bar, linear from zero."""
    x, parts = 0.0, []
    for split in SPLITS:
        width = BAR_PX * instances[split] / most
        parts.append(f'<rect x={x:.1f} y=2 width={width:.1f} height=12 fill="{COLOURS[split]}"/>')
        x += width
    return f"<svg width={BAR_PX} height=16>{''.join(parts)}</svg>"


def boxes(classes: Sequence[dict[str, Any]]) -> str:
    """Sizes and places, a row a class; left out where no class has a box."""
    rows = []
    largest = max((c["largest_side_px"] or 0 for c in classes), default=0)
    for c in (c for c in classes if c["sides_px"]):
        size = f"{c['smallest_side_px']}, {c['median_side_px']:.0f}, {c['largest_side_px']}"
        rows.append(f"<tr><td>{text(c['name'])}</td><td class=n>{size}</td><td>{histogram(c['sides_px'], largest)}</td><td>{heat(c['centres'])}</td></tr>")
    if not rows:
        return ""
    titles = "".join(f"<th>{t}</th>" for t in ("class", "least, median, most", "longer side, px", "where centres lie"))
    return f"<h2>Boxes</h2><table><tr>{titles}</tr>{''.join(rows)}</table>"


def histogram(sides: dict[Any, int], largest: float) -> str:
    """Counts of longer sides in 20 equal bins up to the dataset's largest."""
    bins = [0] * 20
    for side, count in sides.items():
        bins[min(19, int(20 * int(side) / (largest + 1)))] += count
    most, width = max(bins) or 1, HIST_PX / 20
    bars = "".join(
        f'<rect x={i * width:.1f} y={50 - 48 * n / most:.1f} width={width - 1:.1f} height={48 * n / most:.1f} fill="#3b6fd4"/>' for i, n in enumerate(bins) if n
    )
    axis = f'<line x1=0 y1=50.5 x2={HIST_PX} y2=50.5 stroke="#c3c9d4"/><text x=0 y=62>0</text><text x={HIST_PX} y=62 text-anchor=end>{largest:.0f}</text>'
    return f"<svg width={HIST_PX} height=66>{bars}{axis}</svg>"


def heat(centres: Sequence[Sequence[int]]) -> str:
    """How many centres lie in each cell of the image, darker for more."""
    most = max((n for row in centres for n in row), default=0) or 1
    side = MAP_PX / len(centres)
    cells = "".join(
        f'<rect x={x * side:.1f} y={y * side:.1f} width={side:.1f} height={side:.1f} fill="#3b6fd4" fill-opacity="{n / most:.2f}"><title>{n}</title></rect>'
        for y, row in enumerate(centres)
        for x, n in enumerate(row)
        if n
    )
    return f'<svg width={MAP_PX} height={MAP_PX}>{cells}<rect width={MAP_PX} height={MAP_PX} fill=none stroke="#c3c9d4"/></svg>'


def targets(classes: Sequence[dict[str, Any]]) -> str:
    """What an expansion to the threshold of rarity would add."""
    lacking = {c["name"]: c for c in classes if c["lacking"]}
    if not lacking:
        return "<h2>What an expansion would aim for</h2><p class=note>Nothing: no class is rare.</p>"
    rows = "".join(f"<tr><td>{text(n)}</td><td class=n>{c['own']}</td><td class=n>{c['own'] + c['lacking']}</td></tr>" for n, c in lacking.items())
    note = f"<p class=note>To {RARE_SHARE:.0%} of the largest class: the <code>targets</code> of <code>POST /v1/expansions</code>.</p>"
    return f"<h2>What an expansion would aim for</h2><table><tr><th>class</th><th>has</th><th>target</th></tr>{rows}</table>{note}"


def copies_of(copies: dict[str, Any] | None) -> str:
    if copies is None:
        return "<h2>Duplicates</h2><p class=note>Not looked for yet: the inspection of this version has not ended.</p>"
    parts = [f"<h2>Duplicates</h2><p class=note>{copies['images']} real images were looked at.</p>"]
    for kind, title in (("leaking", "In two splits at once"), ("exact", "Byte for byte the same"), ("near", "Nearly the same")):
        if copies[kind]["groups"]:
            parts.append(f"<h3>{title}: {copies[kind]['groups']} groups</h3><ul>{''.join(group(g) for g in copies[kind]['first'])}</ul>")
    if len(parts) == 1:
        parts.append("<p>No two are the same, exactly or nearly.</p>")
    return "".join(parts)


def group(members: Iterable[dict[str, str]]) -> str:
    return "<li>" + " · ".join(f"{text(m['path'])} ({m['split']})" for m in members) + "</li>"

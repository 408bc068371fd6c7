"""One self-contained HTML page of what a demo run found: pictures beside figures, failures first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from infra.pages import document, listed, neighbours, table, text
from services.demo.picture import dial_picture

WIDTH = 130


def write_report(out: Path, found: dict[str, Any], seconds: dict[str, float]) -> Path:
    """Writes report.html, its machine-readable twin and dial.png; returns the page's path."""
    out.mkdir(parents=True, exist_ok=True)
    page = out / "report.html"
    sections = (head, failures, counts, previews, samples, gates, uplift, versions, provenance)
    body = "\n".join(section(found) for section in sections) + timing(seconds)
    page.write_text(document("Longtail", body), encoding="utf-8")
    (out / "dial.png").write_bytes(dial_picture(found["previews"]))
    twin = {k: v for k, v in found.items() if k not in ("previews", "pictures", "sample_image")}
    (out / "report.json").write_text(json.dumps({**twin, "seconds": seconds}, indent=1))
    return page


def head(found: dict[str, Any]) -> str:
    return (
        f"<h1>Longtail: {text(found['name'])}</h1><p class=note>Blood-cell images (BCCD, MIT), fifty of them for training. "
        "Synthetic samples enter the training split alone, marked; val and test are real. Nothing here is for diagnosis.</p>"
    )


def failures(found: dict[str, Any]) -> str:
    """What did not go well, first."""
    odd = found["health_after"]["odd_boxes"] or {"first": []}
    failed = [g for g in found["trained"]["gates"] if g["verdict"] == "failed"]
    harmed = [r for r in found["uplift"]["table"] if r["says"] == "harmed"]
    lines = [f"gate {g['name']} of {g['class_name']} failed: {g['figure']:.3f}, wanted {g['threshold']}" for g in failed]
    lines += [f"{r['figure']} was harmed: {r['difference']:+.3f}" for r in harmed]
    if found["uplift"]["proof"] != "positive":
        lines.append(f"the uplift on {found['uplift']['figure']} is {found['uplift']['proof']}: `latest` moved only because the request said accept_unproven")
    lines += [f"batch {b['batch']}: {b['made'] - b['accepted']} of {b['made']} filtered out {b['rejected']}" for b in found["batches"] if b["rejected"]]
    lines += [f"{o['path']} ({o['split']}) has a {o['class_name']} of odd size, {max(o['bbox_xywh'][2:]):.0f} px: a wrong label, perhaps" for o in odd["first"]]
    lines += [f"a preview failed during the swap: {e}" for e in found["swap"]["failed"]]
    return f"<h2>What did not go well</h2>{listed(lines)}"


def counts(found: dict[str, Any]) -> str:
    after = {c["name"]: c for c in found["health_after"]["classes"]}
    rows = []
    for c in found["health"]["classes"]:
        n = c["instances"]
        now = after[c["name"]]
        rows.append([c["name"] + (" (rare)" if c["rare"] else ""), n["train"], now["own"], now["instances"]["train"], n["val"], n["test"]])
    note = "<p class=note>An inpainted image repeats its background's own annotations: shown in the third column, counted for no target.</p>"
    titles = ["class", "train before", "train after", "with repeats", "val", "test"]
    return "<h2>Instances before and after</h2>" + table(titles, rows) + note


def samples(found: dict[str, Any]) -> str:
    parts = ["<h2>Real, mask, inpainted, nearest real neighbour</h2>"]
    for batch, items in found["pictures"].items():
        parts += [f"<h3>{text(batch)}</h3>", *map(neighbours, items)]
    derived: dict[str, int] = {}
    for items in found["pictures"].values():
        for item in items:
            for instance in item["verdict"]["derived_from"]:
                derived[instance] = derived.get(instance, 0) + 1
    most = max(derived.values(), default=0)
    parts.append(f"<p class=note>Of the samples shown, {sum(derived.values())} derive from {len(derived)} real instances, at most {most} from one.</p>")
    return "".join(parts)


def previews(found: dict[str, Any]) -> str:
    parts = ["<h2>The dial: novelty, from fitted to invented</h2>"]
    for title, items in found["previews"].items():
        images = []
        for item in items:
            x0, y0, x1, y1 = item["box_xyxy"]
            side = max(x1 - x0, y1 - y0) * (1.0 if (x0, y0) == (0, 0) else 2.0)
            scale = 110 / side
            left, top = (x0 + x1 - side) / 2 * scale, (y0 + y1 - side) / 2 * scale
            images.append(
                '<span style="display:inline-block;width:110px;height:110px;overflow:hidden;margin:3px;position:relative">'
                f'<img style="position:absolute;left:{-left:.0f}px;top:{-top:.0f}px" width={item["width"] * scale:.0f} '
                f'src="data:{item["content_type"]};base64,{item["image_base64"]}"></span>'
            )
        parts.append(f"<figure>{''.join(images)}<figcaption>{text(title)}</figcaption></figure>")
    return "".join(parts)


def gates(found: dict[str, Any]) -> str:
    rows = []
    for g in sorted(found["trained"]["gates"], key=lambda g: ("failed", "unknown", "passed").index(g["verdict"])):
        figure, low, high = ("not measured" if v is None else f"{v:.3f}" for v in (g["figure"], *g["interval"]))
        interval = f"{low} to {high}"
        rows.append([g["name"], g["class_name"], figure, interval, g["threshold"], g["verdict"], g["count"], g.get("novelty", ""), g["note"]])
    titles = ["gate", "class", "figure", "95 %", "threshold", "verdict", "samples", "novelty", "note"]
    return "<h2>Gates of the generator, against held-out real objects</h2>" + table(titles, rows)


def uplift(found: dict[str, Any]) -> str:
    result = found["uplift"]
    rows = [
        [r["figure"], r["reference"], r["arm"], float(r["difference"]), f"{r['interval'][0]:+.3f} to {r['interval'][1]:+.3f}", r["says"]]
        for r in result["table"]
    ]
    titles = ["figure", "real only", "real + longtail", "difference", "95 % interval over seeds and test images", "says (Holm over the rows)"]
    note = (
        f"<p class=note>{text(result['harness'])}; {len(result['seeds'])} seeds, {result['table'][0]['images']} real test "
        f"images, {result['added']} added; {text(result['figure'])} decides. Version's proof: <b class={result['proof']}>{result['proof']}</b>.</p>"
    )
    return "<h2>Uplift of a detector on the real test split</h2>" + table(titles, rows) + note


def versions(found: dict[str, Any]) -> str:
    swap, exports = found["swap"], found["exports"]
    lines = [
        f"rolled back to version {found['rolled_back']['latest']} and forward to {found['latest']['latest']}",
        f"exported to {exports['coco']} and {exports['yolo']}; streamed {found['archive_bytes'] / 1e6:.1f} MB",
        f"champion moved in MLflow, noticed by {swap['noticed']['who']}: {swap['previews']} previews meanwhile, {len(swap['failed'])} failed",
    ]
    for run in found["runs"]:
        made = f", version {run['outcome']['version']}" if "version" in run["outcome"] else ""
        lines.append(f"scheduled expansion, run by {run['trigger']}: {run['outcome']['did']}{made}")
    return "<h2>Versions, schedule, promotion</h2><ul>" + "".join(f"<li>{text(line)}</li>" for line in lines) + "</ul>"


def provenance(found: dict[str, Any]) -> str:
    sample = found["sample"]
    again = found["again"]
    says = "identical pixels" if again["identical"] else f"largest difference {again['largest_difference']} of 255"
    image = f'<img style="max-width:480px" src="data:image/jpeg;base64,{found["sample_image"]}">'
    return (
        f"<h2>Where one image comes from</h2>{image}<pre>{text(json.dumps(sample['provenance'], indent=1))}</pre>"
        f"<p>Make it again:</p><pre>{text(sample['make_again'])}</pre><p>Done in this run: {says}.</p>"
    )


def timing(seconds: dict[str, float]) -> str:
    return "<h2>How long it took</h2>" + table(["step", "seconds"], [[k, round(v, 1)] for k, v in seconds.items()])

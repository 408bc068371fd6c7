"""An evaluation as one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infra.pages import crop, document, listed, shown_interval, table, text
from longtail.uplift import reservations

SHOWN_PX = 240


def path_of(key: str) -> str:
    """Where the API has an evaluation's page."""
    return f"/v1/evaluations/{key}/report.html"


def page(found: Mapping[str, Any], pictures: Sequence[Mapping[str, Any]]) -> str:
    """HTML of an evaluation, with pictures of the test images that changed most."""
    result, request = found["result"], found["request"]
    title = f"{found['dataset']}: what {subject(request)} is worth"
    return document(
        title,
        f"<h1>{text(title)}</h1>",
        f"<p>On {text(result['figure'])}, with {len(result['seeds'])} paired runs of {request['steps']} steps: "
        f"<b class={result['proof']}>{result['proof']}</b>. {text(policy_line(result))}</p>",
        *(f"<p>{text(line)}</p>" for line in outcome(result)),
        "<h2>What did not go well</h2>",
        listed(hurt(result)),
        "<h2>Arms, on real test images</h2>",
        table(["arm", "images", result["figure"], "least", "most", "on val"], arms(result)),
        *filters(result.get("filtered", {})),
        *changes(result, pictures),
        *(part for name, rows in result["tables"].items() for part in difference(name, rows)),
        f"<p class=note>{text(result['harness'])}. Intervals are over training seeds and test images, for these real images and this addition: another "
        "draw of either may do otherwise.</p>",
    )  # fmt: skip


def filters(filtered: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the filters left of the images that were made for an arm; nothing where none was made for it."""
    if not filtered:
        return []
    lines = [
        [part, f["wanted"], f["made"], f["accepted"], ", ".join(f"{reason} {n / f['made']:.0%}" for reason, n in sorted(f["rejected"].items())) or "none"]
        for part, f in filtered.items()
    ]
    return ["<h2>What the filters left</h2>", table(["made for", "images wanted", "made", "passed", "refused for"], lines)]


def changes(result: Mapping[str, Any], pictures: Sequence[Mapping[str, Any]]) -> list[str]:
    """Test images that lost and gained most, those that lost first; nothing where there are none to show."""
    lost, gained = ([p for p in pictures if sign * (p["after"] - p["before"]) > 0] for sign in (-1, 1))
    missing = len(result.get("changed", [])) - len(pictures)
    if not pictures and not missing:
        return []
    what = ", ".join(result["rare"]) or "all classes"
    about = (
        f"{what}: found (IoU 0.5) less false alarms, counting of each class as many detections as it has objects at most; of whole images right less wrong. "
        "Means over the paired runs, with what there was → with all that was added. "
    ) + (f"{missing} of them cannot be shown any more." if missing else "")
    shown = [f"<h3>{name}</h3>{''.join(map(one_image, some))}" for name, some in (("Lost", lost), ("Gained", gained)) if some]
    return ["<h2>Test images that changed most</h2>", f"<p class=note>{text(about)}</p>", *shown]


def one_image(p: Mapping[str, Any]) -> str:
    return crop(p["picture"], caption=f"{p['path']}: {p['before']:.1f} → {p['after']:.1f}", side_px=SHOWN_PX)


def subject(request: Mapping[str, Any]) -> str:
    if request["candidate"] is not None:
        if request["candidate"] == request["base"]:
            return f"what was made in version {request['candidate']}"
        return f"version {request['candidate']}, which adds to version {request['base']},"
    return f"generator {request['generator']}, {request['count']} images of it added to version {request['base']},"


def policy_line(result: Mapping[str, Any]) -> str:
    chosen = result["policy"]["chosen"]
    if chosen is None:
        return "There is no val split to find out how much to keep."
    known = {"real": "On val nothing of it helps: keep none.", "longtail": "On val all of it does best: keep all."}
    return known.get(chosen, f"On val a part does best: '{chosen}'.")


def outcome(result: Mapping[str, Any]) -> list[str]:
    """What became of it: who gained least, what was published, what `latest` is and why."""
    worst, published = result["worst"], result["published"]
    lines = [] if worst is None else [f"Least for {worst['figure']}: {signed(worst['difference'])} ({worst['says']})."]
    if published is not None:
        lines.append(f"Version {published['version']} was published with {published['kept']} of them, {published['left_out']} left out: {published['proof']}.")
    if result.get("version_proof", result["proof"]) != result["proof"]:
        lines.append(f"With every other evaluation of the version its proof is {result['version_proof']}.")
    return [*lines, *([f"{result['latest_why'].capitalize()}."] if result.get("latest_why") else [])]


def hurt(result: Mapping[str, Any]) -> list[str]:
    """Figures that fell, those that did so for certain first."""
    lines = [f"proof is {result['proof']}"] if result["proof"] != "positive" else []
    lines += [*reservations(result), *result.get("advice", [])]
    rows = [r for r in result["table"] if (r["difference"] or 0) < 0]
    for r in sorted(rows, key=lambda r: (r["says"] != "harmed", r["difference"])):
        lines.append(f"{r['figure']} {signed(r['difference'])} ({shown_interval(r['interval'])}): {r['says']}")
    return lines


def arms(result: Mapping[str, Any]) -> list[list[object]]:
    name, lines = result["figure"], []
    for arm in dict.fromkeys(r["arm"] for r in result["runs"]):
        mine = [r for r in result["runs"] if r["arm"] == arm]
        values = [r["figures"][name] for r in mine if r["figures"][name] is not None] or [float("nan")]
        held = [r["on_val"][name] for r in mine if r["on_val"] and r["on_val"].get(name) is not None]
        lines.append([arm, mine[0]["images"], sum(values) / len(values), min(values), max(values), sum(held) / len(held) if held else "no val split"])
    return lines


def difference(name: str, rows: list[dict[str, Any]]) -> list[str]:
    titles = ["figure", "reference", "arm", "difference", "95 %", "p", "says (Holm over these rows)"]
    lines = [
        [r["figure"], shown(r["reference"]), shown(r["arm"]), signed(r["difference"]), shown_interval(r["interval"]), shown(r["p"]), r["says"]] for r in rows
    ]
    return [f"<h2>{text(name)}</h2>", table(titles, lines)]


def shown(value: float | None) -> object:
    return "not measured" if value is None else float(value)


def signed(value: float | None) -> str:
    return "not measured" if value is None else f"{value:+.3f}"


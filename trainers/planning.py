"""From a request to the exact orders that fulfil it: which background, where, which exemplar, which seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from longtail.boxes import BoxXyxy, area, check_inside, dilate, intersection, xywh_to_xyxy
from longtail.errors import InvalidRequest
from longtail.gates import check_novelty
from longtail.placement import MOST_HIDDEN, place, usually_hidden
from longtail.samples import Mode, Provenance, Sample
from longtail.seeds import derive_id, derive_seed
from trainers.classical import check_policy
from trainers.compose import MASK_DILATION
from trainers.dataset import DatasetView, ObjectRef, boxed, to_lay_elsewhere
from trainers.render import SYNTHESIS_MARGIN
from trainers.upscale import FACTORS

TRIES = 12
EXEMPLARS = 8
LOOKED_AT = 200
"""Instances of which it is asked what they hide of their neighbours, about."""
MIXED_FROM, MIXED_SHARE = 0.3, 0.5
"""From this novelty on, this share of samples takes parts from a second real instance."""


@dataclass(frozen=True)
class Model:
    """The generator that will make the samples; all None for copy-paste."""

    name: str | None = None
    version: int | None = None
    uri: str | None = None


def plan(
    view: DatasetView, request: Mapping[str, Any], *, key: str, model: Model, start: int = 0, count: int | None = None
) -> list[tuple[str, Provenance]]:
    """(sample id, record) for each sample asked for, or for `count` of them from `start` on; the same request and key give the same.

    Raises InvalidRequest for an unknown class, a box outside its image, or where no free place was found, and
    TooFewInstances where the class has too few real instances for the novelty.
    """
    name, mode = str(request["class_name"]), request["mode"]
    instances = list(view.objects("train", classes=[name]))
    novelty = check_novelty(class_name=name, instances=len(instances), novelty=request.get("novelty"), mode=mode)
    boxes, policy = request.get("boxes") or [], request.get("augment")
    if policy:
        check_policy(policy)
    end = asked_for(request) if count is None else start + count
    used_model = Model() if mode == "copy_paste" else model
    if mode == "enlarge":
        return enlargements(instances, request, key=key, model=model, start=start, end=end)
    places = mode != "synthesis" and not boxes
    hidden = usually_hidden([(o.box_xyxy, o.beside) for o in instances[:: max(1, len(instances) // LOOKED_AT)]]) if places else {}
    instances = to_lay_elsewhere(instances)

    def painted(seed: int, asked: Mapping[str, Any] | None, beneath: Provenance | None) -> Provenance | None:
        """The record of one object; None where no place is found for it."""
        rng = np.random.default_rng(seed)
        found = choose(view, mode, asked, instances, rng, hidden=hidden, beneath=beneath)
        if found is None:
            return None
        chosen, background, box = found
        exemplar = None if novelty >= 1 else chosen
        second = another(chosen, instances, rng) if MIXED_FROM <= novelty < 1 and mode != "copy_paste" else None
        return Provenance(
            mode=mode,
            class_name=name,
            seed=seed,
            novelty=novelty,
            model=used_model.name,
            model_version=used_model.version,
            model_uri=used_model.uri,
            background=refer(background) if background else None,
            exemplar=refer_to_object(exemplar) if exemplar else None,
            mixed=refer_to_object(second) if second else None,
            outline=refer_to_object(chosen) if exemplar is None and view.instance(chosen).outline is not None else None,
            box_xyxy=box,
            truncation=request.get("truncation"),
            beneath=beneath,
        )

    orders: list[tuple[str, Provenance]] = []
    for position in range(start, end):
        seed = derive_seed(key if request.get("seed") is None else request["seed"], name, position)
        record = painted(seed, boxes[position] if boxes else None, None)
        if record is None:
            raise InvalidRequest(
                f"no free place for any of {min(EXEMPLARS, len(instances)) + 1} instances was found in {TRIES} training images each; "
                "give boxes of your own, or add training images with more free ground"
            )
        if request.get("interpolate"):
            return along_the_way(record, key, end)
        for nth in range(1, objects_in(request, position)):
            record = painted(derive_seed(seed, "over", nth), None, record) or record
        augment = {"policy": policy, "seed": derive_seed(seed, "augment")} if policy else None
        orders.append((derive_id("syn", key, position), replace(record, augment=augment)))
    return orders


def objects_in(request: Mapping[str, Any], position: int) -> int:
    """How many objects are added to the image at that position, if it has room: those asked for, in the last ones what is left of a `total`."""
    most, total = int(request.get("objects") or 1), request.get("total")
    return most if total is None else max(1, min(most, int(total) - position * most))


def enlargements(
    instances: list[ObjectRef], request: Mapping[str, Any], *, key: str, model: Model, start: int, end: int
) -> list[tuple[str, Provenance]]:
    """Each training image that shows the class once, in an order of the seed's. Raises InvalidRequest where there are not enough."""
    name, factor = str(request["class_name"]), request.get("factor") or FACTORS[0]
    base = key if request.get("seed") is None else request["seed"]
    shown = list({o.sample.id: o for o in instances}.values())
    if end > len(shown):
        raise InvalidRequest(f"mode 'enlarge': class {name!r} is seen in {len(shown)} training images, each can be enlarged once; ask for no more")
    order = np.random.default_rng(derive_seed(base, name, "enlarge")).permutation(len(shown))
    orders = []
    for position in range(start, end):
        found = shown[order[position]]
        x0, y0, x1, y1 = (factor * v for v in found.box_xyxy)
        record = Provenance(
            mode="enlarge", class_name=name, seed=derive_seed(base, name, position), novelty=0.0, model=model.name, model_version=model.version,
            model_uri=model.uri, background=None, exemplar=refer_to_object(found), box_xyxy=(x0, y0, x1, y1), factor=factor,
        )  # fmt: skip
        orders.append((derive_id("syn", key, position), record))
    return orders


def along_the_way(record: Provenance, key: str, count: int) -> list[tuple[str, Provenance]]:
    """The same sample `count` times, its latent on the way to another."""
    towards = [{"seed": derive_seed(record.seed, "towards"), "share": k / max(1, count - 1)} for k in range(count)]
    return [(derive_id("syn", key, k), replace(record, towards=to)) for k, to in enumerate(towards)]


def asked_for(request: Mapping[str, Any]) -> int:
    """How many samples a request is for: one a box, where it names boxes."""
    return len(request.get("boxes") or []) or int(request["count"])


def refer(sample: Sample) -> dict[str, Any]:
    return {"sample": sample.id, "path": sample.path, "uri": sample.uri, "etag": sample.etag}


def refer_to_object(found: ObjectRef) -> dict[str, Any]:
    return {**refer(found.sample), "box_xyxy": list(found.box_xyxy), "position": found.position}


def another(chosen: ObjectRef, instances: list[ObjectRef], rng: np.random.Generator) -> ObjectRef | None:
    """Half of the time another instance of the class, which parts are taken from."""
    others = [o for o in instances if o.key != chosen.key]
    return others[int(rng.integers(len(others)))] if others and rng.random() < MIXED_SHARE else None


def choose(
    view: DatasetView, mode: Mode, asked: Mapping[str, Any] | None, instances: list[ObjectRef], rng: np.random.Generator, *, hidden: Mapping[int, float],
    beneath: Provenance | None,
) -> tuple[ObjectRef, Sample | None, BoxXyxy] | None:  # fmt: skip
    """(exemplar, background, box): instances that fit nowhere give way to others, the smallest last of all."""
    order = [instances[i] for i in rng.permutation(len(instances))[:EXEMPLARS]]
    for chosen in [*order, min(instances, key=lambda o: area(o.box_xyxy))]:
        found = where(view, mode, asked, chosen, rng, hidden=hidden, beneath=beneath)
        if found is not None:
            return chosen, *found
    return None


def where(
    view: DatasetView, mode: Mode, asked: Mapping[str, Any] | None, chosen: ObjectRef, rng: np.random.Generator, *, hidden: Mapping[int, float],
    beneath: Provenance | None,
) -> tuple[Sample | None, BoxXyxy] | None:  # fmt: skip
    """(background, box): the caller's, or one sized like the chosen instance in an emptier part of a training image, or of that which lies beneath.

    It hides at most the share `hidden` of any annotated object's box, by that object's category, together with what was added before, and nothing of that.
    """
    if mode == "synthesis":
        return None, synthesis_box(chosen)
    if asked is not None:
        return asked_place(view, asked)
    grounds = [view.by_id[beneath.background["sample"]]] if beneath is not None and beneath.background else view.real("train")
    added = [r.box_xyxy for r in beneath.layers] if beneath is not None else []
    width, height = (chosen.box_xyxy[2] - chosen.box_xyxy[0], chosen.box_xyxy[3] - chosen.box_xyxy[1])
    for i in rng.permutation(len(grounds))[:TRIES]:
        background = grounds[i]
        factor = float(rng.uniform(0.9, 1.1))
        occupied = boxed(background.annotations)
        gone = [sum(intersection(b, a) for a in added) / max(1e-9, area(b)) for b, _ in occupied]
        may = [*(max(0.0, hidden.get(category, 0.0) - g) for (_, category), g in zip(occupied, gone, strict=True)), *(0.0 for _ in added)]
        box = place((width * factor, height * factor), [*(b for b, _ in occupied), *added], view.pixels(background)[0], rng, hidden=may)
        if box is not None:
            return background, box
    return None


def synthesis_box(chosen: ObjectRef) -> BoxXyxy:
    """The label's box in a synthesised image: all of it for a whole-image class, else the middle of a window."""
    x0, y0, x1, y1 = chosen.box_xyxy
    if chosen.sample.annotations[chosen.position].bbox_xywh is None:
        return 0.0, 0.0, x1, y1
    side = round(max(x1 - x0, y1 - y0) * SYNTHESIS_MARGIN)
    w, h = x1 - x0, y1 - y0
    return (side - w) / 2, (side - h) / 2, (side + w) / 2, (side + h) / 2


def asked_place(view: DatasetView, asked: Mapping[str, Any]) -> tuple[Sample, BoxXyxy]:
    wanted = str(asked["image"])
    found = view.by_id.get(wanted) or next((s for s in view.samples if s.path == wanted or s.extra.get("file_name") == wanted), None)
    if found is None:
        raise InvalidRequest(f"boxes: image {wanted!r} is not in this version")
    if found.split != "train" or found.origin != "real":
        raise InvalidRequest(f"boxes: image {wanted!r} is {found.origin} {found.split}; only real training images may be painted on")
    box = asked["box_xyxy"]
    xyxy = (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
    check_inside(xyxy, found.width, found.height, what=f"boxes: image {wanted!r}")
    if min(xyxy[2] - xyxy[0], xyxy[3] - xyxy[1]) < 4:
        raise InvalidRequest(f"boxes: image {wanted!r}: box {list(xyxy)} is under 4 px; nothing can be made so small")
    for i, a in enumerate(found.annotations):
        there = xywh_to_xyxy(a.bbox_xywh) if a.bbox_xywh is not None else None
        if there is not None and intersection(there, dilate(xyxy, MASK_DILATION)) > MOST_HIDDEN * area(there):
            raise InvalidRequest(
                f"boxes: image {wanted!r}: box {list(xyxy)} would hide annotated object {i} at {[round(v, 1) for v in there]}, whose label would "
                "then be false; choose a place that covers less than half of it"
            )
    return found, xyxy

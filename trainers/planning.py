"""From a request to the exact orders that fulfil it: which background, where, which exemplar, which seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtail.boxes import UNCUT, BoxXyxy, Sides, area, check_inside, dilate, intersection, mirrored, xywh_to_xyxy
from longtail.contrast import LEAST_KEPT, kept_contrast
from longtail.errors import InvalidRequest
from longtail.gates import check_novelty
from longtail.placement import MOST_HIDDEN, Body, place, usually_hidden
from longtail.samples import Mode, Provenance, Sample
from longtail.seeds import derive_id, derive_seed
from trainers.classical import check_policy
from trainers.compose import MASK_DILATION
from trainers.dataset import DatasetView, ObjectRef, boxed, to_lay_elsewhere, to_lay_on_borders
from trainers.render import SYNTHESIS_MARGIN
from trainers.upscale import FACTORS

TRIES = 12
EXEMPLARS = 8
LOOKED_AT = 200
"""Instances of which it is asked what they hide of their neighbours, about."""
FILLS = 0.65
"""What fills so much of its box is a body, and covers what lies in the ellipse of that; the ellipse fills 0.79."""
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
    if request.get("augment"):
        check_policy(request["augment"])
    end = asked_for(request) if count is None else start + count
    planner = Planner.of(view, request, model)
    if planner.mode == "enlarge":
        return enlargements(planner.instances, request, key=key, model=model, start=start, end=end)
    if request.get("interpolate"):
        return along_the_way(planner.first(request, seed_at(request, key, start), start)[0], key, end)
    return [(derive_id("syn", key, position), planner.image(request, seed_at(request, key, position), position)) for position in range(start, end)]


def seed_at(request: Mapping[str, Any], key: str, position: int) -> int:
    """The seed of the image at that position of a request."""
    return derive_seed(key if request.get("seed") is None else request["seed"], str(request["class_name"]), position)


@dataclass(frozen=True)
class Planner:
    """What all images of a request have in common: the class's real instances, and how much of others new objects may hide, by category."""

    view: DatasetView
    mode: Mode
    class_name: str
    novelty: float
    model: Model
    truncation: float | None
    instances: list[ObjectRef]
    hidden: Mapping[int, float]
    common: frozenset[int] = frozenset()
    """Categories of which a new object may cover whole ones: those that are no rarer than its own."""
    turned: bool = True
    """Whether what a border cuts off may lie in a mirror."""

    @classmethod
    def of(cls, view: DatasetView, request: Mapping[str, Any], model: Model) -> Planner:
        name, mode = str(request["class_name"]), request["mode"]
        instances = list(view.objects("train", classes=[name]))
        novelty = check_novelty(class_name=name, instances=len(instances), novelty=request.get("novelty"), mode=mode)
        looked_at = instances[:: max(1, len(instances) // LOOKED_AT)] if mode in ("inpaint", "copy_paste") and not request.get("boxes") else []
        hidden = usually_hidden([(o.box_xyxy, o.beside) for o in looked_at])
        instances = instances if mode == "enlarge" else to_lay_on_borders(instances)
        model = Model() if mode == "copy_paste" else model
        turned = model.uri is None or not any(o.cut_off for o in instances) or view.painter(model.uri).mirrored is not False
        common = no_rarer(view, view.classes.id_of(name)) if looked_at else frozenset()
        return cls(view, mode, name, novelty, model, request.get("truncation"), instances, hidden, common, turned)

    def image(self, request: Mapping[str, Any], seed: int, position: int) -> Provenance:
        """The record of one image with its objects: as many as were asked for, the largest first, then others where these found no room.

        Drawn one after the other, small ones, which fit anywhere, would take the place of large ones.
        """
        count, policy = objects_in(request, position), request.get("augment")
        wanted, others = self.drawn(seed, count)
        record, laid = self.first(request, seed, position)
        left = [*wanted, *others[:EXEMPLARS]]
        at = next((k for k, o in enumerate(left) if o.key == laid.key), None)
        for nth, chosen in enumerate(left[:at] + left[at + 1 :] if at is not None else left, 1):
            if len(record.layers) == count:
                break
            more = self.object(derive_seed(seed, "over", nth), None, record, [chosen])
            record = more[0] if more else record
        return replace(record, augment={"policy": policy, "seed": derive_seed(seed, "augment")} if policy else None)

    def first(self, request: Mapping[str, Any], seed: int, position: int) -> tuple[Provenance, ObjectRef]:
        """The record of an image's first object, and the instance that was laid. Raises InvalidRequest where there is no place for it."""
        boxes, (wanted, others) = request.get("boxes"), self.drawn(seed, objects_in(request, position))
        found = self.object(seed, boxes[position] if boxes else None, None, [*wanted, *others])
        if found is None:
            raise InvalidRequest(
                f"no free place where any of {min(EXEMPLARS, len(self.instances)) + 1} instances would be seen was found in {TRIES} training images and in "
                "those that show the class; give boxes of your own, or add training images with more free ground in its light"
            )
        return found

    def drawn(self, seed: int, count: int) -> tuple[list[ObjectRef], list[ObjectRef]]:
        """(the instances for one image, largest first, again and again where the class has fewer; others, for where these find no room)."""
        order = [self.instances[i] for i in np.random.default_rng(derive_seed(seed, "drawn")).permutation(len(self.instances))]
        return sorted(islice(cycle(order), count), key=lambda o: -area(o.box_xyxy)), order[count:] or order

    def object(
        self, seed: int, asked: Mapping[str, Any] | None, beneath: Provenance | None, among: Sequence[ObjectRef]
    ) -> tuple[Provenance, ObjectRef] | None:
        """The record of one object, and which instance it is: the first that fits. None where none does."""
        rng = np.random.default_rng(seed)
        found = self.choose(asked, rng, among, beneath=beneath)
        if found is None:
            return None
        chosen, background, box = found
        exemplar = None if self.novelty >= 1 else chosen
        mixes = MIXED_FROM <= self.novelty < 1 and self.mode != "copy_paste" and not chosen.cut_off
        second = another(chosen, to_lay_elsewhere(self.instances), rng) if mixes else None
        if second is not None and asked is None and background is not None and not self.seen(second, background, box):
            second = None  # parts of it would be lost in that light
        if second is not None and self.common and body_of(self.view.instance(second).outline) is None:
            second = None  # of a body no part is taken from what is none: it would not cover what it is laid over
        record = Provenance(
            mode=self.mode,
            class_name=self.class_name,
            seed=seed,
            novelty=self.novelty,
            model=self.model.name,
            model_version=self.model.version,
            model_uri=self.model.uri,
            background=refer(background) if background else None,
            exemplar=refer_to_object(exemplar) if exemplar else None,
            mixed=refer_to_object(second) if second else None,
            outline=refer_to_object(chosen) if exemplar is None and self.view.instance(chosen).outline is not None else None,
            box_xyxy=box,
            truncation=self.truncation,
            beneath=beneath,
        )
        return record, chosen

    def choose(
        self, asked: Mapping[str, Any] | None, rng: np.random.Generator, among: Sequence[ObjectRef], *, beneath: Provenance | None
    ) -> tuple[ObjectRef, Sample | None, BoxXyxy] | None:
        """(exemplar, background, box): of an image's first object those that fit nowhere give way to others, the smallest last of all.

        What a border cuts off is laid against the same border, or that across from it; where the place is the caller's, and where an image would
        get no object otherwise, in any place.
        """
        if asked is not None or self.mode == "synthesis":
            whole = to_lay_elsewhere(self.instances)
            chosen = whole[int(rng.permutation(len(whole))[0])]
            if asked is None or self.mode == "synthesis":
                return chosen, None, synthesis_box(chosen)
            return chosen, *asked_place(self.view, asked)
        for chosen in among[:EXEMPLARS]:
            found = self.where(chosen, chosen.cut, rng, beneath=beneath)
            if found is not None:
                return chosen, *found
        if beneath is not None:
            return None
        smallest = min(to_lay_elsewhere(self.instances), key=lambda o: area(o.box_xyxy))
        found = self.where(smallest, UNCUT, rng, beneath=None)
        return None if found is None else (smallest, *found)

    def where(self, chosen: ObjectRef, cut: Sides, rng: np.random.Generator, *, beneath: Provenance | None) -> tuple[Sample, BoxXyxy] | None:
        """(background, box): one sized like the chosen instance in an emptier part of a training image, or of that which lies beneath.

        It hides at most the share `hidden` of any annotated object's box, together with what was added before, and nothing of that; one of a
        `common` category it may hide as a whole, and that one's label goes. It lies against the borders of `cut`,
        mirrored half of the time if it may be, and against no others. There it is still seen: where places are found that are too dark or too
        bright for it, its own image and others that show its class are tried as well.
        """
        grounds = [self.view.by_id[beneath.background["sample"]]] if beneath is not None and beneath.background else self.view.real("train")
        added = [r.box_xyxy for r in beneath.layers] if beneath is not None else []
        body = body_of(self.view.instance(chosen).outline) if self.common and not chosen.cut_off else None
        width, height = (chosen.box_xyxy[2] - chosen.box_xyxy[0], chosen.box_xyxy[3] - chosen.box_xyxy[1])
        order, unseen = rng.permutation(len(grounds)), list[Sample]()
        further = self.at_home(chosen, (grounds[i] for i in order[TRIES:]), unseen) if beneath is None else ()
        for background in chain((grounds[i] for i in order[:TRIES]), further):
            factor = float(rng.uniform(0.9, 1.1))
            against = mirrored(cut) if any(cut) and rng.random() < 0.5 and self.turned else cut
            occupied = boxed(background.annotations)
            crowds = [bool(a.extra.get("iscrowd")) for a in background.annotations if a.bbox_xywh is not None]
            before = [sum(intersection(b, a) for a in added) / max(1e-9, area(b)) for b, _ in occupied]
            may = [*(max(0.0, self.hidden.get(category, 0.0) - b) for (_, category), b in zip(occupied, before, strict=True)), *(0.0 for _ in added)]
            gone = [*(category in self.common and not c for (_, category), c in zip(occupied, crowds, strict=True)), *(False for _ in added)]
            pixels = self.view.pixels(background)[0]
            sides, others = (width * factor, height * factor), [*(b for b, _ in occupied), *added]
            box = place(sides, others, pixels, rng, hidden=may, gone=gone, body=body, against=against)
            if box is not None:
                if self.seen(chosen, background, box):
                    return background, box
                unseen.append(background)
        return None

    def at_home(self, chosen: ObjectRef, grounds: Iterable[Sample], unseen: Sequence[Sample]) -> Iterator[Sample]:
        """The instance's own image, then the first that show the class, if in any of those that were tried before it would be `unseen`."""
        if unseen:
            yield chosen.sample
            category = self.view.classes.id_of(self.class_name)
            yield from islice((g for g in grounds if any(a.category_id == category for a in g.annotations)), TRIES)

    def seen(self, chosen: ObjectRef, background: Sample, box: BoxXyxy) -> bool:
        """Whether enough of an instance's contrast would be left in the light of that place."""
        return kept_contrast(self.view.pixels(chosen.sample)[0], chosen.box_xyxy, self.view.pixels(background)[0], box) >= LEAST_KEPT


def no_rarer(view: DatasetView, category: int) -> frozenset[int]:
    """The other categories that have at least as many boxes in training images."""
    found = (a for s in view.real("train") for a in s.annotations if a.bbox_xywh is not None and not a.extra.get("iscrowd"))
    counts = Counter(a.category_id for a in found)
    return frozenset(c for c, n in counts.items() if c != category and n >= counts[category] > 0)


def body_of(outline: NDArray[np.bool_] | None) -> Body | None:
    """What an object of that outline in its box covers, or near enough, however it is mirrored.

    All of the box where no outline is known: all of it is painted. None for what is no body: a crack, a chain.
    """
    if outline is None:
        return Body(1.0, 1.0, alone=False)
    rows, columns = np.flatnonzero(outline.any(1)), np.flatnonzero(outline.any(0))
    if outline[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean() < FILLS:
        return None
    margins = (max(found[0], size - 1 - found[-1]) / size for found, size in ((columns, outline.shape[1]), (rows, outline.shape[0])))
    across, down = (1 - 2 * float(margin) for margin in margins)
    return Body(across, down, alone=True) if min(across, down) > 0 else None


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

"""Objects whose outline is known: holes that follow them, exemplars cut free, labels with masks; and bare ground in training."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from infra.formats.outlines import written
from infra.formats.segmentation import has_mask, mask_in, mask_of, run_lengths
from longtail.datasets import ClassMap
from longtail.placement import means_inside
from longtail.recipes import NetworkConfig, Recipe
from longtail.samples import Annotation, Provenance, Sample
from trainers import weights
from trainers.architectures import build_generator
from trainers.compose import OUTLINE_REACH, Warp, extents, fitted, ground_color, kept_place, mask_map, outlined_mask, solid, warp_outline
from trainers.dataset import ObjectRef
from trainers.device import random_stream
from trainers.planning import Model, plan
from trainers.render import Order, Painter, render
from trainers.scenes import Draw, Mixture, draw_indices, inner_map, reconstruction_scene, served_scene, transplant_scene
from trainers.state import TrainState
from trainers.steps import step
from trainers.studio import covered, gone, labels_of
from trainers.windows import Instance, box_pixels, cut_outline, cut_windows, gray_labels, join, on_grounds

NETWORK = NetworkConfig(resolution_px=32, smallest_px=16, widths=(8, 12, 16), latent=8, style=16)
BOX = torch.tensor([[0.25, 0.3, 0.75, 0.7]])


def bar(size=96, *, seed=0, label=0):
    """A slanted bar on a noisy ground: it fills a third of its box. With a ground of its own below it."""
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 130, (size, size, 3)).astype(np.uint8)
    y, x = np.mgrid[:size, :size]
    mask = (abs((x - size / 2) - (y - size / 4)) < 5) & (abs(y - size / 4) < 14)
    image[mask] = (230, 40, 40) if label == 0 else (40, 40, 230)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = tuple(float(v) for v in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    left, top, right, bottom = box_pixels(box)
    ground = (image, (box[0], box[1] + size / 2, box[2], box[3] + size / 2))
    return Instance(image, box, label, outline=mask[top:bottom, left:right], ground=ground)


@pytest.fixture(scope="module")
def windows():
    return cut_windows([bar(seed=k, label=k % 2) for k in range(12)], resolution=32, per_instance=2, seed=0)


@pytest.mark.parametrize("size", [32, 64, 200])
def test_the_hole_holds_the_object_and_little_more(size):
    outline = torch.zeros(1, 1, size, size)
    outline[:, :, int(0.4 * size) : int(0.6 * size), int(0.3 * size) : int(0.7 * size)] = 1
    mask, soft = outlined_mask(outline, *mask_map(BOX, size, size))
    assert bool((soft[outline > 0] == 1).all())
    assert bool(((soft > 0) == (mask > 0)).all())
    reach = 2 * max(1, round(OUTLINE_REACH * size))
    rows = torch.nonzero(mask[0, 0].any(1))[:, 0]
    assert int(rows[0]) >= int(0.4 * size) - reach and int(rows[-1]) < int(0.6 * size) + reach
    whole, _ = mask_map(BOX, size, size)
    assert bool((mask <= whole).all()) and float(mask.sum()) < 0.8 * float(whole.sum())


@pytest.mark.parametrize("seed", range(8))
def test_a_warped_outline_is_fitted_to_the_box_it_is_labelled_with(seed):
    windows = cut_windows([bar()], resolution=64, per_instance=1, seed=0, fixed=True)
    outline, _ = windows.outlined(torch.tensor([0]))
    warp = Warp.draw(1, random_stream(seed))
    place = fitted(outline, windows.boxes, BOX, warp, 64)
    laid = warp_outline(outline, windows.boxes, place, warp, 64, 64)[0, 0] > 0.5
    rows, columns = torch.nonzero(laid.any(1))[:, 0], torch.nonzero(laid.any(0))[:, 0]
    tight = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / 64
    assert torch.allclose(tight, BOX[0], atol=2 / 64)
    unfitted = warp_outline(outline, windows.boxes, BOX, warp, 64, 64)[0, 0] > 0.5
    assert not torch.equal(laid, unfitted)


def test_outlines_are_cut_where_the_image_is_cut():
    found = bar()
    full = np.zeros(found.image.shape[:2], dtype=bool)
    left, top, right, bottom = box_pixels(found.box_xyxy)
    full[top:bottom, left:right] = found.outline
    for x, y, side in ((0, 0, 96), (left - 3, top - 5, 60), (left + 4, top + 2, 20), (-10, -10, 50)):
        wanted = np.zeros((side, side), dtype=bool)
        for row in range(side):
            for column in range(side):
                inside = 0 <= y + row < 96 and 0 <= x + column < 96
                wanted[row, column] = inside and full[y + row, x + column]
        assert np.array_equal(cut_outline(found.outline, found.box_xyxy, x, y, side) > 0, wanted)


@pytest.mark.parametrize(("mode", "novelty"), [("copy_paste", 0.0), ("inpaint", 0.0), ("inpaint", 0.5), ("inpaint", 1.0)])
def test_a_sample_changes_only_the_ground_about_its_outline(mode, novelty):
    generator = build_generator(NETWORK, num_classes=2)
    found, background = bar(), np.random.default_rng(5).integers(0, 255, (120, 150, 3)).astype(np.uint8)
    box = (60.0, 40.0, 96.0, 80.0)
    order = Order(mode=mode, label=0, seed=3, novelty=novelty, box_xyxy=box, background=background, exemplar=found)
    made = render(Painter(generator), order)
    rows, columns = np.flatnonzero(made.outline.any(1)), np.flatnonzero(made.outline.any(0))
    assert np.allclose([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], box, atol=2)
    changed = (made.pixels != background).any(2)
    assert changed[made.outline].mean() > 0.95
    x0, y0, x1, y1 = (int(v) for v in box)
    kept = ~changed[y0:y1, x0:x1]
    assert kept.mean() > 0.2, "the box's own ground was painted over"
    whole = render(Painter(generator), replace(order, exemplar=replace(found, outline=None)))
    assert whole.outline is None
    assert (whole.pixels != background).any(2).sum() > 1.3 * changed.sum()


def test_what_is_at_novelty_one_owes_nothing_to_the_exemplar_but_its_outline():
    generator = build_generator(NETWORK, num_classes=2)
    background = np.full((120, 150, 3), 100, dtype=np.uint8)
    order = Order(mode="inpaint", label=0, seed=3, novelty=1.0, box_xyxy=(60.0, 40.0, 96.0, 80.0), background=background, exemplar=bar())
    other = replace(order, exemplar=replace(bar(), image=255 - bar().image))
    assert np.array_equal(render(Painter(generator), order).pixels, render(Painter(generator), other).pixels)


def test_transplants_go_to_bare_ground_and_are_compared_with_real_objects(windows):
    random = random_stream(0)
    draw = draw_indices(windows, 8, random)
    scene, real = transplant_scene(windows, draw, Mixture(0.0, ground_share=1.0, novelty_range=(0.0, 0.0), full_novelty_share=0.0), random)
    assert torch.equal(scene.image_B3RR, windows.bare(draw.exemplar)[0])
    assert torch.equal(real.image_B3RR, windows.floats(draw.target))
    assert bool((scene.box_B1RR.sum((1, 2, 3)) > 0).all()) and bool((real.box_B1RR.sum((1, 2, 3)) > 0).all())
    assert not torch.equal(scene.mask_B1RR, real.mask_B1RR)
    scene, real = transplant_scene(windows, draw, Mixture(0.0, ground_share=0.0), random)
    assert torch.equal(scene.image_B3RR, real.image_B3RR) and torch.equal(scene.mask_B1RR, real.mask_B1RR)
    own, _ = windows.outlined(draw.target)
    assert bool((scene.mask_B1RR[own > 0.5] == 1).all()), "an object that lies in the way must lie in the hole"


def test_no_critic_sees_by_its_maps_which_side_was_painted(windows):
    """Outlines are used of both sides of a pair or of neither, of which some are not known: of one alone its label would be a box, and not the other's."""
    used, windows = [], replace(windows, outlines=windows.outlines * (torch.arange(len(windows)) > 3)[:, None, None, None])
    for seed in range(12):
        random = random_stream(seed)
        draw = draw_indices(windows, 16, random)
        scene, real = transplant_scene(windows, draw, Mixture(whole_share=0.0), random)
        sides = []
        for label in (scene.box_B1RR, real.box_B1RR):
            boxed = (label.amax(2).sum(-1) * label.amax(3).sum(-1))[:, 0]  # a box is all of the rectangle about it
            sides.append(label.sum((1, 2, 3)) < 0.9 * boxed)
        assert torch.equal(*sides)
        used += sides[0].tolist()
    assert 0.3 < np.mean(used) < 0.8


def test_where_nothing_is_asked_for_the_truth_is_bare_ground(windows):
    random = random_stream(1)
    draw = draw_indices(windows, 8, random)
    scene, truth = reconstruction_scene(windows, draw, Mixture(0.5, erased_share=1.0), random)
    assert torch.equal(truth, windows.bare(draw.target)[0]) and torch.equal(scene.image_B3RR, truth)
    assert float(scene.box_B1RR.sum()) == 0 and float(scene.validity_B1RR.sum()) == 0
    assert 0 < float(scene.mask_B1RR.mean()) < 1, "with no context there would be nothing to go on from"
    scene, truth = reconstruction_scene(windows, draw, Mixture(0.0, erased_share=0.0), random)
    assert torch.equal(truth, windows.floats(draw.target))


def test_what_is_left_of_an_object_that_is_restored_is_the_truth_itself(windows):
    """What is valid stays as it is: in another light than the truth's, what is missing would be learned in a light that does not fit it."""
    plain = cut_windows([replace(bar(seed=k), outline=None, ground=None) for k in range(3)], resolution=32, per_instance=1, seed=0)
    random, mixture = random_stream(2), Mixture(0.0, erased_share=0.0, novelty_range=(0.25, 0.6), full_novelty_share=0.0)
    for found in (windows, plain):
        draw = draw_indices(found, 16, random)
        scene, truth = reconstruction_scene(found, draw, mixture, random)
        itself = inner_map(found.boxes[draw.target], 32) == 1
        itself = (itself & (found.outlined(draw.target)[0] == 1) if found.has_outlines else itself).expand_as(truth)
        assert itself.any() and torch.equal(scene.exemplar_B3RR[itself], truth[itself])
        assert not torch.equal(scene.exemplar_B3RR, truth), "half lie on another's ground"


def test_what_is_transplanted_is_in_the_light_in_which_it_would_be_served(windows):
    """The critic sees no light that no batch has: the ground about what is laid has the colour of the ground that it is laid on."""
    dark = replace(bar(), image=(bar().image * 0.4).astype(np.uint8), outline=None, ground=None)
    found = cut_windows([replace(bar(seed=1), outline=None, ground=None), dark], resolution=64, per_instance=1, seed=0)
    draw = Draw(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([1, 0]))
    scene, _ = transplant_scene(found, draw, Mixture(0.0, ground_share=0.0, novelty_range=(0.0, 0.0), full_novelty_share=0.0), random_stream(0))
    around = ground_color(scene.exemplar_B3RR, found.boxes[draw.target], inner=1.0, outer=1.2)
    assert torch.allclose(around, scene.fill_B311, atol=0.06)


def test_sets_with_and_without_outlines_go_together(windows):
    plain = cut_windows([replace(bar(), outline=None, ground=None) for _ in range(3)], resolution=32, per_instance=1, seed=0)
    both = join(windows, plain)
    outlined = both.outlined(torch.arange(len(both)))[1][:, 0, 0, 0]
    assert outlined.tolist() == [1.0] * 24 + [0.0] * 3
    assert both.bare(torch.arange(len(both)))[2][:, 0, 0, 0].tolist() == [1.0] * 24 + [0.0] * 3
    small = both.reduced(16).subset(torch.tensor([0, 26]))
    assert small.outlines.shape == (2, 1, 16, 16) and small.outlined(torch.arange(2))[1].flatten().tolist() == [1.0, 0.0]
    scene = served_scene(small, torch.tensor([0, 1]), small, torch.tensor([1, 0]), 0.3, random_stream(0))
    assert scene.image_B3RR.shape == (2, 3, 16, 16)
    state = TrainState.fresh(Recipe(network=NETWORK, batch=8), num_classes=2)
    assert all(torch.isfinite(v) for v in step(state, both, "adversarial").values())


def test_what_is_served_may_take_parts_of_a_second_instance(windows):
    """Images and outlines alike; where the second is the first again nothing changes, and where it has no outline the box is what is known."""
    plain = cut_windows([replace(bar(), outline=None, ground=None)], resolution=32, per_instance=1, seed=0)
    both, chosen = join(windows, plain), torch.tensor([0, 0, 0])
    at = torch.tensor([4, 4, 4])
    alone = served_scene(both, chosen, both, at, 0.5, random_stream(0))
    mixed = served_scene(both, chosen, both, at, 0.5, random_stream(0), second=torch.tensor([0, 2, 24]))
    assert torch.equal(mixed.exemplar_B3RR[0], alone.exemplar_B3RR[0]) and torch.equal(mixed.box_B1RR[0], alone.box_B1RR[0])
    redder = (mixed.exemplar_B3RR[:, 0] - mixed.exemplar_B3RR[:, 2]) * mixed.box_B1RR[:, 0]
    assert (redder[0] > -0.5).all() and (redder[1] > 0.7).any() and (redder[1] < -0.7).any()  # the second is a blue one
    assert mixed.box_B1RR[1].sum() < mixed.box_B1RR[2].sum()
    assert torch.equal(mixed.image_B3RR, alone.image_B3RR)


def test_places_where_nothing_is():
    image = np.random.default_rng(0).integers(0, 255, (100, 140, 3)).astype(np.uint8)
    occupied = [(0.0, 0.0, 140.0, 40.0), (80.0, 40.0, 140.0, 100.0)]
    found = on_grounds([Instance(image, (90.0, 50.0, 110.0, 80.0), 0)] * 5, [image], [occupied], np.random.default_rng(0))
    for instance in found:
        x0, y0, x1, y1 = instance.ground[1]
        assert (x1 - x0, y1 - y0) == (20.0, 30.0) and x1 <= 80 and y0 >= 40
    nowhere = on_grounds([Instance(image, (0.0, 0.0, 120.0, 90.0), 0), Instance(image, (0.0, 0.0, 140.0, 100.0), 0)], [image], [occupied],
                         np.random.default_rng(0))  # fmt: skip
    assert [i.ground for i in nowhere] == [None, None]


def test_means_over_boxes_are_what_they_say():
    rng = np.random.default_rng(0)
    field = rng.random((30, 40))
    integral = np.pad(field.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    boxes = np.array([[3, 4, 10, 9], [0, 0, 40, 30], [5, 5, 5, 5]], dtype=np.float64)
    means = means_inside(integral, boxes)
    assert np.allclose(means, [field[4:9, 3:10].mean(), field.mean(), field[5, 5]])


def test_masks_are_read_and_written_in_the_way_of_yolo_too():
    mask = np.zeros((40, 80), dtype=bool)
    mask[10:30, 20:60] = True
    mask[35, 5] = True
    like = {"yolo": "0.1 0.1 0.3 0.1 0.2 0.3"}
    assert has_mask(like) and not has_mask({"yolo": "0.5 0.5 0.2 0.2"}) and not has_mask({})
    text = written(mask, like)
    assert set(text) == {"yolo"}
    again = mask_in(text, 80, 40)
    assert (again & mask).sum() / (again | mask).sum() > 0.9
    assert mask_in({"yolo": "0.5 0.5 0.2 0.2"}, 80, 40) is None
    assert np.array_equal(mask_in(written(mask, {}), 80, 40), mask)
    dot = np.zeros((40, 80), dtype=bool)
    dot[7, 9] = True
    assert has_mask(written(dot, like))


def test_a_line_thinner_than_a_pixel_is_still_a_line():
    thin = torch.zeros(2, 1, 16, 16)
    thin[0, 0, :, 8] = 0.2
    thin[1, 0, :, 8] = 1.0
    thin[1, 0, :, 9] = 0.2
    drawn = solid(thin)
    assert float(drawn[0].sum()) == float(drawn[1].sum()) == 16
    assert float(solid(torch.zeros(1, 1, 16, 16)).sum()) == 0


@pytest.mark.parametrize("architecture", ["comodulated", "dcgan"])
def test_what_is_gray_is_painted_gray(architecture):
    gray = [replace(i, image=np.repeat(i.image.mean(2, keepdims=True), 3, 2).astype(np.uint8), ground=None) for i in (bar(label=0), bar(seed=1, label=0))]
    windows = cut_windows([*gray, bar(label=1)], resolution=32, per_instance=1, seed=0)
    assert gray_labels(windows) == (0,)
    config = replace(NETWORK, architecture=architecture, smallest_px=32 if architecture == "dcgan" else 16, gray_labels=(0,))
    generator = build_generator(config, num_classes=2).eval()
    for p in generator.parameters():
        torch.nn.init.normal_(p, std=0.1)
    again = weights.from_bytes(weights.to_bytes(generator, classes=["a", "b"])).generator
    with torch.no_grad():
        made = again(torch.zeros(2, 9, 32, 32), torch.randn(2, 8), torch.tensor([0, 1]))
    assert float((made[0].amax(0) - made[0].amin(0)).max()) == 0 < float((made[1].amax(0) - made[1].amin(0)).max())


def outlined_view(tmp_path):
    """One training image with masked bars, as a version would show it."""
    mask = np.zeros((96, 96), dtype=bool)
    found = bar()
    left, top, right, bottom = box_pixels(found.box_xyxy)
    mask[top:bottom, left:right] = found.outline
    x0, y0, x1, y1 = found.box_xyxy
    annotations = tuple(Annotation(category_id=7, bbox_xywh=(x0, y0, x1 - x0, y1 - y0), extra={"segmentation": run_lengths(mask), "id": k}) for k in range(12))
    sample = Sample(id="a", path="a.png", uri="", etag="", size_bytes=0, width=96, height=96, split="train", annotations=annotations)
    objects = [ObjectRef(sample, k, found.box_xyxy, 0) for k in range(12)]
    return SimpleNamespace(
        objects=lambda split, classes: objects, real=lambda split: [sample], by_id={"a": sample}, samples=[sample], task="detection",
        pixels=lambda s: (found.image, None), classes=ClassMap({7: "bar"}), instance=lambda o: found,
    ), mask  # fmt: skip


def test_the_record_names_the_outline_where_there_is_no_exemplar(tmp_path):
    view, _ = outlined_view(tmp_path)
    request = {"class_name": "bar", "mode": "inpaint", "count": 3, "novelty": 1.0}
    for _, record in plan(view, request, key="k", model=Model("m", 1, "u")):
        assert record.exemplar is None and record.outline["sample"] == "a"
        assert record.sources == {"a"} and record.instances == ()
        assert Provenance.from_json(record.to_json()) == record
    for _, record in plan(view, {**request, "novelty": 0.2}, key="k", model=Model("m", 1, "u")):
        assert record.outline is None and record.exemplar is not None


def test_the_new_object_gets_a_mask_and_cuts_those_that_it_covers(tmp_path):
    view, mask = outlined_view(tmp_path)
    (_, record), *_ = plan(view, {"class_name": "bar", "mode": "inpaint", "count": 1, "novelty": 0.2}, key="k", model=Model("m", 1, "u"))
    outline = np.zeros_like(mask)
    outline[:, 48:] = True
    *behind, own = labels_of(view, record, [outline])
    assert np.array_equal(mask_of(own.extra["segmentation"], 96, 96), outline) and own.extra["area"] == 48 * 96
    for label in behind:
        seen = mask_of(label.extra["segmentation"], 96, 96)
        assert np.array_equal(seen, mask & ~outline) and label.extra["area"] == int(seen.sum())
        x, y, w, h = label.bbox_xywh
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        assert (x, y, x + w, y + h) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert covered(behind[0], np.ones_like(mask)) is None
    untouched = view.samples[0].annotations[0]
    assert covered(untouched, np.zeros_like(mask)) is untouched


def test_labels_of_what_can_no_longer_be_seen_go():
    painted = np.zeros((60, 60), dtype=bool)
    painted[10:40, 10:40] = True
    inside, half = Annotation(category_id=1, bbox_xywh=(12.0, 12.0, 20.0, 20.0)), Annotation(category_id=1, bbox_xywh=(30.0, 12.0, 20.0, 20.0))
    assert gone(inside, painted) and not gone(half, painted)
    assert gone(Annotation(category_id=1, bbox_xywh=(8.0, 8.0, 34.0, 34.0)), painted)  # its corners show, of its body next to nothing
    assert not gone(replace(inside, extra={"iscrowd": 1}), painted)
    assert not gone(Annotation(category_id=1), painted)  # a whole image's
    mask = np.zeros_like(painted)
    mask[12:30, 12:50] = True
    assert not gone(Annotation(category_id=1, bbox_xywh=(12.0, 12.0, 38.0, 18.0), extra={"segmentation": run_lengths(mask)}), painted)
    mask[:, 41:] = False
    assert gone(Annotation(category_id=1, bbox_xywh=(12.0, 12.0, 29.0, 18.0), extra={"segmentation": run_lengths(mask)}), painted)


@pytest.mark.parametrize("seed", range(8))
def test_an_object_in_a_wide_box_keeps_its_margins_however_it_is_warped(seed):
    """An ellipse whose annotator left a tenth of the box free on the left, a fifth above, nothing on the other sides."""
    y, x = (torch.arange(96) + 0.5) / 96, (torch.arange(96) + 0.5) / 96
    outline = ((((x[None] - 0.55) / 0.20) ** 2 + ((y[:, None] - 0.60) / 0.15) ** 2) < 1).float()[None, None]
    wide = torch.tensor([[0.30556, 0.375, 0.75, 0.75]])
    warp = Warp.draw(1, torch.Generator().manual_seed(seed))
    box = torch.tensor([[0.2, 0.3, 0.8, 0.7]])
    goal = kept_place(outline, wide, box, warp)
    left, right = (0.0, 0.1) if bool(warp.flip) else (0.1, 0.0)
    assert torch.allclose(goal, torch.tensor([[0.2 + 0.6 * left, 0.3 + 0.4 * 0.2, 0.8 - 0.6 * right, 0.7]]), atol=0.01)
    place = fitted(outline, wide, box, warp, 96, goal_B4=goal)
    laid = extents(warp_outline(outline, wide, place, warp, 96, 96)[0, 0] > 0.5)
    assert torch.allclose(laid, goal, atol=0.02)
    unfitted = extents(warp_outline(outline, wide, box, warp, 96, 96)[0, 0] > 0.5)
    assert (unfitted - goal).abs().max() > (laid - goal).abs().max()


def test_where_nothing_is_seen_of_an_outline_the_box_stays_as_it_was():
    box, nothing = torch.tensor([[0.2, 0.3, 0.8, 0.7]]), torch.zeros(1, 1, 32, 32)
    assert torch.equal(kept_place(nothing, box, box, Warp.identity(1)), box)
    assert torch.equal(fitted(nothing, box, box, Warp.identity(1), 32), box)

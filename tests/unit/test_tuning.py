"""What the benchmarks of generated objects tell before hours are spent."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import detail, few, foundations, objectives, tuning
from benchmarks.packs import Pack
from longtail.recipes import NETWORK_OPTIONS, finetune_recipe
from trainers import weights
from trainers.windows import Instance


def test_a_pack_that_nobody_knows_and_a_foundation_that_is_not_there_are_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "WITHOUT_NUCLEI", tmp_path / "none.safetensors")
    with pytest.raises(SystemExit, match="unknown pack 'cells'; there are bccd, magnetic_tile, nuclei"):
        tuning.asked_for("bccd,cells")
    with pytest.raises(SystemExit, match="make foundation EXCLUDE=nuclei"):
        tuning.asked_for("bccd,nuclei")
    assert tuning.asked_for("bccd,magnetic_tile") == ["bccd", "magnetic_tile"]


def test_nuclei_learn_from_a_foundation_that_has_not_seen_them(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "WITHOUT_NUCLEI", tmp_path / "without.safetensors")
    tuning.WITHOUT_NUCLEI.write_bytes(b"another")
    assert tuning.foundation_for("nuclei") == tmp_path / "without.safetensors" != weights.FOUNDATION == tuning.foundation_for("bccd")
    assert tuning.todays(tuning.foundation_for("nuclei")) != tuning.todays(weights.FOUNDATION)


def test_foundations_are_told_apart_by_their_files_and_a_generator_by_the_one_it_began_from(tmp_path):
    first, second = tmp_path / "a" / "tiny.safetensors", tmp_path / "b" / "tiny.safetensors"
    with pytest.raises(SystemExit, match=r"a/tiny.safetensors: there is no such file; make foundation OUT="):
        foundations.titles([first])
    for path in (first, second):
        path.parent.mkdir()
        path.write_bytes(path.parent.name.encode())
    with pytest.raises(SystemExit, match="two foundations are called 'tiny'"):
        foundations.titles([first, second])
    assert foundations.titles([first, second.rename(second.with_name("other.safetensors"))]) == ["tiny", "other"]
    assert tuning.todays(first) != tuning.todays(second.with_name("other.safetensors"))


def test_a_foundation_as_it_comes_is_what_a_fine_tune_begins_with(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "OUT", tmp_path / "generators")
    monkeypatch.setattr(foundations, "OUT", tmp_path)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (60, 60, 3)).astype(np.uint8)
    cells = [Instance(np.roll(image, 5 * k, 0), (20.0, 20.0, 40.0, 40.0), k % 2) for k in range(24)]
    pack = Pack("bccd", cells[:8], cells[8:], [], {0: "round", 1: "lobed"})
    assert foundations.arms(240.0, 2) == [(0.0, 0), (240.0, 0), (240.0, 1)]
    bare = foundations.measure(pack, None, budget_s=0.0)
    found = foundations.measure(pack, weights.FOUNDATION, budget_s=0.0)
    assert list(found) == list(bare) == ["0.25", "0.5", "0.8", "1"]
    assert found["1"]["kid"] != bare["1"]["kid"]
    begun = tuning.begun(finetune_recipe(preset="tiny", start="foundation", budget_s=0.0, seed=0, options={}), "foundation", num_classes=2)
    kept = next((tmp_path / "generators").glob("*.safetensors"))
    again = weights.from_bytes(kept.read_bytes()).generator.state_dict()
    assert all(np.allclose(v.float(), again[k].float(), atol=2e-3) for k, v in begun.ema.module.state_dict().items())


def test_detail_is_lost_by_reducing_and_nothing_else_is_touched():
    y, x = np.mgrid[:400, :500]
    sharp = ((x // 2 + y // 2) % 2 * 100 + 70).astype(np.uint8)[..., None].repeat(3, 2)
    box = (120.0, 60.0, 380.0, 300.0)
    coarse = detail.reduced(sharp, box, 64)
    assert detail.detail(sharp, box) > 40 > 2 > detail.detail(coarse, box)
    assert np.array_equal(coarse[:, :10], sharp[:, :10])
    assert coarse.shape == detail.reduced(sharp, (300.0, 200.0, 495.0, 398.0), 64).shape == sharp.shape, "a window beyond the border"


def test_each_arm_of_the_objectives_is_the_products_recipe_but_for_what_it_names():
    plain = finetune_recipe(preset="tiny", start="foundation", budget_s=300, seed=0, options={})
    for name, options in objectives.ARMS.items():
        start = objectives.start_of(name)
        recipe = finetune_recipe(preset="tiny", start=start, budget_s=300, seed=objectives.SEEDS.get(name, 0), options=options)
        state = tuning.begun(recipe, start, num_classes=2)
        assert (recipe != plain) == (name != "recipe")
        found = {k: getattr(state.recipe.network if k in NETWORK_OPTIONS else state.recipe, k) for k in options}
        assert json.dumps(found) == json.dumps(options)
        assert len({json.dumps(o) for o in objectives.ARMS.values()}) == len(objectives.ARMS) - len(objectives.SEEDS)


def test_five_hundred_are_asked_of_the_class_that_has_them_where_the_usual_counts_are():
    blank = np.zeros((8, 8, 3), dtype=np.uint8)
    pack = Pack("nuclei", [Instance(blank, (0.0, 0.0, 8.0, 8.0), 0)] * 600, [], [], {0: "fluorescence"})
    usual = [int(n) for n in few.COUNTS.split(",")]
    assert few.counts_of(pack, usual) == [*usual, 500] and few.counts_of(pack, [5]) == [5]
    assert few.counts_of(replace(pack, train=pack.train[:30]), usual) == [5, 10, 20]
    assert few.counts_of(replace(pack, name="bccd"), usual) == usual

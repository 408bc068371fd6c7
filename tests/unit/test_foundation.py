"""A foundation is asked for by preset; what was begun for another is not gone on with."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from longtail.recipes import NETWORKS, NetworkConfig, Recipe
from trainers import foundation
from trainers.checkpoints import to_bytes
from trainers.loop import train
from trainers.quality import likeness
from trainers.shapes import draw_instance
from trainers.state import TrainState
from trainers.weights import foundation as foundation_file
from trainers.windows import Windows, cut_windows

SMALL = {
    "tiny": NetworkConfig(resolution_px=16, smallest_px=16, widths=(8, 8), latent=4, style=8, tail=(4, 4)),
    "base": NetworkConfig(resolution_px=32, smallest_px=16, widths=(8, 8, 8), latent=4, style=8, tail=(4, 4)),
}
DRAWN = 24


@pytest.fixture
def sides():
    """The sides that objects were drawn at."""
    return []


@pytest.fixture
def asked(monkeypatch, tmp_path, sides):
    """Runs the command on few drawn objects, with small networks and no pretrained one to choose by, and gives the file that it leaves."""

    def drawn(count, seed, *, size_px):
        sides.append(size_px)
        rng = np.random.default_rng(seed)
        return [draw_instance(rng, size=size_px, first_label=3) for _ in range(count)]

    monkeypatch.setattr(foundation, "SHAPES", DRAWN)
    monkeypatch.setattr(foundation, "drawn", drawn)
    monkeypatch.setattr(likeness, "find_spec", lambda name: None)
    monkeypatch.setattr(foundation, "NETWORKS", NETWORKS | SMALL)

    def run(*arguments: str) -> Path:
        out = tmp_path / "foundation.safetensors"
        monkeypatch.setattr("sys.argv", ["foundation", "--exclude-nuclei", "--batch", "4", "--minutes", "0.02", "--out", str(out), *arguments])
        foundation.main()
        return out

    run.sides = sides  # type: ignore[attr-defined]
    return run


def test_a_preset_has_its_networks_its_sizes_and_objects_drawn_for_it(asked, sides):
    _, meta = foundation_file(asked("--preset", "base", "--sizes", "0.5,0.5"))
    recipe = foundation.recipe_of(meta)
    assert recipe.network == SMALL["base"]
    assert (recipe.rate_warm, recipe.size_shares) == (foundation.RATES["base"], (0.5, 0.5))
    assert sides == [48]


def test_the_best_checkpoint_is_kept_where_no_pretrained_network_is_installed(asked, monkeypatch, capsys):
    """A machine with a GPU may have torch, numpy and pillow alone."""
    saved, save = [], foundation.save_foundation
    monkeypatch.setattr(foundation, "save_foundation", lambda state, out: (saved.append(state), save(state, out)))
    kept, _ = foundation_file(asked("--sizes", "1"))
    state = saved[-1]
    assert np.isfinite(state.best_score) and "never taught" in capsys.readouterr().err
    assert all(torch.equal(v.half(), kept[f"ema.{k}"]) for k, v in state.best.items())


def test_a_foundation_is_of_one_moment(asked, monkeypatch, tmp_path):
    """Encoder and critic of the file stood beside its generator when that was best, however they end; at a smaller size nothing is kept."""
    moments, scores = [], {16: itertools.repeat(0.0), 32: itertools.chain([0.3, 0.1], itertools.repeat(0.2))}
    monkeypatch.setattr(foundation, "scorer", lambda held: lambda generator, size_px: next(scores[size_px]))
    monkeypatch.setattr(foundation, "tiny_foundation", lambda minutes: Recipe(warm_s=0.2, catch_up_s=0.0, adversarial_s=2.8, evaluate_every_s=0.4))

    def watched(state, *arguments, **options):
        for at in train(state, *arguments, **options):
            if at.score is not None:
                moments.append((state.size_px, {k: v.detach().half().clone() for k, v in state.discriminator.state_dict().items()}))
            yield at

    monkeypatch.setattr(foundation, "train", watched)
    monkeypatch.setattr(foundation, "time", SimpleNamespace(monotonic=itertools.count(step=0.1).__next__))
    kept, _ = foundation_file(asked("--preset", "base", "--sizes", "0.3,0.7"))
    full = [critic for size_px, critic in moments if size_px == 32]
    assert moments[0][0] == 16 and len(full) > 2
    same = [all(torch.equal(v, kept[f"discriminator.{k}"]) for k, v in critic.items()) for critic in full]
    assert same == [k == 1 for k in range(len(full))]
    assert [p.name for p in tmp_path.iterdir()] == ["foundation.safetensors"], "nothing of the run is left beside it"


def test_what_is_recoloured_is_so_with_its_ground():
    """Half of what is laid on bare ground would otherwise come from another light than its ground: a critic sees by that what was painted."""
    rng = np.random.default_rng(0)
    windows = cut_windows([draw_instance(rng, size=48, first_label=0) for _ in range(60)], resolution=32, per_instance=1, seed=0)
    shown = foundation.recolored(windows, np.random.default_rng(1))
    changed = torch.arange(0, 60, 2)
    assert not any(torch.equal(shown.images[k], windows.images[k]) for k in changed)
    assert all(torch.equal(shown.images[k], windows.images[k]) and torch.equal(shown.grounds[k], windows.grounds[k]) for k in changed + 1)

    def apart(seen):
        """How far the corners of windows are in colour from those of their grounds, of 255."""
        edge, ground = (torch.cat([i[changed, :, :4, :4], i[changed, :, -4:, -4:]], 3).float().mean((2, 3)) for i in (seen.images, seen.grounds))
        return float((edge - ground).abs().mean())

    assert apart(shown) < 1.3 * apart(windows) < 0.5 * apart(replace(shown, grounds=windows.grounds))


def test_what_was_chosen_by_other_features_is_scored_anew(asked, monkeypatch, tmp_path):
    """Another machine's scale would keep its best for good, or lose it at once."""
    recipe = replace(foundation.tiny_foundation(minutes=0.02), network=SMALL["tiny"], batch=4, size_shares=(1.0,))
    begun = TrainState.fresh(recipe, num_classes=3 + len(foundation.KINDS))
    begun.best, begun.best_score = dict(begun.ema.module.state_dict()), -1e6
    (tmp_path / "foundation.training.safetensors").write_bytes(to_bytes(begun))
    (tmp_path / "foundation.best.safetensors").write_bytes(b"chosen before")
    scored, score = [], foundation.score_anew
    monkeypatch.setattr(foundation, "score_anew", lambda state, by: (score(state, by), scored.append(state.best_score)))
    asked("--sizes", "1")
    assert -1e6 < scored[0] < 1e6


def test_what_is_gone_on_with_without_its_best_file_looks_for_a_best_anew(asked, monkeypatch, tmp_path):
    """A file of the generator that was best beside the critic of another moment would be none of the run's."""
    recipe = replace(foundation.tiny_foundation(minutes=0.02), network=SMALL["tiny"], batch=4, size_shares=(1.0,))
    begun = TrainState.fresh(recipe, num_classes=3 + len(foundation.KINDS))
    begun.best, begun.best_score = {k: v + 1 for k, v in begun.ema.module.state_dict().items()}, -1e6
    (tmp_path / "foundation.training.safetensors").write_bytes(to_bytes(begun))
    monkeypatch.setattr(foundation, "score_anew", lambda state, by: None)
    kept, _ = foundation_file(asked("--sizes", "1"))
    assert not any(torch.equal(v.half(), kept[f"ema.{k}"]) for k, v in begun.best.items())


@pytest.mark.parametrize(("found", "kept"), [(0.5, 0.5), (np.nan, np.inf)])
def test_the_best_is_what_is_scored_anew(found, kept):
    recipe = replace(foundation.tiny_foundation(minutes=0.02), network=SMALL["base"], batch=4, size_shares=(0.5, 0.5))
    state, asked_of = TrainState.fresh(recipe, num_classes=2), []

    def score(generator, size_px):
        asked_of.append((generator.state_dict(), size_px))
        return found

    foundation.score_anew(state, score)
    assert not asked_of and state.best_score == np.inf, "nothing was chosen yet"
    state.best, state.best_score = {k: v + 1 for k, v in state.ema.module.state_dict().items()}, 0.1
    foundation.score_anew(state, score)
    ((weights, size_px),) = asked_of
    assert state.best_score == kept and size_px == 16
    assert all(torch.equal(v, state.best[k]) for k, v in weights.items())


def test_a_run_of_another_preset_is_not_gone_on_with(asked, tmp_path):
    recipe = replace(foundation.tiny_foundation(minutes=0.02), network=SMALL["tiny"], batch=4, size_shares=(1.0,))
    (tmp_path / "foundation.training.safetensors").write_bytes(to_bytes(TrainState.fresh(recipe, num_classes=3 + len(foundation.KINDS))))
    with pytest.raises(SystemExit, match="of another run"):
        asked("--preset", "base", "--sizes", "1")


def test_a_start_of_another_preset_is_told(asked, tmp_path):
    earlier = asked("--preset", "tiny", "--sizes", "1").rename(tmp_path / "earlier.safetensors")
    with pytest.raises(SystemExit, match="other networks"):
        asked("--preset", "base", "--start", str(earlier))


def test_the_score_begins_from_other_objects_than_it_is_held_against(monkeypatch):
    """The checkpoint that is kept must not be the one that gives exemplars back; an object has several windows."""
    asked = []

    def scene(learned, chosen, contexts, at, *_):
        asked.append((chosen.tolist(), at.tolist()))
        raise InterruptedError

    monkeypatch.setattr(foundation, "served_scene", scene)
    images = torch.randint(0, 256, (13, 3, 32, 32), dtype=torch.uint8)
    labels, instances = torch.tensor([0] * 6 + [1] * 6 + [2]), torch.arange(13) // 2
    held = Windows.plain(images, torch.tensor([[0.2, 0.2, 0.8, 0.8]]).repeat(13, 1), labels, instances)
    with pytest.raises(InterruptedError):
        foundation.scorer(held)(None, 32)
    ((chosen, at),) = asked
    assert [labels[c] for c in chosen] == [labels[a] for a in at]
    assert all((instances[c] != instances[a]) == (a != 12) for c, a in zip(chosen, at, strict=True)), "the last class has one object"

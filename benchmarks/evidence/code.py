"""Which code a run rests on, as this process loaded it: what is edited while it runs is not what it runs."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
JUDGES = {
    "detector": ("trainers/uplift/backbone.py", "trainers/uplift/targets.py", "trainers/uplift/detector.py", "trainers/uplift/matches.py"),
    "classifier": ("trainers/uplift/backbone.py", "trainers/uplift/classifier.py", "trainers/uplift/predictions.py"),
}
VARYING = ("trainers/additions.py", "trainers/classical.py", "longtail/policies.py", "benchmarks/evidence/additions.py")
LEARNING = (
    "trainers/windows.py", "trainers/scenes.py", "trainers/sampling.py", "trainers/compose.py", "trainers/steps.py", "trainers/losses.py", "trainers/loop.py",
    "trainers/networks.py", "trainers/state.py", "trainers/training_data.py", "trainers/device.py", "trainers/upscale.py", "longtail/recipes.py",
    "trainers/watchdogs.py", "trainers/remedies.py",
    "trainers/augment.py", "trainers/ema.py", "trainers/architectures.py", "trainers/gating.py", "trainers/dataset.py",
    "trainers/baseline.py", "trainers/quality/kid.py", "trainers/quality/features.py", "longtail/samples.py", "longtail/gates.py",
)  # fmt: skip
"""What trains a generator and chooses its checkpoint; where objects have boxes, `OUTLINES` too."""
OUTLINES = ("trainers/cutout.py", "longtail/placement.py", "longtail/boxes.py")
MAKING = (
    "trainers/planning.py", "trainers/studio.py", "trainers/render.py", "trainers/compose.py", "trainers/filters.py", "trainers/judging.py",
    "trainers/additions.py", "trainers/cutout.py", "trainers/dataset.py", "trainers/windows.py", "trainers/sampling.py", "trainers/networks.py",
    "trainers/quality/features.py", "trainers/quality/seams.py", "trainers/quality/copying.py", "trainers/quality/coverage.py",
    "trainers/quality/consistency.py", "infra/images.py",
    "trainers/bank.py", "trainers/upscale.py", "longtail/placement.py", "longtail/contrast.py", "longtail/boxes.py", "longtail/gates.py",
    "longtail/samples.py", "benchmarks/evidence/additions.py",
)  # fmt: skip


def code(paths: Sequence[str]) -> str:
    """What the files say to the interpreter: the same whatever their comments, docstrings and layout."""
    return hashlib.sha256("".join(CODE[p] for p in paths).encode()).hexdigest()


def bare(tree: ast.AST) -> ast.AST:
    """The tree without strings that stand for themselves."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [n for n in node.body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))] or [ast.Pass()]
    return tree


CODE = {
    p: ast.dump(bare(ast.parse((ROOT / p).read_text())))
    for p in {*JUDGES["detector"], *JUDGES["classifier"], *VARYING, *LEARNING, *OUTLINES, *MAKING}
}

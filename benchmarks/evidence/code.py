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
    "trainers/networks.py", "trainers/state.py", "trainers/training_data.py", "longtail/recipes.py",
)  # fmt: skip
"""What a generator is trained by; where objects have boxes, `OUTLINES` too."""
OUTLINES = ("trainers/cutout.py", "longtail/placement.py", "longtail/boxes.py")
MAKING = (
    "trainers/planning.py", "trainers/studio.py", "trainers/render.py", "trainers/compose.py", "trainers/filters.py", "trainers/judging.py",
    "trainers/additions.py", "trainers/cutout.py", "trainers/dataset.py", "trainers/windows.py", "trainers/sampling.py", "trainers/networks.py",
    "trainers/quality/features.py", "trainers/quality/seams.py", "trainers/quality/copying.py", "trainers/quality/coverage.py",
    "trainers/quality/consistency.py", "infra/images.py",
    "trainers/bank.py", "longtail/placement.py", "longtail/boxes.py", "longtail/gates.py", "benchmarks/evidence/additions.py",
)  # fmt: skip


LATER = {
    "trainers/watchdogs.py": "0a15ac84a71e01fb44f4066c445e9efc4969e7145dcf61cd67fd4df3cde82f8b",
    "trainers/augment.py": "7db58ca1273afdb2454b842576afc762d0f5d269615f89e8fd8d27a4831493c7",
    "trainers/ema.py": "d659cf9ef6966ed25e74e071e67142b9f873149735b35b4bfb6d9b651cb3892f",
    "trainers/architectures.py": "e6cf52a4c71e2974a5d18b798798cd4e0cbde2eb72c32ee3a80dfe2819e9573a",
    "trainers/gating.py": "4a13a5e203b0c668b050c716999e7206c5542d8a4174369d03867416ee7ed7f7",
    "trainers/judging.py": "9bb5806b9ab5cf235529737a973c1207e9768268809a937873e98c5d05c573dd",
    "trainers/dataset.py": "25cd2eea7fb908ad4e900308577ab399b73323c461d7ac5c4c0c98a44badde56",
    "trainers/quality/kid.py": "48d0ea4f3001d3d9db5378b0a23deb104747ee96f65c3218483c03606cea8844",
    "trainers/quality/features.py": "bdbe4726c83f9601f066ca99ba496ac1de50f93fa42c0d22fa0b153f4f76e16d",
}
"""What trains a generator and chooses its checkpoint as well, listed once rows had been measured: a file counts as soon as it is no longer what it was then."""


def code(paths: Sequence[str]) -> str:
    """What the files say to the interpreter: the same whatever their comments, docstrings and layout."""
    said = [CODE[p] for p in paths]
    if set(LEARNING) <= set(paths):
        said += [CODE[p] for p, then in LATER.items() if digest(CODE[p]) != then]
    return digest("".join(said))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def bare(tree: ast.AST) -> ast.AST:
    """The tree without strings that stand for themselves."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [n for n in node.body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))] or [ast.Pass()]
    return tree


CODE = {
    p: ast.dump(bare(ast.parse((ROOT / p).read_text())))
    for p in {*JUDGES["detector"], *JUDGES["classifier"], *VARYING, *LEARNING, *LATER, *OUTLINES, *MAKING}
}

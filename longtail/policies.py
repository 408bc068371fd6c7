"""Policies of classical augmentation: named steps with a probability and options, in order. See `trainers.classical`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from longtail.errors import InvalidRequest

Step = Mapping[str, Any]
"""{"name", "p", "options"}: a transform of Albumentations, how often it is applied, its own arguments."""
PIXELS = frozenset(
    {"CLAHE", "ColorJitter", "GaussNoise", "GaussianBlur", "HueSaturationValue", "MotionBlur", "RandomBrightnessContrast", "RandomGamma", "RGBShift",
     "Sharpen", "ToGray"}
)  # fmt: skip
"""Transforms that change pixels where they are."""
SHAPES = frozenset({"Affine", "ElasticTransform", "HorizontalFlip", "Perspective", "RandomRotate90", "Transpose", "VerticalFlip"})
"""Transforms that move them; boxes and masks move along."""
PRESETS: dict[str, tuple[Step, ...]] = {
    "flips": ({"name": "HorizontalFlip", "p": 0.5, "options": {}}, {"name": "VerticalFlip", "p": 0.5, "options": {}}),
    "light": (
        {"name": "RandomBrightnessContrast", "p": 0.8, "options": {"brightness_limit": 0.15, "contrast_limit": 0.15}},
        {"name": "HueSaturationValue", "p": 0.5, "options": {"hue_shift_limit": 5, "sat_shift_limit": 15, "val_shift_limit": 10}},
    ),
    "upright": (
        {"name": "HorizontalFlip", "p": 0.5, "options": {}},
        {"name": "Affine", "p": 0.7, "options": {"scale": [0.9, 1.1], "translate_percent": [-0.05, 0.05], "border_mode": 1}},
        {"name": "RandomBrightnessContrast", "p": 0.5, "options": {"brightness_limit": 0.15, "contrast_limit": 0.15}},
        {"name": "HueSaturationValue", "p": 0.3, "options": {"hue_shift_limit": 5, "sat_shift_limit": 15, "val_shift_limit": 10}},
    ),
    "standard": (
        {"name": "HorizontalFlip", "p": 0.5, "options": {}},
        {"name": "Affine", "p": 0.7, "options": {"scale": [0.9, 1.1], "translate_percent": [-0.05, 0.05], "rotate": [-10, 10], "border_mode": 1}},
        {"name": "RandomBrightnessContrast", "p": 0.5, "options": {"brightness_limit": 0.15, "contrast_limit": 0.15}},
        {"name": "HueSaturationValue", "p": 0.3, "options": {"hue_shift_limit": 5, "sat_shift_limit": 15, "val_shift_limit": 10}},
    ),
}
BY_TASK = {"detection": "upright", "classification": "standard"}
"""The preset that an evaluation's classical arm takes: a turned box is wider than its object, which costs a detector strict AP."""
MAX_STEPS = 20


def resolve(policy: str | Sequence[Step]) -> list[dict[str, Any]]:
    """The steps of a preset or of a policy of one's own, written out, so that a record replays whatever becomes of the presets.

    Raises InvalidRequest for an unknown name, a probability outside [0, 1], and for none or too many steps.
    """
    if isinstance(policy, str):
        if policy not in PRESETS:
            raise InvalidRequest(f"augment: unknown policy {policy!r}; expected {', '.join(PRESETS)}, or a list of steps")
        policy = PRESETS[policy]
    if not 1 <= len(policy) <= MAX_STEPS:
        raise InvalidRequest(f"augment: expected 1 to {MAX_STEPS} steps, found {len(policy)}")
    for step in policy:
        if step["name"] not in PIXELS | SHAPES:
            raise InvalidRequest(f"augment: unknown step {step['name']!r}; expected one of {', '.join(sorted(PIXELS | SHAPES))}")
        if not 0 <= step["p"] <= 1:
            raise InvalidRequest(f"augment: {step['name']}: p is {step['p']}, expected a probability in [0, 1]")
    return [{"name": s["name"], "p": float(s["p"]), "options": dict(s.get("options") or {})} for s in policy]


def moves(policy: Sequence[Step]) -> bool:
    """Whether a policy may move what is in the image."""
    return any(step["name"] in SHAPES for step in policy)

"""What each objective, penalty and option of the critic makes of the same fine-tune, on two packs.

    python -m benchmarks.objectives --data DATA [--packs bccd,magnetic_tile] [--arms "hinge;R1 alone"] [--budget 300]

Every arm fine-tunes the shipped foundation for the same seconds of a core and differs from the product's recipe in what its name says (for `invent`
see docs/decisions/035; `invent, grown` has random weights and 32 px for the first 60 % of its time); the recipe itself is trained with two seeds,
so that the table shows what chance does. Figures are means over a pack's classes, against held-out objects. Each arm lands in out/objectives as
it is measured, with its picture, and is not measured again by the same code. Another budget has a file of its own for each pack.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import yardstick
from benchmarks.dial import picture
from benchmarks.packs import Pack, read_pack
from benchmarks.report import Figure, once, save
from benchmarks.tuning import asked_for, foundation_for, parser_of, todays, tuned
from benchmarks.yardstick import Yardstick, some
from longtail.recipes import Start
from trainers import device
from trainers.windows import cut_windows

OUT = Path("out") / "objectives"
NOVELTIES = (0.5, 0.75, 1.0)
ARMS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "recipe, again": {},
    "hinge": {"loss": "hinge"},
    "non-saturating": {"loss": "non_saturating"},
    "R1 alone": {"penalty": "r1"},
    "no penalty": {"penalty_weight": 0.0},
    "penalty 1": {"penalty_weight": 1.0},
    "spectral norm": {"spectral_norm": True},
    "minibatch deviation": {"minibatch_std": True},
    "no adversary": {"adversarial_weight": 0.0},
    "invent": {"aim": "invent"},
    "invent, grown": {"aim": "invent", "size_shares": [0.6, 0.4]},
}
SEEDS = {"recipe, again": 1}
FROM_SCRATCH = {"invent, grown"}
"""What learns at half the size first cannot start from the foundation."""
Measured = dict[str, dict[str, float]]


def start_of(arm: str) -> Start:
    return "random" if arm in FROM_SCRATCH else "foundation"


def measure(pack: Pack, arm: str, *, budget_s: float) -> Measured:
    """{novelty: {figure: value}} of one arm, read back where it was measured before."""
    name = f"objective-{pack.name}-{arm.replace(' ', '_').replace(',', '')}-{budget_s:.0f}s"

    def found() -> Measured:
        generator = tuned(pack, start=start_of(arm), budget_s=budget_s, name=name, seed=SEEDS.get(arm, 0), options=ARMS[arm])
        yard = Yardstick(pack, cut_windows(some(pack.train), resolution=64, per_instance=1, seed=0, fixed=True))
        picture(generator, yard, name, bare=False, out=OUT)
        return {
            novelty: values | {"diversity": float(np.mean([yard.diversity(generator, c, float(novelty)) for c in yard.classes]))}
            for novelty, values in yard.means(generator, NOVELTIES).items()
        }

    measured_by = hashlib.sha256(b"".join(Path(m).read_bytes() for m in (__file__, yardstick.__file__))).hexdigest()[:8]
    measured: Measured = once(OUT / f"{name}-{todays(foundation_for(pack.name))}-{measured_by}.json", found)
    return measured


def main() -> None:
    usual = [name for name, options in ARMS.items() if "aim" not in options]  # to invent takes another budget
    parser = parser_of(__doc__, packs="bccd,magnetic_tile", budget_s=300.0, quick="20 seconds an arm")
    parser.add_argument("--arms", default=";".join(usual), help=f"separated by semicolons; there are {', '.join(ARMS)}")
    arguments = parser.parse_args()
    budget_s = 20.0 if arguments.quick else arguments.budget
    if unknown := sorted(set(arguments.arms.split(";")) - set(ARMS)):
        raise SystemExit(f"unknown arm {unknown[0]!r}; there are {'; '.join(ARMS)}")
    found: dict[str, list[Figure]] = {}
    with device.best_device():
        for name in asked_for(arguments.packs):
            pack, figures = read_pack(name, arguments.data), found.setdefault(name, [])
            for arm in arguments.arms.split(";"):
                for novelty, values in measure(pack, arm, budget_s=budget_s).items():
                    print(f"{name} {arm} {novelty}: " + ", ".join(f"{k} {v:.2f}" for k, v in values.items()), flush=True)
                    figures += [Figure(f"{name}/{arm}/{novelty}/{k}", v, "KID" if k.startswith("kid") else "share") for k, v in values.items()]
    if arguments.quick or budget_s == parser.get_default("budget"):
        found = {"objectives": [figure for figures in found.values() for figure in figures]}
    else:
        found = {f"objectives-{name}-{budget_s:.0f}s": figures for name, figures in found.items()}
    for file, figures in found.items():
        save(file, figures, quick=arguments.quick, gpu=device.name())


if __name__ == "__main__":
    main()

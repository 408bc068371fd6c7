"""What foundations are worth to fine-tunes: each of them as it comes, and fine-tuned by the product's recipe, on two packs.

    python -m benchmarks.foundations trainers/checkpoints/tiny.safetensors out/foundation/other.safetensors --data DATA [--packs bccd,magnetic_tile]
        [--budget 240] [--seeds 2] [--aim invent]

Foundations are chosen by this, so it looks at the part of a pack that is for choosing and never at its judges; half of that part chose the checkpoint
too, of every foundation alike. `filled` is the cut filled alone, which a fine-tune has to be better than. Figures are means over a pack's classes. Each
setting lands in out/foundations as it is measured, and is not measured again by the same code and foundation. A second seed shows what chance does.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import get_args

from benchmarks import yardstick
from benchmarks.packs import Pack, read_pack
from benchmarks.report import Figure, markdown, once, save
from benchmarks.tuning import asked_for, parser_of, todays, tuned
from benchmarks.yardstick import Silent, Yardstick, some
from longtail.recipes import NETWORKS, Aim
from trainers import device, weights
from trainers.windows import cut_windows

OUT = Path("out") / "foundations"
NOVELTIES = (0.25, 0.5, 0.8, 1.0)
FILLED = "filled"
Measured = dict[str, dict[str, float]]
"""{novelty: {figure: value}}"""


def measure(pack: Pack, foundation: Path | None, *, budget_s: float, aim: Aim = "restore", seed: int = 0) -> Measured:
    """The figures of one fine-tune from a foundation, as it comes without a budget; without a foundation those of the cut filled alone."""
    name = f"foundation-{pack.name}-{aim}-{budget_s:.0f}s-{seed}"

    def found() -> Measured:
        learned = cut_windows(some(pack.train), resolution=64, per_instance=1, seed=0, fixed=True)
        yard = Yardstick(replace(pack, judge=pack.select), learned)
        if foundation is None:
            return yard.means(Silent(NETWORKS["tiny"]), NOVELTIES)
        return yard.means(tuned(pack, budget_s=budget_s, name=name, seed=seed, options={"aim": aim}, foundation=foundation), NOVELTIES)

    measured_by = hashlib.sha256(b"".join(Path(m).read_bytes() for m in (__file__, yardstick.__file__))).hexdigest()[:8]
    rests = todays(foundation or weights.FOUNDATION)
    measured: Measured = once(OUT / f"{name if foundation else FILLED + '-' + pack.name}-{rests}-{measured_by}.json", found)
    return measured


def titles(foundations: list[Path]) -> list[str]:
    """What each is called: its file's name. Exits where a file is not there, or two are called alike."""
    if missing := [f for f in foundations if not f.is_file()]:
        raise SystemExit(f"{missing[0]}: there is no such file; make foundation OUT={missing[0]} makes one")
    names = [f.stem for f in foundations]
    if len(set(names)) < len(names):
        raise SystemExit(f"two foundations are called {max(names, key=names.count)!r}: give one of the files another name")
    return names


def main() -> None:
    parser = parser_of(__doc__, packs="bccd,magnetic_tile", budget_s=240.0, quick="20 seconds a fine-tune, one seed")
    parser.add_argument("foundations", type=Path, nargs="+", help="files that make foundation made")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--aim", choices=get_args(Aim), default="restore")
    arguments = parser.parse_args()
    budget_s, seeds = (20.0, 1) if arguments.quick else (arguments.budget, arguments.seeds)
    names, packs = titles(arguments.foundations), arguments.packs.split(",")
    asked_for(",".join(pack for pack in packs if pack != "nuclei") or "bccd")
    if "nuclei" in packs and any(f.read_bytes() == weights.FOUNDATION.read_bytes() for f in arguments.foundations):
        raise SystemExit("nuclei: the shipped foundation has seen them; ask for other packs, or for foundations that have not (make foundation EXCLUDE=nuclei)")
    settings = [(name, path, budget, seed) for name, path in zip(names, arguments.foundations, strict=True) for budget, seed in arms(budget_s, seeds)]
    found: dict[str, Measured] = {}
    with device.best_device():
        for pack in (read_pack(name, arguments.data) for name in packs):
            found[f"{pack.name}/{FILLED}"] = measure(pack, None, budget_s=0.0)
            for name, path, budget, seed in settings:
                label = f"{pack.name}/{name}/" + (f"seed {seed}" if budget else "as it comes")
                found[label] = measure(pack, path, budget_s=budget, aim=arguments.aim if budget else "restore", seed=seed)
                print(f"{label}: KID " + " / ".join(f"{v['kid']:.2f}" for v in found[label].values()), flush=True)
    for figure in ("kid", "coverage", "consistency"):
        print(f"\n{figure}\n" + markdown({k: {n: v[figure] for n, v in values.items()} for k, values in found.items()}, "", lambda _, v: f"{v:.2f}"))
    figures = [
        Figure(f"{label}/{novelty}/{k}", v, "KID" if k.startswith("kid") else "share")
        for label, values in found.items()
        for novelty, row in values.items()
        for k, v in row.items()
    ]
    save("-".join(["foundations", *names, *packs, arguments.aim, f"{budget_s:.0f}s"]), figures, quick=arguments.quick, gpu=device.name())


def arms(budget_s: float, seeds: int) -> list[tuple[float, int]]:
    """(seconds, seed) of all that is made of one foundation: nothing, then a fine-tune a seed."""
    return [(0.0, 0), *((budget_s, seed) for seed in range(seeds))]


if __name__ == "__main__":
    main()

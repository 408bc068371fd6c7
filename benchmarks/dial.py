"""What the dial of novelty does at five settings, on three packs: KID of objects and of windows, coverage, copying, label consistency, seam, a fresh
critic, context, overlap, diversity; and how much of each hole is left to the generator.

    python -m benchmarks.dial --data DATA [--packs bccd,magnetic_tile,nuclei] [--budget 300]

Fine-tunes the shipped foundation on each pack for `budget` seconds of a core, and a plain DCGAN from random weights as the floor, keeps the weights
under out/generators, and measures on the pack's held-out images. Pictures go to out/dial: rows are the real object and the five settings,
once over it and once on bare ground. One training run a pack: its spread is not in the table.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from benchmarks.packs import PACKS, Pack, read_pack
from benchmarks.report import Figure, save
from benchmarks.tuning import asked_for, parser_of, tuned
from benchmarks.yardstick import Yardstick, some
from longtail.gates import DERIVED_BELOW
from trainers import device
from trainers.grids import tile
from trainers.networks import Generator
from trainers.sampling import complete
from trainers.windows import cut_windows

OUT = Path("out") / "dial"
NOVELTIES = (0.0, 0.25, 0.5, 0.75, 1.0)
COLUMNS = 15


def measure(pack: Pack, *, budget_s: float) -> list[Figure]:
    generator = tuned(pack, budget_s=budget_s, name=f"{pack.name}-{budget_s:.0f}s")
    yard = Yardstick(pack, cut_windows(some(pack.train), resolution=64, per_instance=1, seed=0, fixed=True))
    floor = tuned(pack, preset="baseline", start="random", budget_s=budget_s, name=f"{pack.name}-dcgan-{budget_s:.0f}s")
    pasted = {c: yard.samples(None, c, novelty=0.0, bare=False) for c in yard.classes}
    found = [Figure(f"{pack.name}/{name}/pasted/critic", yard.critic(pasted[c]), "share") for c, name in yard.classes.items()]
    for c, name in yard.classes.items():
        plain = yard.likeness(yard.samples(floor, c, novelty=1.0, bare=False), c, derived=False)
        found += [Figure(f"{pack.name}/{name}/plain DCGAN/{k}", v, "KID" if k.startswith("kid") else "share") for k, v in plain.items()]
    for novelty in NOVELTIES:
        for c, name in yard.classes.items():
            over, bare = (yard.samples(generator, c, novelty=novelty, bare=b) for b in (False, True))
            values = yard.likeness(over, c, derived=novelty < DERIVED_BELOW) | {
                "kid_bare": yard.likeness(bare, c, derived=True)["kid"],
                "seam_to_real": yard.seam(over, c),
                "critic": yard.critic(over),
                "context": yard.context(over),
                "overlap": yard.overlap(bare),
                "diversity_to_real": yard.diversity(generator, c, novelty),
            }
            found += [Figure(f"{pack.name}/{name}/{novelty}/{k}", v, "KID" if k.startswith("kid") else "share") for k, v in values.items()]
    picture(generator, yard, pack.name, bare=False)
    picture(generator, yard, f"{pack.name}-bare", bare=True)
    return found


@torch.no_grad()
def picture(generator: Generator, yard: Yardstick, name: str, *, bare: bool, out: Path = OUT) -> None:
    """out/NAME.png: the real place, then the same place at each novelty."""
    places = [(c, k) for k in range(COLUMNS) for c in yard.classes][:COLUMNS]
    rows = [torch.cat([yard.one_scene(c, 0.0, k, bare=bare)[0].image_B3RR for c, k in places])]
    for novelty in NOVELTIES:
        latents = [torch.randn(1, generator.config.latent, generator=device.random_stream(i)) for i in range(COLUMNS)]
        rows.append(torch.cat([complete(generator, yard.one_scene(c, novelty, k, bare=bare)[0], z) for (c, k), z in zip(places, latents, strict=True)]))
    out.mkdir(parents=True, exist_ok=True)
    Image.fromarray(tile(rows)).save(out / f"{name}.png")


def main() -> None:
    arguments = parser_of(__doc__, packs=",".join(PACKS), budget_s=300.0, quick="20 seconds a pack").parse_args()
    budget_s = 20.0 if arguments.quick else arguments.budget
    packs = asked_for(arguments.packs)
    with device.best_device():
        figures = [f for name in packs for f in measure(read_pack(name, arguments.data), budget_s=budget_s)]
    save("dial", figures, quick=arguments.quick, gpu=device.name())


if __name__ == "__main__":
    main()

"""Quality against the number of real objects of a class: fine-tuned, from scratch, the plain DCGAN, the cut filled alone, and copy-paste, on three packs.

    python -m benchmarks.few --data DATA [--packs bccd,magnetic_tile,nuclei] [--counts 5,10,20,50,100] [--budget 240]
    python -m benchmarks.few --data DATA --counts 5 --novelties 0.25 --arms filled,finetuned,scratch

Every generator has the same seconds of a core. Figures are means over the classes that have eight held-out objects. Each setting lands in
out/few as it is measured, and is not measured again by the same code: interrupted, the command goes on. Asked as either command has it, it writes
its table of docs/benchmarks.md: the second is what the product makes of fewer than ten objects. Asked otherwise, figures have a file of their own.
One training run a setting: its spread is not in the table.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from benchmarks import yardstick
from benchmarks.packs import PACKS, Pack, read_pack
from benchmarks.report import Figure, once, save, write_between
from benchmarks.tuning import asked_for, foundation_for, parser_of, todays, tuned
from benchmarks.yardstick import Silent, Yardstick, few
from longtail.recipes import NETWORKS, Preset, Start
from trainers import device
from trainers.windows import cut_windows

OUT = Path("out") / "few"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
COUNTS = "5,10,20,50,100"
NOVELTIES = "0.5,0.8"
"""The default, and where little of an exemplar is left; under 0.25 nothing is the generator's to paint."""
ARMS: dict[str, tuple[Preset, Start] | None] = {
    "copy_paste": None,
    "filled": None,
    "finetuned": ("tiny", "foundation"),
    "scratch": ("tiny", "random"),
    "baseline": ("baseline", "random"),
}
AT = {"copy_paste": (0.0,), "baseline": (1.0,)}
"""Those that know one novelty."""
SECTIONS = {"few": (COUNTS, NOVELTIES, ",".join(ARMS)), "few-5-at-0.25": ("5", "0.25", "filled,finetuned,scratch")}
"""The tables of the page, and which counts, novelties and arms each is asked with."""
SPOKEN = {"copy_paste": "copy-paste", "filled": "filled alone", "finetuned": "fine-tuned", "scratch": "from scratch", "baseline": "plain DCGAN"}
MORE_OF = {"nuclei": ("fluorescence", 500)}
"""A class that has many, and how many are asked of it beyond the usual counts."""


Found = dict[tuple[str, int, str, str], dict[str, float]]
"""{(pack, count, arm, novelty): {figure: value}}"""


def measure(pack: Pack, count: int, arm: str, *, budget_s: float, novelties: tuple[float, ...]) -> dict[str, dict[str, float]]:
    """{novelty: {figure: value}} of one arm at one count, read back where it was measured before."""

    asked = AT.get(arm, novelties)

    def found() -> dict[str, dict[str, float]]:
        reduced = few(pack, count)
        yard = Yardstick(pack, cut_windows(reduced.train, resolution=64, per_instance=1, seed=0, fixed=True))
        settings = ARMS[arm]
        if not settings:
            return yard.means(Silent(NETWORKS["tiny"]) if arm == "filled" else None, asked)
        preset, start = settings
        return yard.means(tuned(reduced, preset=preset, start=start, budget_s=budget_s, name=f"few-{pack.name}-{count}-{arm}-{budget_s:.0f}s"), asked)

    measured_by = hashlib.sha256(Path(yardstick.__file__).read_bytes()).hexdigest()[:8]
    kept = OUT / f"{pack.name}-{count}-{arm}-{budget_s:.0f}s-at-{'-'.join(f'{n:g}' for n in asked)}-{todays(foundation_for(pack.name))}-{measured_by}.json"
    measured: dict[str, dict[str, float]] = once(kept, found)
    return measured


def counts_of(pack: Pack, asked: list[int]) -> list[int]:
    """The counts that some class of the pack has."""
    most = max(sum(i.label == c for i in pack.train) for c in pack.classes)
    more = [MORE_OF[pack.name][1]] if pack.name in MORE_OF and ",".join(map(str, asked)) == COUNTS else []
    return [n for n in (*asked, *more) if n <= most]


def tables(found: Found) -> list[str]:
    """KID by the number of objects, then coverage / share of copies / label consistency; a line for each arm and novelty of each pack."""
    counts = sorted({count for _, count, _, _ in found})
    lines = dict.fromkeys((pack, arm, novelty) for pack, _, arm, novelty in found)
    titles = ["pack", "arm", "novelty", *(f"{'at ' * (k == 0)}{n}" for k, n in enumerate(counts))]
    shown: list[str] = []
    for keys in (["kid"], ["coverage", "copies", "consistency"]):
        shown += ["| " + " | ".join(titles) + " |", "|" + " --- |" * len(titles)]
        for pack, arm, novelty in lines:
            cells = [" / ".join(f"{found[pack, n, arm, novelty][k]:.2f}" for k in keys) if (pack, n, arm, novelty) in found else "" for n in counts]
            shown.append("| " + " | ".join([pack, SPOKEN[arm], "–" if arm == "copy_paste" else novelty, *cells]) + " |")
        shown.append("")
    return shown[:-1]


def main() -> None:
    parser = parser_of(__doc__, packs=",".join(PACKS), budget_s=240.0, quick="one count, ten seconds a setting")
    parser.add_argument("--counts", default=COUNTS)
    parser.add_argument("--novelties", default=NOVELTIES)
    parser.add_argument("--arms", default=",".join(ARMS))
    arguments = parser.parse_args()
    budget_s = 10.0 if arguments.quick else arguments.budget
    asked = [10] if arguments.quick else [int(n) for n in arguments.counts.split(",")]
    novelties = tuple(float(n) for n in arguments.novelties.split(","))
    packs, found = asked_for(arguments.packs), Found()
    with device.best_device():
        for name in packs:
            pack = read_pack(name, arguments.data)
            for count in counts_of(pack, asked):
                for arm in arguments.arms.split(","):
                    for novelty, values in measure(pack, count, arm, budget_s=budget_s, novelties=novelties).items():
                        print(f"{name} {count} {arm} {novelty}: " + ", ".join(f"{k} {v:.2f}" for k, v in values.items()), flush=True)
                        found[name, count, arm, novelty] = values
    figures = [Figure("/".join(map(str, (*setting, k))), v, "KID" if k.startswith("kid") else "share") for setting, vs in found.items() for k, v in vs.items()]
    settings = (arguments.counts, arguments.novelties, arguments.arms)
    whole = set(packs) == set(PACKS) and budget_s == parser.get_default("budget")
    section = next((name for name, wanted in SECTIONS.items() if settings == wanted and whole), None)
    other = "-".join(("few", *settings, *packs, f"{budget_s:.0f}s")).replace(",", "_")
    save("few" if arguments.quick else section or other, figures, quick=arguments.quick, gpu=device.name())
    if section and not arguments.quick:
        write_between(PAGE, section, "\n".join(tables(found)))


if __name__ == "__main__":
    main()

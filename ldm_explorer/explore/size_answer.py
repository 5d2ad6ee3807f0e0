"""What does a larger latent give, and what does it cost? In sentences that claim no more than the measures do."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ldm_explorer.evaluation.measures import MEASURES
from ldm_explorer.explore.size_measures import SizeMeasures, spread_around

EXACT = ("gflops_per_image",)
"""Counted and not trained: the same for every seed."""

HEADLINES = ("psnr_db", "fd_percent", "gflops_per_image")
CONTINUITY = {name: measure.asks for name, measure in MEASURES.items() if measure.asks}
"""Those of which less is better, and what they ask about. Of the spectrum neither more nor less is, and a path as short
as its chord is a cross-fade."""

COMPARISONS = {
    "More values at one side": ("8x8x1", "8x8x2", "8x8x4", "8x8x8"),
    "More side at equal values": ("4x4x16", "8x8x4", "16x16x1"),
    "Side 8 or 32": ("8x8x4", "32x32x1"),
    "8 or 32 channels": ("4x4x8", "4x4x32"),
}
"""From the smallest latent on. In short, and of continuity, the last one is compared with the first."""

NOT_KNOWN = (
    "How far measures differ between training seeds is not known here, so no difference between latents is claimed: "
    "the numbers below are of one training each."
)
NOTHING_TO_COMPARE = "There are no two latents here of those that are compared in words."


@dataclass(frozen=True)
class Difference:
    """One measure of latents of several shapes, from the smallest latent on."""

    measure: str
    shapes: tuple[str, ...]
    values: tuple[float, ...]
    spread: float  # of training seeds, as `read_training_spread` gives it

    @property
    def best(self) -> tuple[str, ...]:
        """The shapes that are no further than the spread from the best one; all where no difference can be claimed."""
        best = (max if MEASURES[self.measure].better == "higher" else min)(self.values)
        pairs = zip(self.shapes, self.values, strict=True)
        return tuple(shape for shape, value in pairs if abs(value - best) <= self.tolerance(value, best))

    def tolerance(self, *values: float) -> float:
        """How far seeds alone move measures of this size, in the measure's unit."""
        return max(spread_around(self.measure, value, self.spread) for value in values)

    @property
    def verdict(self) -> str:
        """ "better" or "worse" of the last one of two, "best with ..." of more, or "same" within the spread."""
        if len(self.best) == len(self.shapes):
            return "same"
        if len(self.shapes) > 2:
            return f"best with {' and '.join(self.best)}"
        return "better" if self.best[0] == self.shapes[-1] else "worse"


def find_differences(
    sizes: Sequence[SizeMeasures], shapes: Sequence[str], measures: Iterable[str], spread: dict[str, float]
) -> tuple[Difference, ...]:
    """Compare in each measure that two of the shapes and the training seeds have; the others are left out."""
    of_shape = by_shape(sizes)
    found = []
    for measure in measures:
        items = [of_shape[shape] for shape in shapes if shape in of_shape and measure in of_shape[shape].measures]
        of_seeds = 0.0 if measure in EXACT else spread.get(measure)
        if len(items) > 1 and of_seeds is not None and _are_measured_alike(items, measure):
            compared = tuple(item.size.shape for item in items), tuple(item.measures[measure] for item in items)
            found.append(Difference(measure, *compared, of_seeds))
    return tuple(found)


def by_shape(sizes: Sequence[SizeMeasures]) -> dict[str, SizeMeasures]:
    """The family's one of each shape."""
    return {item.size.shape: item for item in sizes if item.of_its_shape}


def _are_measured_alike(items: Sequence[SizeMeasures], measure: str) -> bool:
    """Samples and their cost compare only with as many evaluations, samples only by one sampler."""
    samplers, evaluations = {item.sampler for item in items}, {item.evaluations for item in items}
    needed = {"fd_percent": (samplers, evaluations), "gflops_per_image": (evaluations,)}
    return all(len(ways) == 1 for ways in needed.get(measure, ()))


def _ends(sizes: Sequence[SizeMeasures], title: str) -> tuple[str, ...]:
    """The first and the last shape of a comparison that are there; none where there are no two."""
    there = by_shape(sizes)
    known = [shape for shape in COMPARISONS[title] if shape in there]
    return (known[0], known[-1]) if len(known) > 1 else ()


def answer_in_short(sizes: Sequence[SizeMeasures], spread: dict[str, float]) -> str:
    """What the larger latent of each comparison gives and costs, as Markdown with hardly a number; or why nothing is.

    From the family's measures and the spread of training seeds.
    """
    if not spread:
        return NOT_KNOWN
    lines = [
        f"**{title}**: {_named(ends[-1], sizes)} in the place of {_named(ends[0], sizes)} {said}"
        f"{_not_generated(ends, sizes)}."
        for title in COMPARISONS
        if (ends := _ends(sizes, title)) and (said := _in_short(sizes, ends, spread))
    ]
    return _list(lines) or NOTHING_TO_COMPARE


def answer_in_numbers(sizes: Sequence[SizeMeasures], spread: dict[str, float]) -> str:
    """The same with numbers and spreads, as Markdown; "" where there are none."""
    found = {title: find_differences(sizes, shapes, HEADLINES, spread) for title, shapes in COMPARISONS.items()}
    return _list([_headline(title, differences, sizes) for title, differences in found.items() if differences])


def continuity_in_numbers(sizes: Sequence[SizeMeasures], spread: dict[str, float]) -> str:
    """Which measures of continuity get worse and which do not, as Markdown; "" where there are none."""
    ends = {title: _ends(sizes, title) for title in COMPARISONS}
    found = {title: find_differences(sizes, shapes, CONTINUITY, spread) for title, shapes in ends.items()}
    return _list(
        [
            f"**{title}**, {' → '.join(_named(shape, sizes) for shape in ends[title])}: {_by_verdict(differences)}."
            for title, differences in found.items()
            if differences
        ]
    )


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _in_short(sizes: Sequence[SizeMeasures], shapes: tuple[str, ...], spread: dict[str, float]) -> str:
    """Clauses on the measures that are known; "" where there are none."""
    found = {item.measure: item for item in find_differences(sizes, shapes, HEADLINES, spread)}
    said = {
        verb: _adverb(found[measure].verdict)
        for verb, measure in (("reconstructs", "psnr_db"), ("generates", "fd_percent"))
        if measure in found
    }
    clauses = [f"{verb} {how}" for verb, how in said.items()]
    if len(said) > 1 and len(set(said.values())) == 1:
        clauses = [f"{' and '.join(said)} {said['generates']}"]
    if continuity := find_differences(sizes, shapes, CONTINUITY, spread):
        clauses += _gains_and_losses(continuity)
    if cost := found.get("gflops_per_image"):
        ratio = round(cost.values[1] / cost.values[0], 1)
        clauses.append(f"an image costs {f'{ratio} times as much' if ratio != 1 else 'as much'}")
    return _listed(clauses, comma=",")


def _not_generated(shapes: tuple[str, ...], sizes: Sequence[SizeMeasures]) -> str:
    """Which are autoencoders alone: silence on how they generate should not read as "the same"."""
    of_denoisers, of_shape = {"fd_percent", "gflops_per_image"}, by_shape(sizes)
    alone = [shape for shape in shapes if not of_denoisers & of_shape[shape].measures.keys()]
    return f" (no denoiser was trained on {_listed(alone)})" if alone else ""


def _adverb(verdict: str) -> str:
    return "no differently beyond luck" if verdict == "same" else f"**{verdict}**"


def _gains_and_losses(continuity: Sequence[Difference]) -> list[str]:
    verbs = {"better": "**gains continuity** in", "worse": "**loses continuity** in"}
    named = {
        verb: [CONTINUITY[item.measure] for item in continuity if item.verdict == verdict]
        for verdict, verb in verbs.items()
    }
    said = [f"{verb} {_listed(names)}" for verb, names in named.items() if names]
    return said or ["keeps its continuity within luck"]


def _listed(words: Sequence[str], comma: str = "") -> str:
    """As "a, b and c", with a `comma` before the last one where the words are clauses."""
    if len(words) < 3:
        return " and ".join(words)
    return f"{', '.join(words[:-1])}{comma} and {words[-1]}"


def _headline(title: str, differences: tuple[Difference, ...], sizes: Sequence[SizeMeasures]) -> str:
    shapes = max((difference.shapes for difference in differences), key=len)
    named = " → ".join(_named(shape, sizes) for shape in shapes)
    return f"**{title}**, {named}: {'; '.join(_in_words(item, shapes) for item in differences)}."


def _named(shape: str, sizes: Sequence[SizeMeasures]) -> str:
    """A shape, which is side x side x channels, with its number of values."""
    size = by_shape(sizes)[shape].size
    return (
        f"{shape} ({size.values:,} values{'' if size.compresses else ', no compression: pixel diffusion in disguise'})"
    )


def _in_words(difference: Difference, shapes: tuple[str, ...]) -> str:
    measure = MEASURES[difference.measure]
    where = "" if difference.shapes == shapes else f" ({' → '.join(difference.shapes)})"
    values = " → ".join(f"{value:#.3g}".rstrip(".") for value in difference.values)
    said = f"{measure.title} {values} {measure.unit}{where}"
    if difference.measure in EXACT:
        return said
    if difference.verdict == "same":
        return f"{said}, no difference beyond the spread of seeds ({_spread(difference)})"
    return f"{said}, **{difference.verdict}** (spread of seeds {_spread(difference)})"


def _spread(difference: Difference) -> str:
    return f"{difference.spread:.2g} dB" if MEASURES[difference.measure].unit == "dB" else f"{difference.spread:.0%}"


def _by_verdict(differences: tuple[Difference, ...]) -> str:
    def named(item: Difference) -> str:
        name, (first, last) = MEASURES[item.measure].title, item.values
        return f"{name} ({first:.3g} → {last:.3g}, spread {item.spread:.0%})"

    verdicts = {"worse": "**worse**", "better": "**better**", "same": "no difference beyond the spread of seeds"}
    listed = {
        words: ", ".join(named(item) for item in differences if item.verdict == verdict)
        for verdict, words in verdicts.items()
    }
    return "; ".join(f"{words}: {names}" for words, names in listed.items() if names)

"""Is a formula for z0, eps, v, u, z_t or z_s right? By exact algebra, and by numbers along a schedule."""

import random
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext

from ldm_explorer.explore.formula_algebra import (
    BeyondAlgebra,
    Comparison,
    Monomial,
    Path,
    compare,
    definitions,
    on_line,
    readable,
    value_at,
)
from ldm_explorer.explore.formula_syntax import Formula, NumberSystem, evaluate, parse_formula
from ldm_explorer.schedules import DEFAULT_NUM_TIMESTEPS, BetaSchedule, FlowSchedule, Schedule, make_schedule

DIGITS = 120
TOLERANCE = Decimal("1e-20")
NOTHING = Decimal("1e-90")
"""What is smaller counts as zero: with 120 digits a^2 + b^2 - 1 is not exactly it."""

MAX_TERMS = 4
MAX_TEXT = 60
_FRACTIONS_OF_T = (0.5, 0.25, 0.75, 0.1, 0.9, 0.4, 0.6, 1.0)
_ALONG: dict[Path, str] = {"circle": "along the schedule", "line": "along a flow, a = 1 - s and b = s"}
_RIGHT_ELSEWHERE: dict[Path, str] = {
    "circle": "It is right where variance is preserved, a^2 + b^2 = 1, and not along a flow.",
    "line": "It is right along a flow, where a = 1 - s and b = s, and not where variance is preserved.",
    "reversed line": "It is right for a flow whose time runs the other way, with data at s = 1 and u = z0 - eps, as in "
    "many papers; here and in diffusers data lies at s = 0, and u = eps - z0.",
}


_THE_OTHER = {
    "u": "It is u, the velocity of a flow, where the image moves on a straight line: u = dz/ds = eps - z0.",
    "v": "It is v, the velocity where variance is preserved and the image moves on a circle: v = a*eps - b*z0.",
}


@dataclass(frozen=True)
class Trial:
    """Both sides of a formula for one latent value at one step; `given` is None where it is no real number."""

    t: int
    s: int
    place: float  # alpha_bar at t, or the time of a flow
    place_s: float
    path: Path
    z0: float
    eps: float
    given: Decimal | None
    needed: Decimal

    @property
    def agrees(self) -> bool:
        return self.given is not None and abs(self.given - self.needed) <= TOLERANCE

    @property
    def inside(self) -> bool:
        """Whether neither signal nor noise is gone: there a formula has to hold."""
        return 0 < self.place < 1 and 0 < self.place_s < 1

    def letters(self) -> dict[str, float]:
        """a, b, a_s and b_s as numbers."""
        pairs = {step: _amplitudes(Decimal(x), self.path) for step, x in (("", self.place), ("_s", self.place_s))}
        return {f"{letter}{step}": float(pair["ab".index(letter)]) for letter in "ab" for step, pair in pairs.items()}


@dataclass(frozen=True)
class WrongTerm:
    """A term whose coefficient differs: as text in a, b, a_s, b_s and as a number in the counter-example."""

    name: str  # "z0", "eps", "z0*eps", ...; "1" for what stands without either
    given: str
    needed: str
    given_value: float
    needed_value: float


@dataclass(frozen=True)
class Verdict:
    """What there is to say about a formula."""

    formula: Formula
    right: bool
    proven: bool  # by algebra, and not by the numbers alone
    counter_example: Trial | None  # of a wrong one
    wrong_terms: tuple[WrongTerm, ...]  # of a wrong one, where algebra finds them
    undefined: Trial | None  # of a right one: where it divides by zero
    remark: str = ""  # why no term is named
    path: Path = "circle"  # along which it was compared
    elsewhere: str = ""  # of a wrong one: where it would be right
    taken_for: str = ""  # of a wrong one: the other velocity, where it is right for that

    def sentence(self) -> str:
        """The answer in words, without the counter-example."""
        if self.right:
            how = "identical by algebra, and equal" if self.proven else "equal"
            more = "" if self.proven else f" {self.remark}"
            return f"Right: {how} to the truth in numbers {_ALONG[self.path]}.{more}{self._where_undefined()}"
        terms = [_say(term) for term in self.wrong_terms[:MAX_TERMS]]
        if left := len(self.wrong_terms) - len(terms):
            terms.append(f"and {left} more")
        wrong = f"Wrong: {'; '.join(terms)}." if terms else f"Wrong. {self.remark}"
        return " ".join(filter(None, (wrong, self.taken_for, self.elsewhere)))

    def _where_undefined(self) -> str:
        if self.undefined is None:
            return ""
        if self.path == "line":
            return f" It divides by zero at s = {self.undefined.place:g}."
        return f" It divides by zero at t = {self.undefined.t}, where abar = {self.undefined.place:g}."


def check_formula(text: str, quantity: str = "eps", schedule: Schedule | None = None, seed: int = 0) -> Verdict:
    """Check `z0 = a*z_t - b*v`, or a right side alone for `quantity`, against z_t = a z0 + b eps, v = a eps - b z0,
    u = eps - z0, z_s = a_s z0 + b_s eps.

    `schedule` is that of the numbers, the cosine one when None; s is any step before t. What holds a flow's time is
    compared along a flow, whatever the schedule is. Raises `ValueError` for what is no such formula (see
    `parse_formula`).
    """
    formula = parse_formula(text, quantity)
    path: Path = "line" if formula.names_time or isinstance(schedule, FlowSchedule) else "circle"
    verdict = _judge(formula, path, schedule, seed)
    if verdict.right:
        return verdict
    if taken_for := _taken_for(formula, path, schedule, seed):
        return replace(verdict, taken_for=taken_for)
    others = [other for other in _RIGHT_ELSEWHERE if other != path and not (other == "circle" and formula.names_time)]
    elsewhere = [_RIGHT_ELSEWHERE[other] for other in others if _judge(formula, other, schedule, seed).right]
    return replace(verdict, elsewhere=elsewhere[0] if elsewhere else "")


def _taken_for(formula: Formula, path: Path, schedule: Schedule | None, seed: int) -> str:
    """Whether what is given as one velocity is the other one."""
    other = {"v": "u", "u": "v"}.get(formula.quantity)
    if other is None or not _judge(replace(formula, quantity=other), path, schedule, seed).right:
        return ""
    return _THE_OTHER[other]


def _judge(formula: Formula, path: Path, schedule: Schedule | None, seed: int) -> Verdict:
    trials = _trials(formula, _places(path, schedule), path, seed)
    comparison, remark = None, ""
    try:
        comparison = compare(formula, path)
    except BeyondAlgebra:
        remark = "It was compared in numbers only: a root in it does not simplify, or it is too large."
    except ZeroDivisionError:
        remark = "It divides by zero, whatever t is."
    inside = [trial for trial in trials if trial.inside] or trials
    if comparison is None:
        right = all(trial.agrees for trial in inside)
    else:
        defined = [trial for trial in inside if trial.given is not None]
        right = comparison.equal and bool(defined) and all(trial.agrees for trial in defined)
    if right:
        undefined = next((trial for trial in trials if trial.given is None), None)
        return Verdict(formula, True, comparison is not None, None, (), undefined, remark, path)
    example = next((trial for trial in inside if not trial.agrees), inside[0])
    terms = () if comparison is None else _wrong_terms(comparison, example)
    remark = remark or "It divides by a latent, and is no sum of z0 and eps with coefficients that only depend on t."
    return Verdict(formula, False, comparison is not None, example, terms, None, remark, path)


def _places(path: Path, schedule: Schedule | None) -> list[float]:
    """alpha_bar of every step, or the times of a flow."""
    if path != "circle":
        steps = schedule.num_timesteps if isinstance(schedule, FlowSchedule) else DEFAULT_NUM_TIMESTEPS
        return [step / steps for step in range(1, steps + 1)]
    return (schedule if isinstance(schedule, BetaSchedule) else make_schedule("cosine")).alpha_bars.tolist()


def _trials(formula: Formula, places: list[float], path: Path, seed: int) -> list[Trial]:
    """One latent value at each of a few steps t, the last one among them, and a step s before each."""
    source, last = random.Random(seed), len(places) - 1
    steps = dict.fromkeys(max(1, round(fraction * last)) for fraction in _FRACTIONS_OF_T)

    def draw() -> float:
        return source.choice((-1, 1)) * source.randint(20, 250) / 100

    trials = []
    for t in steps:
        s, z0, eps = source.randrange(t), draw(), draw()
        given, needed = _both_sides(formula, places[t], places[s], path, z0, eps)
        trials.append(Trial(t, s, places[t], places[s], path, z0, eps, given, needed))
    return trials


def _both_sides(
    formula: Formula, place: float, place_s: float, path: Path, z0: float, eps: float
) -> tuple[Decimal | None, Decimal]:
    with localcontext() as context:
        context.prec = DIGITS
        amplitudes = *_amplitudes(Decimal(place), path), *_amplitudes(Decimal(place_s), path)
        names = definitions(*amplitudes, Decimal(repr(z0)), Decimal(repr(eps)), path)
        try:
            given = evaluate(formula.tree, NumberSystem(names, _number, _root, _divisor))
        except ArithmeticError:
            given = None
        return given, names[formula.quantity]


def _amplitudes(place: Decimal, path: Path) -> tuple[Decimal, Decimal]:
    return (place.sqrt(), (1 - place).sqrt()) if path == "circle" else on_line(place, path)


def _number(value) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)


def _root(value: Decimal) -> Decimal:
    return Decimal(0) if abs(value) < NOTHING else value.sqrt()


def _divisor(value: Decimal) -> Decimal:
    if abs(value) < NOTHING:
        raise ZeroDivisionError
    return value


def _wrong_terms(comparison: Comparison, example: Trial) -> tuple[WrongTerm, ...]:
    letters, path = example.letters(), example.path
    terms = []
    for powers, (given, needed) in comparison.differing.items():
        values = value_at(given, **letters), value_at(needed, **letters)
        terms.append(WrongTerm(_name(powers), readable(given, path), readable(needed, path), *values))
    return tuple(sorted(terms, key=lambda term: term.needed == "0"))


def _name(powers: Monomial) -> str:
    factors = [
        letter if power == 1 else f"{letter}^{power}"
        for letter, power in zip(("z0", "eps"), powers, strict=True)
        if power
    ]
    return "*".join(factors) or "1"


def _say(term: WrongTerm) -> str:
    what = "the part with neither z0 nor eps" if term.name == "1" else f"the coefficient of {term.name}"
    given, needed = _with_value(term.given, term.given_value), _with_value(term.needed, term.needed_value)
    return f"{what} is {given} where {needed} is needed"


def _with_value(text: str, value: float) -> str:
    """A coefficient with its number beside it, or the number alone where the text is one or is too long to read."""
    if text.lstrip("-").isdigit() and len(text) <= MAX_TEXT:
        return text
    return f"{text} ({value:.3g})" if len(text) <= MAX_TEXT else f"{value:.3g}"

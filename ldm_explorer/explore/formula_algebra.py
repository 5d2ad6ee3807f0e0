"""The velocity algebra over exact fractions of polynomials, so that two formulas can be compared, not only sampled.

A formula is an element of the field Q(a, b, a_s, b_s, z0, eps). Where variance is preserved, a^2 + b^2 = 1 and
a_s^2 + b_s^2 = 1 are applied when two are compared; along the line of a flow a is 1 - b from the start, and b is its
time s. Only sympy's polynomials are used: text never reaches sympy.
"""

import operator
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from math import isqrt
from typing import Any, Literal

from sympy.polys.domains import QQ
from sympy.polys.fields import FracElement, field
from sympy.polys.rings import PolyElement

from ldm_explorer.explore.formula_syntax import Formula, NumberSystem, evaluate

_FIELD, _B, _B_S, _A, _A_S, _Z0, _EPS = field("b, b_s, a, a_s, z0, eps", QQ)
_RING = _FIELD.ring
_CIRCLES = ((0, 2), (1, 3))  # positions of b and a, of b_s and a_s
_LATENTS = slice(4, 6)  # positions of z0 and eps

Path = Literal["circle", "line", "reversed line"]
"""Where variance is preserved (a, b) lies on a circle; along a flow on the line a = 1 - s, b = s. In many papers a
flow's time runs the other way: a = s, b = 1 - s, with data at s = 1 and u = dz/ds = z0 - eps."""
Monomial = tuple[int, int]
"""Powers of z0 and eps: (1, 0) is z0, (0, 1) eps, (0, 0) what stands without either."""


class BeyondAlgebra(Exception):
    """A root that is no ratio of polynomials, or an expression too large to be compared quickly."""


def definitions(a: Any, b: Any, a_s: Any, b_s: Any, z0: Any, eps: Any, path: Path = "circle") -> dict[str, Any]:
    """Every name of a formula in terms of these six, over whatever numbers they are.

    v is that of Salimans & Ho 2022 (app. D), u that of rectified flow (Liu et al. 2023). Only a flow has its time.
    """
    times = {"circle": {}, "line": {"s": b, "s_next": b_s}, "reversed line": {"s": a, "s_next": a_s}}
    return times[path] | {
        "u": z0 - eps if path == "reversed line" else eps - z0,
        "z0": z0,
        "eps": eps,
        "z_t": a * z0 + b * eps,
        "v": a * eps - b * z0,
        "z_s": a_s * z0 + b_s * eps,
        "a": a,
        "b": b,
        "abar": a * a,
        "a_s": a_s,
        "b_s": b_s,
        "abar_s": a_s * a_s,
    }


def on_line(time: Any, path: Path) -> tuple[Any, Any]:
    """(a, b) at a time of a flow, over whatever numbers they are."""
    return (1 - time, time) if path == "line" else (time, 1 - time)


@dataclass(frozen=True)
class Comparison:
    """A formula beside the truth."""

    equal: bool
    differing: dict[Monomial, tuple[FracElement, FracElement]]
    """The given and the needed coefficient of the powers of z0 and eps where they differ; none where the formula
    divides by these."""


def compare(formula: Formula, path: Path = "circle") -> Comparison:
    """Raises `BeyondAlgebra`, and `ZeroDivisionError` for a formula that divides by zero whatever t is."""
    if evaluate(formula.tree, _sizes(path)).too_large:
        raise BeyondAlgebra("too large")
    exact = _exact(path)
    given, needed = evaluate(formula.tree, exact), exact.names[formula.quantity]
    if not _reduced(given.denom, path):
        raise ZeroDivisionError
    of_given = None if _holds_latents(given.denom) else _coefficients(given, path)
    differing = _differing(of_given, _coefficients(needed, path), path)
    return Comparison(_is_zero(given - needed, path), differing)


def readable(coefficient: FracElement, path: Path = "circle") -> str:
    """The shortest of the ways to write a coefficient: a^2 + b^2 = 1 allows several. Along a line it is one of s."""
    texts = []
    for above in _rewritings(coefficient.numer, path):
        for below in _rewritings(coefficient.denom, path):
            if below:
                texts.append(str((_FIELD(above) / _FIELD(below)).as_expr()).replace("**", "^"))
    text = min(texts, key=len)
    return text if path == "circle" else re.sub(r"\bb\b", "s", re.sub(r"\bb_s\b", "s_next", text))


def value_at(coefficient: FracElement, a: float, b: float, a_s: float, b_s: float) -> float:
    """A coefficient as a number."""
    above, below = (
        sum(float(factor) * b**i * b_s**j * a**k * a_s**m for (i, j, k, m, *_), factor in part.terms())
        for part in (coefficient.numer, coefficient.denom)
    )
    return above / below


def _differing(
    given: dict[Monomial, FracElement] | None, needed: dict[Monomial, FracElement], path: Path
) -> dict[Monomial, tuple[FracElement, FracElement]]:
    if given is None:
        return {}
    monomials = sorted({*given, *needed}, key=lambda powers: (sum(powers), powers[1]))
    pairs = {powers: (given.get(powers, _FIELD.zero), needed.get(powers, _FIELD.zero)) for powers in monomials}
    return {powers: pair for powers, pair in pairs.items() if not _is_zero(operator.sub(*pair), path)}


def _coefficients(value: FracElement, path: Path) -> dict[Monomial, FracElement]:
    """By power of z0 and eps, which do not stand below the line; zeros left out."""
    parts: dict[Monomial, PolyElement] = {}
    for monomial, factor in _reduced(value.numer, path).terms():
        powers = monomial[_LATENTS]
        part = _RING({(*monomial[: _LATENTS.start], 0, 0): factor})
        parts[powers] = parts.get(powers, _RING.zero) + part
    return {powers: _FIELD(part) / _FIELD(value.denom) for powers, part in parts.items()}


def _holds_latents(polynomial: PolyElement) -> bool:
    return any(any(monomial[_LATENTS]) for monomial in polynomial.monoms())


def _is_zero(value: FracElement, path: Path) -> bool:
    return not _reduced(value.numer, path)


def _reduced(polynomial: PolyElement, path: Path) -> PolyElement:
    """The normal form under both circles: b and b_s at most once. Zero exactly where the polynomial is, on them.

    Along a line a polynomial is its own normal form.
    """
    for old, new in _CIRCLES if path == "circle" else ():
        polynomial = _rewrite(polynomial, old, new)
    return polynomial


def _rewritings(polynomial: PolyElement, path: Path) -> list[PolyElement]:
    """As it is, and with the squares of one letter of each circle written as one minus those of the other."""
    found = [polynomial]
    if path != "circle":
        return found
    for first in (_CIRCLES[0], _CIRCLES[0][::-1]):
        for second in (_CIRCLES[1], _CIRCLES[1][::-1]):
            found.append(_rewrite(_rewrite(polynomial, *first), *second))
    return found


def _rewrite(polynomial: PolyElement, old: int, new: int) -> PolyElement:
    """old^2 = 1 - new^2, for generators by their position."""
    rest = 1 - _RING.gens[new] ** 2
    result = _RING.zero
    for monomial, factor in polynomial.terms():
        pairs, single = divmod(monomial[old], 2)
        kept = (*monomial[:old], single, *monomial[old + 1 :])
        result += _RING({kept: factor}) * rest**pairs
    return result


def _root(value: FracElement, path: Path) -> FracElement:
    if _holds_latents(value.numer) or _holds_latents(value.denom):
        raise BeyondAlgebra("the root of a latent")
    return _FIELD(_polynomial_root(value.numer, path)) / _FIELD(_polynomial_root(value.denom, path))


def _polynomial_root(polynomial: PolyElement, path: Path) -> PolyElement:
    """The root that is positive for positive letters. Raises `BeyondAlgebra` where none is seen."""
    if not polynomial:
        return polynomial
    factor, powers = polynomial.sqf_list()
    outside, inside = _RING.one, _RING(factor)
    for base, power in powers:
        outside *= base ** (power // 2)
        inside *= base ** (power % 2)
    for rewritten in _rewritings(inside, path):
        factor, powers = rewritten.sqf_list()
        if all(power % 2 == 0 for _, power in powers):
            root = outside * _rational_root(factor)
            for base, power in powers:
                root *= base ** (power // 2)
            if all(coefficient > 0 for coefficient in root.coeffs()):
                return root
    raise BeyondAlgebra("a root that is no polynomial")


def _rational_root(number: Any) -> Any:
    """The root of an element of Q. Raises `BeyondAlgebra` for one that is no square."""
    above, below = int(number.numerator), int(number.denominator)
    if above < 0 or isqrt(above) ** 2 != above or isqrt(below) ** 2 != below:
        raise BeyondAlgebra("the root of a number that is no square")
    return QQ(isqrt(above), isqrt(below))


@cache
def _exact(path: Path) -> NumberSystem:
    on_circle = (_A, _B, _A_S, _B_S)
    amplitudes = on_circle if path == "circle" else (*on_line(_B, path), *on_line(_B_S, path))  # b is a line's time
    return NumberSystem(
        names=definitions(*amplitudes, _Z0, _EPS, path),
        number=lambda value: _FIELD(QQ(value.numerator, value.denominator)),
        root=partial(_root, path=path),
    )


@dataclass(frozen=True)
class _Size:
    """A bound on what an expression grows to before anything cancels; sums and products of sizes bound theirs."""

    above: int  # terms over the line
    below: int  # and under it
    degree: int  # or the length of its numbers, in steps of 16 bits

    MAX_TERMS = 300
    MAX_DEGREE = 60

    @property
    def too_large(self) -> bool:
        return max(self.above, self.below) >= self.MAX_TERMS or self.degree >= self.MAX_DEGREE

    @classmethod
    def _of(cls, above: int, below: int, degree: int) -> "_Size":
        return cls(min(above, cls.MAX_TERMS), min(below, cls.MAX_TERMS), min(degree, cls.MAX_DEGREE))

    def __add__(self, other: "_Size") -> "_Size":
        above = self.above * other.below + other.above * self.below
        return self._of(above, self.below * other.below, self.degree + other.degree)

    __sub__ = __add__

    def __mul__(self, other: "_Size") -> "_Size":
        return self._of(self.above * other.above, self.below * other.below, self.degree + other.degree)

    def __truediv__(self, other: "_Size") -> "_Size":
        return self * _Size(other.below, other.above, other.degree)

    def __pow__(self, exponent: int) -> "_Size":
        base = self if exponent >= 0 else _Size(self.below, self.above, self.degree)
        times = abs(exponent)
        return self._of(base.above**times, base.below**times, base.degree * times)

    def __neg__(self) -> "_Size":
        return self

    __pos__ = __neg__


def _number_size(value: Fraction) -> _Size:
    return _Size(1, 1, 1 + max(value.numerator.bit_length(), value.denominator.bit_length()) // 16)


def _sizes(path: Path) -> NumberSystem:
    amplitude, latent = _Size(1 if path == "circle" else 2, 1, 1), _Size(1, 1, 1)
    names = definitions(amplitude, amplitude, amplitude, amplitude, latent, latent, path)
    return NumberSystem(names, number=_number_size, root=lambda size: size)

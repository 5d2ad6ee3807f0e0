"""A typed formula as a small tree: read by Python's `ast`, let through by a whitelist, never executed.

What may stand in it: the names below, numbers, + - * /, powers and sqrt(...). Everything else is refused in a sentence.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

QUANTITIES = ("z0", "eps", "v", "u", "z_t", "z_s")
COEFFICIENTS = ("a", "b", "abar", "a_s", "b_s", "abar_s")
TIMES = ("s", "s_next")
"""Of a flow, at a step and at the one that follows."""
NAMES = QUANTITIES + COEFFICIENTS + TIMES

MAX_CHARACTERS = 300
MAX_NODES = 200
MAX_DEPTH = 40
MAX_EXPONENT = 8
MAX_NUMBER = 1_000_000
MIN_NUMBER = 1e-6

_SPELLINGS = (
    (r"\\?alpha_?bar|\u03b1\u0304|\u1fb1", "abar"),
    (r"epsilon|\u03b5|\u03f5", "eps"),
    (r"_?\{\s*t\s*-\s*1\s*\}", "_s"),
    (r"_?\{\s*(t|s|\d+)\s*\}", r"_\1"),
    ("\u209c", "_t"),
    ("\u209b", "_s"),
    ("\u2080", "0"),
    (r"\u221a\s*(\w+)", r"sqrt(\1)"),
    ("\u221a", "sqrt"),
    ("\u00b2", "**2"),
    (r"\^", "**"),
    ("[\u2212\u2013]", "-"),
    ("[\u00b7\u00d7\u22c5\u2217]", "*"),
)
_INDEXED = re.compile(r"(z|v|u|eps|a|b|abar)_(t|s|\d+)")
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


@dataclass(frozen=True)
class Formula:
    """quantity = tree, checked: `evaluate` meets nothing that it does not know."""

    quantity: str  # one of QUANTITIES
    tree: ast.expr

    @property
    def names_time(self) -> bool:
        """Whether a flow's time stands in it, which only a flow has."""
        return any(isinstance(node, ast.Name) and node.id in TIMES for node in ast.walk(self.tree))

    def __str__(self) -> str:
        return f"{self.quantity} = {ast.unparse(self.tree).replace(' ** ', '^')}"


@dataclass(frozen=True)
class NumberSystem:
    """What a formula is evaluated in: its names, its numbers, and the operations that operators do not cover."""

    names: Mapping[str, Any]
    number: Callable[[Fraction], Any]
    root: Callable[[Any], Any]
    divisor: Callable[[Any], Any] = lambda value: value  # may raise ZeroDivisionError


def parse_formula(text: str, quantity: str) -> Formula:
    """Read `z0 = a*z_t - b*v`, or the right side alone, which then is a formula for `quantity`.

    Indices that are numbers mean t; where times are written t and s, s is the one that follows. Raises `ValueError` for
    what is no formula, too long, too deep, or has the quantity itself on the right.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"the formula has {len(text):,} characters: give at most {MAX_CHARACTERS}")
    *left, right = _in_ascii(text).split("=")
    if len(left) > 1:
        raise ValueError("the formula has more than one =: give one formula for one quantity")
    if left:
        quantity = _canonical(left[0].strip())
    if quantity not in QUANTITIES:
        raise ValueError(f"left of = stands {quantity[:20]!r}: put one of {', '.join(QUANTITIES)} there, alone")
    tree = _parse(right.strip())
    _tell_times_apart(tree)
    _check(tree)
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    if quantity in names:
        raise ValueError(f"{quantity} stands on both sides of =: give it in terms of the others")
    return Formula(quantity, tree)


def evaluate(node: ast.expr, system: NumberSystem) -> Any:
    """The value of a checked tree in a number system; raises what the system's own operations raise."""
    match node:
        case ast.BinOp(left, ast.Pow(), right):
            base, exponent = evaluate(left, system), _exponent(right)
            if exponent < 0:
                base = system.divisor(base)
            if exponent.denominator == 2:
                base, exponent = system.root(base), 2 * exponent
            return base ** int(exponent)
        case ast.BinOp(left, ast.Div(), right):
            return evaluate(left, system) / system.divisor(evaluate(right, system))
        case ast.BinOp(left, operation, right):
            return _OPERATORS[type(operation)](evaluate(left, system), evaluate(right, system))
        case ast.UnaryOp(sign, operand):
            return _SIGNS[type(sign)](evaluate(operand, system))
        case ast.Call(_, [argument]):
            return system.root(evaluate(argument, system))
        case ast.Constant(value):
            return system.number(Fraction(repr(value)))
        case ast.Name(name):
            return system.names[name]


def _in_ascii(text: str) -> str:
    """Other spellings replaced; raises `ValueError` for a character that then still is not ASCII."""
    for pattern, replacement in _SPELLINGS:
        text = re.sub(pattern, replacement, text)
    for character in text:
        if not (character.isascii() and character.isprintable()) and not character.isspace():
            raise ValueError(f"the formula holds the character {character!a}: use letters, digits and + - * / ^ ( )")
    return " ".join(text.split())


def _canonical(name: str) -> str:
    """eps_t, eps_4 -> eps; abar_3 -> abar; z_4 -> z_t; z_0 -> z0; t -> s; s_s -> s_next; any other name as it is."""
    if other := {"z_0": "z0", "t": "s", "s_t": "s", "s_s": "s_next"}.get(name):
        return other
    indexed = _INDEXED.fullmatch(name)
    if not indexed or name in NAMES:
        return name
    letter, index = indexed.groups()
    if index == "s":  # of a formula's names, those that have an s are in NAMES
        return name
    return "z_t" if letter == "z" else letter


def _parse(text: str) -> ast.expr:
    if not text:
        raise ValueError("there is no formula: type one, for example a*z_t - b*v")
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(
            "this cannot be read as a formula: write every product with *, close every bracket, give sqrt its own"
        ) from error


def _tell_times_apart(tree: ast.expr) -> None:
    """In z_t + (s - t) u the time s is that of z_s, and t that of z_t, which alone would be written s."""
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    if any(node.id in ("t", "s_t") for node in names):
        for node in names:
            if node.id == "s":
                node.id = "s_next"


def _check(tree: ast.expr) -> None:
    """Refuse a tree that is too large, too deep or holds anything but what is listed here; names become canonical."""
    level, count, depth = [tree], 0, 0
    while level:
        count, depth = count + len(level), depth + 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            raise ValueError(f"the formula is too involved: give at most {MAX_NODES} parts, {MAX_DEPTH} deep")
        level = [child for node in level for child in _children(node)]


def _children(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.BinOp(left, ast.Pow(), right):
            exponent = _exponent(right)
            if exponent.denominator > 2 or abs(exponent) > MAX_EXPONENT:
                raise _bad_exponent()
            return [left]
        case ast.BinOp(left, operation, right) if type(operation) in _OPERATORS:
            return [left, right]
        case ast.UnaryOp(sign, operand) if type(sign) in _SIGNS:
            return [operand]
        case ast.Call(ast.Name("sqrt"), [argument], []):
            return [argument]
        case ast.Constant(value) if _is_number(value):
            return []
        case ast.Constant(value) if type(value) in (int, float):
            raise ValueError(f"a number is out of range: give 0, or from {MIN_NUMBER} to {MAX_NUMBER:,}")
        case ast.Name(name):
            node.id = _canonical(name)
            if node.id in NAMES:
                return []
            raise ValueError(f"{name[:20]!r} is not known: use {', '.join(NAMES)} and sqrt(...)")
    raise ValueError("a formula holds only names, numbers, + - * / ^, brackets and sqrt(...): leave the rest out")


def _exponent(node: ast.expr) -> Fraction:
    """A literal exponent: a number or a quotient of two, with signs, so that no power of a power is computed."""
    sign, node = _signed(node)
    match node:
        case ast.BinOp(above, ast.Div(), below) if divisor := _literal(below):
            return sign * _literal(above) / divisor
    return sign * _literal(node)


def _literal(node: ast.expr) -> Fraction:
    sign, node = _signed(node)
    if isinstance(node, ast.Constant) and _is_number(node.value):
        return sign * Fraction(repr(node.value))
    raise _bad_exponent()


def _signed(node: ast.expr) -> tuple[int, ast.expr]:
    """-1 and what stands behind a minus, else 1 and the node."""
    match node:
        case ast.UnaryOp(ast.USub(), operand):
            return -1, operand
    return 1, node


def _bad_exponent() -> ValueError:
    return ValueError(
        f"an exponent is a whole or half number from -{MAX_EXPONENT} to {MAX_EXPONENT}: give one of these"
    )


def _is_number(value: object) -> bool:
    """Whether it is an int or float (no bool), and 0 or of a size in range, which nan and infinity are not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value == 0 or MIN_NUMBER <= abs(value) <= MAX_NUMBER

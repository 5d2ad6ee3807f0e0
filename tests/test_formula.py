import pytest
import torch

from ldm_explorer.explore.formula import check_formula
from ldm_explorer.explore.formula_algebra import definitions
from ldm_explorer.explore.formula_syntax import MAX_CHARACTERS, MAX_EXPONENT, QUANTITIES
from ldm_explorer.prediction import add_noise, target
from ldm_explorer.schedules import SCHEDULES, FlowSchedule, make_schedule

REPORT = "eps = (v_4 + sqrt(1 - abar_3)) / sqrt(abar_3) * z_0"

RIGHT = [
    "z0 = a*z_t - b*v",
    "z0 = (z_t - b*eps)/a",
    "z0 = (a*eps - v)/b",
    "z0 = sqrt(abar)*z_t - sqrt(1 - abar)*v",
    "z0 = (z_t - sqrt(1-abar_t)*eps) / abar_t^0.5",
    "z0 = (z_s - b_s*eps)/a_s",
    "z0 = -b*(v - a/b*z_t)",
    "z0 = a*z_t + b*(-v)",
    "z_0 = (z_4 - sqrt(1 - abar_4) * eps_4) / sqrt(abar_4)",
    "eps = (v + b*z0)/a",
    "eps = b*z_t + a*v",
    "eps = (z_t - a*z0)/b",
    "eps = (z_t - sqrt(abar)*z0) * (1 - abar)**(-1/2)",
    "eps = v/a + sqrt(1/abar - 1)*z0",
    "eps = (z_s - a_s*z0)/b_s",
    "ε = √(1 − ᾱ)·z_t + √ᾱ·v",
    "v = a*eps - b*z0",
    "v = (a*z_t - z0)/b",
    "v = (eps - b*z_t)/a",
    "v = sqrt(abar)*eps - sqrt(1 - abar)*z0",
    "v = a*(z_t - a*z0)/b - b*z0",
    "v = (a*eps - b*z0) * (a^2 + b^2)^3",
    "v = (a*eps*eps - b*z0*eps) / eps",
    "v = a*eps/2 - b*z0 + 0.5*a*eps",
    "z_t = a*z0 + b*eps",
    "z_t = z0/a + b/a*v",
    "z_t = (eps - a*v)/b",
    "z_{t-1} = a_s*z0 + b_s*eps",
    "z_s = a_s*(a*z_t - b*v) + b_s*(b*z_t + a*v)",
    "z_s = (a_s*a + b_s*b)*z_t + (b_s*a - a_s*b)*v",
    "z_s = sqrt(abar_s)*(z_t - sqrt(1-abar)*eps)/sqrt(abar) + sqrt(1-abar_s)*eps",
    "z_s = sqrt(abar_s/abar)*z_t + (sqrt(1 - abar_s) - sqrt(abar_s*(1 - abar)/abar))*eps",
    "z_s = z_t + (a_s - a)*z0 + (b_s - b)*eps",
]

WRONG = [
    REPORT,
    "eps = (v + b)/a*z0",
    "eps = a*z_t + b*v",
    "eps = (v - b*z0)/a",
    "eps = (z_t - a*z0)/b + 0.000001",
    "eps = z_t - z0",
    "eps = v",
    "z0 = a*z_t + b*v",
    "z0 = z_t - b*eps",
    "z0 = (z_t - b*eps)/b",
    "z0 = (z_t - (1 - abar)*eps)/sqrt(abar)",
    "z0 = z_t/eps",
    "z0 = 0",
    "z0 = z_t/(a - a)",
    "z0 = sqrt(abar - 1)*z_t",
    "v = b*eps - a*z0",
    "v = z0*eps",
    "v = a*eps - b*z0 + 1",
    "v = sqrt(2)*(a*eps - b*z0)",
    "v = (a*eps - b*z0)*(a^2 - b^2)",
    "v = (a*eps - b*z0)*(a^2 + b^2 - 1)/(a^2 + b^2 - 1)",
    "z_t = abar*z0 + (1 - abar)*eps",
    "z_t = a*z0 - b*eps",
    "z_s = a*z0 + b*eps",
    "z_s = a_s*(a*z_t - b*v)",
    "z_s = a_s*z0 + b*eps",
    "z_s = z_t - v",
]

FLOW_RIGHT = [
    "u = eps - z0",
    "u = (z_t - z0)/s",
    "u = (eps - z_t)/(1 - s)",
    "u = (eps - z_t)/(1 - t)",
    "z0 = z_t - s*u",
    "z0 = z_t - t*u",
    "z0 = (z_t - s*eps)/(1 - s)",
    "eps = z_t + (1 - s)*u",
    "eps = (z_t - (1 - s)*z0)/s",
    "eps = u + z0",
    "z_t = (1 - s)*z0 + s*eps",
    "z_t = z0 + s*u",
    "z_t = eps - (1 - s)*u",
    "z_s = z_t + (s_next - s)*u",
    "z_s = (1 - s_next)*z0 + s_next*eps",
    "z_s = s_next/s*z_t + (1 - s_next/s)*z0",
    "z_s = z_t + (s - t)*u",
    "z_s = s/t*z_t + (1 - s/t)*z0",
    "v = (1 - s)*eps - s*z0",
    "u = (v + (2*s - 1)*z0)/(1 - s)",
]

FLOW_WRONG = [
    "u = z0 - eps + 0*s",
    "u = (z0 - z_t)/s",
    "u = (z_t - z0)/(1 - s)",
    "z0 = z_t + s*u",
    "z0 = z_t - (1 - s)*u",
    "z0 = z_t + (1 - s)*u",
    "z0 = (1 - s)*z_t - s*u",
    "z0 = (1 - s)*z_t - s*v",
    "eps = z_t + s*u",
    "eps = z_t - s*u",
    "eps = z_t - (1 - s)*u",
    "z_t = s*z0 + (1 - s)*eps",
    "z_t = (1 - s)*z0 + sqrt(s)*eps",
    "z_t = sqrt(1 - s)*z0 + sqrt(s)*eps",
    "z_t = (1 - s)*z0 + sqrt(1 - (1 - s)^2)*eps",
    "z_s = z_t - (s_next - s)*u",
    "z_s = z_t + s_next*u",
    "z_s = z_t + (s - s_next)*u",
    "z_s = z_t + (t - s)*u",
    "z_s = z_t + (s - t)*v",
    "v = eps - z0 + 0*s",
    "u = v + 0*s",
]

HOSTILE = {
    "attribute": "z0.__class__",
    "attribute of a number": "(1).__class__",
    "call": "__import__('os').system('true')",
    "other call": "exp(z0)",
    "sqrt of two": "sqrt(z0, eps)",
    "sqrt of none": "sqrt()",
    "sqrt with a keyword": "sqrt(**z0)",
    "sqrt of a list": "sqrt(*a)",
    "sqrt alone": "sqrt",
    "call of a call": "sqrt(a)(b)",
    "lambda": "(lambda: z0)()",
    "comprehension": "[a for a in b]",
    "generator": "sum(a for a in b)",
    "string": "'z0'",
    "bytes": "b'z0'",
    "f-string": "f'{z0}'",
    "subscript": "z0[0]",
    "list": "[z0]",
    "tuple": "z0, v",
    "dict": "{z0: v}",
    "walrus": "(x := z0)",
    "comparison": "a < b",
    "boolean": "a and b",
    "true": "True*z_t",
    "none": "None",
    "ellipsis": "...",
    "condition": "a if b else v",
    "await": "await z0",
    "floor division": "z_t // a",
    "modulo": "z_t % a",
    "matrix product": "z_t @ a",
    "bits": "z_t << 3",
    "inversion": "~a",
    "not": "not a",
    "power tower": "9**9**9",
    "power tower of names": "a**b**v",
    "huge power": "2**1000000",
    "power of a name": "z_t**a",
    "third root": "abar**(1/3)",
    "exponent over zero": "a**(1/0)",
    "nan": "nan",
    "inf": "inf*z_t",
    "1e999": "1e999*z_t",
    "1e-999": "1e-300*z_t",
    "long integer": "9" * 250,
    "complex": "1j*z_t",
    "deep": "(" * 10_000 + "z_t" + ")" * 10_000,
    "deep within the length": "(" * 145 + "z_t" + "+v)" * 50 + ")" * 1,
    "many signs": "-" * 290 + "z_t",
    "many signs in an exponent": "a**" + "-" * 290 + "1",
    "many roots": "sqrt(" * 50 + "a" + ")" * 50,
    "100 kB": "z_t + " * 17_000 + "v",
    "null": "z_t\0",
    "other letters": "ｚ_t",
    "invisible": "z_t\u200b",
    "right to left": "\u202ez_t",
    "emoji": "🦊",
    "empty": "",
    "blank": " \n\t",
    "comment": "# nothing",
    "statement": "import os",
    "two lines": "z_t; v",
    "no product": "2 z_t",
    "open bracket": "(z_t",
    "unknown name": "gamma*z_t",
    "v at s": "v_s",
    "dunder": "__builtins__",
    "keyword": "lambda",
}


@pytest.mark.parametrize("text", RIGHT)
def test_a_right_formula_is_accepted_and_proven(text):
    verdict = check_formula(text, quantity="v")
    assert verdict.right, verdict.sentence()
    assert verdict.proven
    assert verdict.counter_example is None


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_formula_is_refused_with_a_counter_example(text):
    verdict = check_formula(text)
    assert not verdict.right
    example = verdict.counter_example
    assert example.given is None or example.given != example.needed
    assert verdict.sentence().startswith("Wrong")


@pytest.mark.parametrize("text", FLOW_RIGHT)
def test_a_right_formula_of_a_flow_is_accepted_and_proven(text):
    verdict = check_formula(text, schedule=FlowSchedule(1000))
    assert (verdict.right, verdict.proven) == (True, True), verdict.sentence()
    assert "along a flow, a = 1 - s and b = s" in verdict.sentence()


@pytest.mark.parametrize("text", FLOW_WRONG)
def test_a_wrong_formula_of_a_flow_is_refused_with_a_counter_example(text):
    verdict = check_formula(text)
    assert not verdict.right
    example = verdict.counter_example
    s = example.letters()["b"]
    assert example.letters()["a"] == pytest.approx(1 - s)
    truth = {"z0": example.z0, "eps": example.eps, "u": example.eps - example.z0}
    truth |= {"z_t": (1 - s) * example.z0 + s * example.eps, "v": (1 - s) * example.eps - s * example.z0}
    truth |= {"z_s": example.z0 + example.place_s * (example.eps - example.z0)}
    assert float(example.needed) == pytest.approx(truth[verdict.formula.quantity])
    assert example.given is None or example.given != example.needed


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("u = z0 - eps", "time runs the other way"),
        ("z_t = s*z0 + (1 - s)*eps", "time runs the other way"),
        ("z0 = z_t + (1 - s)*u", "time runs the other way"),
        ("eps = z_t - t*u", "time runs the other way"),
        ("z_s = z_t + (s_next - s)*u", ""),
        ("z0 = z_t - b*u", "right along a flow"),
        ("z0 = z_t + a*b*u", ""),
    ],
)
def test_a_formula_that_is_right_under_another_convention_is_told_so(text, where):
    sentence = check_formula(text).sentence()
    assert where in sentence
    assert ("right" in sentence) == bool(where) or sentence.startswith("Right")


def test_the_two_velocities_are_told_apart_along_either_path():
    assert check_formula("z0 = (z_t - b*u)/(a + b)").right
    assert check_formula("u = (b - a)*z_t + (a + b)*v").right, "on the circle, u is v and z_t mixed"
    assert not check_formula("u = (b - a)*z_t + (a + b)*v", schedule=FlowSchedule(1000)).right
    v = check_formula("z0 = a*z_t - b*v", schedule=FlowSchedule(1000))
    assert not v.right
    assert "where variance is preserved" in v.sentence()


def test_a_coefficient_of_many_digits_is_said_by_its_size():
    sentence = check_formula("z0 = 999999^8*999999^8*z_t + b*v").sentence()
    assert len(sentence) < 300
    assert "e+95" in sentence


def test_the_term_that_differs_along_a_flow_is_named_in_its_time():
    (term,) = check_formula("z0 = z_t + s*u - 2*s*eps").wrong_terms
    assert (term.name, term.given, term.needed) == ("z0", "1 - 2*s", "1")


def test_a_flow_formula_that_divides_by_zero_at_the_end_says_where():
    assert "divides by zero at s = 1" in check_formula("z0 = (z_t - s*eps)/(1 - s)").sentence()


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_formula_is_refused_in_one_sentence(text):
    with pytest.raises(ValueError, match=": ") as refusal:
        check_formula(text, quantity="eps")
    assert len(str(refusal.value)) < 250


@pytest.mark.parametrize("text", ["z0 = z0", "eps = v + 0*eps_4", "z_s = z_{t-1}", "z_4 = z_t"])
def test_a_quantity_in_terms_of_itself_is_refused(text):
    with pytest.raises(ValueError, match="both sides"):
        check_formula(text)


@pytest.mark.parametrize("text", ["x = z_t", "a*z0 = z_t", "z0 == z_t", "z0 = v = z_t", "z_t-1 = v", "= v", "z0 <= v"])
def test_left_of_the_sign_stands_one_quantity_alone(text):
    with pytest.raises(ValueError, match=r"left of =|more than one ="):
        check_formula(text)


def test_the_line_of_the_report_is_read_as_it_is_spelled_and_its_wrong_terms_are_named():
    verdict = check_formula(REPORT)
    assert str(verdict.formula) == "eps = (v + sqrt(1 - abar)) / sqrt(abar) * z0"
    terms = {term.name: (term.given, term.needed) for term in verdict.wrong_terms}
    assert terms == {"z0": ("b/a", "0"), "eps": ("0", "1"), "z0^2": ("-b/a", "0"), "z0*eps": ("1", "0")}
    example = verdict.counter_example
    a, b = example.letters()["a"], example.letters()["b"]
    v = a * example.eps - b * example.z0
    assert float(example.given) == pytest.approx((v + b) / a * example.z0)
    assert float(example.needed) == pytest.approx(example.eps)


@pytest.mark.parametrize(
    ("text", "name", "given", "needed"),
    [
        ("v = a*eps + b*z0", "z0", "b", "-b"),
        ("eps = (v - b*z0)/a", "z0", "-2*b/a", "0"),
        ("z_t = abar*z0 + b*eps", "z0", "a^2", "a"),
        ("z_s = a_s*z0 + b*eps", "eps", "b", "b_s"),
        ("z_t = a*z0 + sqrt(1 - abar_s)*eps", "eps", "b_s", "b"),
        ("z_t = a*z0 + (1 - abar)*eps", "eps", "b^2", "b"),
    ],
)
def test_the_term_that_differs_is_named_in_letters_and_numbers(text, name, given, needed):
    verdict = check_formula(text)
    (term,) = verdict.wrong_terms
    assert (term.name, term.given, term.needed) == (name, given, needed)
    letters = verdict.counter_example.letters()
    assert term.given_value == pytest.approx(eval(given.replace("^", "**"), letters))
    assert term.needed_value == pytest.approx(eval(needed, letters))


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("z0 = sqrt((a + b)^2 - 2*sqrt(abar*(1 - abar)) - 1 + 2*a^2)*z_t - b*v", False),
        ("z_t = sqrt(1 + 2*a*b)*z0 - b*z0 + b*eps", True),
        ("z_t = a*z0 + sqrt(2)/sqrt(2)*b*eps", True),
        ("z_t = a*z0 + b*eps + 0*sqrt(abar - 1/2)", False),
        ("z0 = (a*z_t - b*v) * sqrt(z_t^2)/sqrt(z_t^2)", True),
    ],
)
def test_a_root_that_does_not_simplify_is_compared_in_numbers_and_that_is_said(text, right):
    verdict = check_formula(text)
    assert (verdict.right, verdict.proven) == (right, False)
    assert "numbers only" in verdict.sentence()


def test_the_root_of_a_square_is_never_negative():
    assert not check_formula("z_t = a*z0 + b*sqrt(eps^2)").right
    assert not check_formula("z_t = a*z0 + (b - a + sqrt((a - b)^2))*eps").right


@pytest.mark.parametrize(
    "text",
    [
        "v = " + "*".join([f"(a + {i}*b + a_s + b_s + z0)" for i in range(1, 10)]),
        "v = " + " + ".join([f"1/(a+{i}*b_s+z0)" for i in range(1, 18)]),
        "v = " + "(" * 10 + "9" + ")^8" * 10 + "*z0",
        "v = (((a + b + a_s + b_s + z0 + eps)^8)^8)^8",
        "v = " + "(" * 8 + "a" + ")^8" * 8 + "*z0",
    ],
)
def test_what_is_too_large_for_algebra_is_compared_in_numbers(text):
    verdict = check_formula(text)
    assert not verdict.right
    assert not verdict.proven


def test_a_division_by_zero_at_the_end_of_the_schedule_is_said():
    schedule = make_schedule("linear").with_zero_terminal_snr()
    verdict = check_formula("z0 = (z_t - b*eps)/a", schedule=schedule)
    assert verdict.right
    assert verdict.undefined.t == 999
    assert "divides by zero at t = 999" in verdict.sentence()
    assert check_formula("z0 = a*z_t - b*v", schedule=schedule).undefined is None
    assert "divides by zero" in check_formula("z0 = z_t/(a - a)").sentence()
    assert "divides by a latent" in check_formula("z0 = z_t/eps").sentence()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("num_timesteps", [2, 10, 4000])
def test_the_verdict_does_not_depend_on_the_schedule(schedule, num_timesteps):
    along = make_schedule(schedule, num_timesteps)
    assert check_formula("z_s = a_s*z0 + b_s*eps", schedule=along).right
    assert not check_formula("z_s = a_s*z0 + b*eps", schedule=along).right


def test_a_schedule_of_nothing_but_its_ends_is_answered_too():
    schedule = make_schedule("linear", 2).with_zero_terminal_snr()
    assert check_formula("z0 = a*z_t - b*v", schedule=schedule).right
    assert not check_formula("z0 = a*z_t + b*v", schedule=schedule).right


def test_a_right_side_alone_is_for_the_chosen_quantity():
    right = {"z0": "a*z_t - b*v", "eps": "b*z_t + a*v", "v": "a*eps-b*z0", "z_t": "a*z0+b*eps"}
    right |= {"u": "eps-z0", "z_s": "a_s*z0+b_s*eps"}
    for quantity in QUANTITIES:
        assert check_formula(right[quantity], quantity).right
    assert not check_formula(right["z0"], "eps").right


def test_the_definitions_are_those_of_the_predictions():
    generator = torch.Generator().manual_seed(0)
    z0, eps = torch.randn(2, 3, 4, 2, 2, generator=generator)
    alpha_bar, alpha_bar_s = torch.tensor(0.4), torch.tensor(0.7)
    letters = [alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), alpha_bar_s.sqrt(), (1 - alpha_bar_s).sqrt()]
    names = definitions(*letters, z0, eps)
    assert torch.equal(names["z_t"], add_noise(z0, eps, alpha_bar))
    assert torch.equal(names["z_s"], add_noise(z0, eps, alpha_bar_s))
    assert torch.equal(names["v"], target("v_prediction", z0, eps, alpha_bar))


def test_limits_are_where_they_are_said_to_be():
    long = "a*z_t - b*v" + " " * MAX_CHARACTERS
    assert check_formula(long[:MAX_CHARACTERS], "z0").right
    with pytest.raises(ValueError, match="at most 300"):
        check_formula(long, "z0")
    assert check_formula(f"a^{MAX_EXPONENT}/a^7*z_t - b*v", "z0").right
    with pytest.raises(ValueError, match="exponent"):
        check_formula("a^9*z_t", "z0")


@pytest.mark.parametrize(
    ("formula", "schedule", "said"),
    [
        ("v = eps - z0", make_schedule("cosine"), "It is u, the velocity of a flow"),
        ("v = u", make_schedule("linear"), "It is u, the velocity of a flow"),
        ("u = a*eps - b*z0", FlowSchedule(1000), "It is v, the velocity where variance is preserved"),
        ("u = (1 - s)*eps - s*z0", None, "It is v, the velocity where variance is preserved"),
    ],
)
def test_one_velocity_taken_for_the_other_is_named(formula, schedule, said):
    verdict = check_formula(formula, schedule=schedule)
    assert not verdict.right
    assert said in verdict.sentence()
    assert "It is" not in check_formula("v = a*eps + b*z0").sentence()

"""The formula checker of the room on velocity."""

import gradio as gr
import pytest

from ldm_explorer.explore.formula import check_formula
from ldm_explorer.schedules import FlowSchedule
from ldm_explorer.ui import formula_checker
from ldm_explorer.ui.answers import bind


def test_the_checker_answers_right_or_with_a_counter_example(library):
    right = formula_checker.check(library, "tiny-ldm", "z0", "a*z_t - b*v")
    assert "✓" in right
    assert "For example" not in right
    wrong = formula_checker.check(library, "tiny-vae", "z0", "z_s = a_s*z0 + b*eps")
    assert "✗" in wrong
    assert "the coefficient of eps is b" in wrong
    assert "and a step on, at t = " in wrong
    assert "One that is right" in wrong
    of_a_flow = formula_checker.check(library, "tiny-ldm", "z0", "z_s = z_t + (s - s_next)*u")
    assert "at s = 0.5" in of_a_flow
    assert "and s_next = " in of_a_flow
    assert formula_checker.RIGHT_OF_A_FLOW["z_s"] in of_a_flow
    assert "has no value" in formula_checker.check(library, "tiny-ldm", "z0", "sqrt(-1)*z_t")


def test_the_examples_are_what_they_say(library):
    assert all(check_formula(formula).right for formula in formula_checker.RIGHT.values())
    of_a_flow = [
        check_formula(formula, schedule=FlowSchedule(1000)) for formula in formula_checker.RIGHT_OF_A_FLOW.values()
    ]
    assert all(verdict.right for verdict in of_a_flow)
    assert not any(check_formula(formula).right for formula in formula_checker.WRONG.values())
    for quantity, formula in formula_checker.RIGHT.items():
        assert formula_checker.check_example(library, "tiny-ldm", formula)[:2] == (quantity, formula)


def test_what_is_no_formula_is_shown_as_one_sentence_and_never_as_markup(library):
    with pytest.raises(gr.Error, match="leave the rest out"):
        bind(formula_checker.check, library)("tiny-ldm", "z0", "z_t.__class__")
    with pytest.raises(gr.Error, match="no formula"):
        bind(formula_checker.check, library)("tiny-ldm", "z0", "")
    with pytest.raises(gr.Error, match="cannot be read"):
        bind(formula_checker.check, library)("tiny-ldm", "z0", "<script>alert(1)</script>")


def test_what_nobody_foresaw_is_one_sentence_too(library):
    def broken(_, number):  # noqa: ARG001 (an input by its name)
        raise RuntimeError("secret detail")

    with pytest.raises(gr.Error, match="the app goes on") as shown:
        bind(broken, library)(1)
    assert "secret" not in str(shown.value)

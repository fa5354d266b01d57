"""Numbers and texts as pages show them."""

from __future__ import annotations

import json
import math

import pytest

from deconvviz.atlas.pages import NARROW, percent, raw, script, value


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (1234.56, "1,235"), (99.96, "100.0"), (56.78, "56.8"), (8.9, "8.90"), (0.12345, "0.123"),
     (1e-5, "1.0e-05"), (2e7, "2.0e+07"), (-3.456, "-3.46"), (math.inf, "∞"), (math.nan, "–")],
)  # fmt: skip
def test_values_have_about_three_digits(number: float, text: str) -> None:
    assert value(number) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1, "100 %"), (0.5, "50 %"), (0.031, "3.1 %"), (0.0004, "0.04 %"), (0.00001, "<0.01 %"),
     (0.9999, "99.9 %"), (0.992, "99.2 %")],
)  # fmt: skip
def test_shares_never_round_to_none_or_all(share: float, text: str) -> None:
    assert percent(share) == text.replace(" ", NARROW)


def test_numbers_for_the_script() -> None:
    assert raw(0.1) == "0.1" and raw(math.nan) == "0"


def test_a_script_says_what_it_was_given_and_can_end_nothing() -> None:
    data = {"a": ["</script><!--", "&amp; \u2028 \u202e 🦊", '"\\']}
    text = script("X", data)
    assert text.startswith("window.X=") and text.endswith(";\n")
    assert not set(text) & set("<>&") and text.isascii()
    assert json.loads(text[len("window.X=") : -2]) == data

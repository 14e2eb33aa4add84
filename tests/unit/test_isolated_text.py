"""Text that people have written, in titles, links and attributes: its direction stays its own, and it can be seen."""

from __future__ import annotations

import pytest
from markupsafe import Markup

from api.ui.rendering import excerpt, isolated_words
from vm_webapp.text import isolated


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("A plan", "A plan"),
        ("Plan für Łódź 🥨", "Plan für Łódź 🥨"),
        ("\u202egnp.exe", "gnp.exe"),
        ("a \u2069\u202e\u2066b\u202c", "a b"),
        ("שלום", "\u2068שלום\u2069"),
        ("خطة 90", "\u2068خطة 90\u2069"),
        ("שלום\u2069 \u202eabc", "\u2068שלום abc\u2069"),
        ("می\u200cخواهم 👩\u200d🚀", "\u2068می\u200cخواهم 👩\u200d🚀\u2069"),  # joiners are part of words
    ],
)
def test_a_direction_that_is_set_by_force_is_taken_out_and_a_natural_one_kept_apart(text: str, shown: str) -> None:
    assert isolated(text) == shown


def test_markup_is_escaped_once() -> None:
    assert isolated_words(Markup("a &amp; \u202eb")) == Markup("a &amp; b")
    assert isinstance(isolated_words(Markup("a")), Markup)
    assert not isinstance(isolated_words("<b>"), Markup)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("A plan\n\nfor a bakery", "A plan for a bakery"),
        ("a\u200bb", "a\u200bb"),
        ("\u200b \ufeff", r"\u200b \ufeff"),
        ("\u200b" * 200 + "x", r"\u200b" * 23 + r"\u …"),
        ("x" * 141, "x" * 140 + " …"),
    ],
)
def test_an_excerpt_is_one_line_that_can_be_seen(text: str, shown: str) -> None:
    assert excerpt(text) == shown

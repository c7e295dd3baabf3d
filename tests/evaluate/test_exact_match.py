"""Which answers count as the reference, by hand."""

import pytest

from swiftlite.evaluate.exact_match import is_exact_match, normalise


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("Paris", "paris"),
        ("  Paris\n", "paris"),
        ("Paris.", "paris"),
        ("Paris .", "paris"),
        ("Paris. ", "paris"),
        ("New \t\n York", "new york"),
        ("1 + 1 = 2.", "1 + 1 = 2"),
        ("3.5", "3.5"),
        ("3.50", "3.50"),
        ("No. 5", "no. 5"),
        ("Wait...", "wait.."),
        ("Paris!", "paris!"),
        ("巴黎。", "巴黎"),
        ("巴\u3000黎", "巴 黎"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        (".", "."),
        ("", ""),
        (" \n", ""),
    ],
)
def test_normalised_by_hand(text, normalised):
    assert normalise(text) == normalised


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("my name is nano", "My name is Nano.", True),
        ("a-b-c.", "a-b-c", True),
        ("Paris, of course", "Paris", False),
        ("Paris", "Paris, of course", False),
        ("newyork", "New York", False),
        ("1,000", "1000", False),
        ("-3", "3", False),
        ("", ".", False),
    ],
)
def test_the_whole_answer_counts(answer, reference, right):
    assert is_exact_match(answer, reference) is right

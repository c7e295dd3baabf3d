"""The checks that run before any training, and the example that is shown."""

import pytest
from chat_helpers import talk

from swiftlite.chat.checks import check_encoding, show_example
from swiftlite.chat.encoded import Encoded
from swiftlite.chat.pieces import PieceTemplate
from swiftlite.chat.registry import CHATML
from swiftlite.chat.tokens import Span, weigh
from swiftlite.config.errors import UserError


@pytest.fixture
def chatml(tiny):
    return PieceTemplate("chatml", CHATML, tiny)


def test_a_right_encoding_passes(chatml, tiny):
    check_encoding(chatml, chatml.encode(talk("a", "b")), tiny)


def test_an_empty_mask_is_refused(chatml, tiny):
    with pytest.raises(UserError, match="trains no token"):
        check_encoding(chatml, chatml.encode(talk("a")), tiny)


def test_an_untrained_stop_token_is_refused(chatml, tiny):
    right = chatml.encode(talk("a", "b"))
    stop = chatml.stop_token_ids[0]
    wrong = Encoded(right.ids, [0.0 if i == stop else w for i, w in zip(right.ids, right.weights)])
    with pytest.raises(UserError, match=r"trains no stop token.*<\|im_end\|>"):
        check_encoding(chatml, wrong, tiny)


def test_a_doubled_bos_is_refused(chatml, tiny):
    tiny.bos_token = "<s>"
    right = chatml.encode(talk("a", "b"))
    bos = tiny.bos_token_id
    check_encoding(chatml, Encoded([bos, *right.ids], [0.0, *right.weights]), tiny)
    with pytest.raises(UserError, match="starts with <s> twice"):
        check_encoding(chatml, Encoded([bos, bos, *right.ids], [0.0, 0.0, *right.weights]), tiny)


def test_ids_and_weights_must_be_as_many():
    with pytest.raises(ValueError, match="2 ids but 1 weights"):
        Encoded([1, 2], [0.0])


def test_the_example_shows_text_ids_and_what_is_trained(chatml, tiny):
    encoded = chatml.encode(talk("hello", "fine"))
    shown = show_example(encoded, tiny, color=False)
    assert "assistant\n⟦fine<|im_end|>⟧\n" in shown
    trained = " ".join(str(i) for i, w in zip(encoded.ids, encoded.weights) if w)
    assert f"⟦{trained}⟧" in shown
    assert f"{len(encoded.ids)} tokens, {sum(map(bool, encoded.weights))} of them trained" in shown


def test_the_colour_is_green_and_only_with_color(chatml, tiny):
    encoded = chatml.encode(talk("hello", "fine"))
    assert "\x1b[32mfine<|im_end|>\x1b[0m" in show_example(encoded, tiny)
    assert "\x1b" not in show_example(encoded, tiny, color=False)


def test_a_token_belongs_to_the_span_it_starts_in():
    # Tokens at characters 0-2, 2-5, 5-6, 5-6 (two bytes of one character) and 6-9; trained are 3 to 5.
    assert weigh([0, 2, 5, 5, 6], [Span(3, 6, 1.0)]) == [0.0, 0.0, 1.0, 1.0, 0.0]

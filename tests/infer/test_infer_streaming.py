"""Pieces of text are whole characters, keep their spacing, and never show part of a stop text."""

import threading

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from swiftlite.infer.stopping import Stops, first_stop, held_back
from swiftlite.infer.streaming import TextAssembler


@pytest.fixture
def sentencepiece():
    """A tokenizer in Llama-2's manner: a space before words, the first of a text stripped."""
    vocabulary = {"<unk>": 0, "▁a": 1, "\n": 2, "▁b": 3, "▁": 4, "</s>": 5}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def assemble(decode, ids, stop_ids=(), stops=()) -> list[str]:
    assembler = TextAssembler(decode, stop_ids, stops)
    pieces = [assembler.add(i) for i in ids] + [assembler.finish()]
    assert "".join(pieces) == assembler.text
    return pieces


def test_an_indent_after_a_line_break_survives(sentencepiece):
    ids = [1, 2, 4, 4, 3, 2, 3, 1]
    assert "".join(assemble(sentencepiece.decode, ids)) == sentencepiece.decode(ids) == "a\n   b\n b a"


def test_a_character_of_several_tokens_comes_whole(tokenizer):
    text = "A 文 and a 🦙."
    ids = tokenizer(text)["input_ids"]
    assert len(ids) > len(text)
    pieces = assemble(tokenizer.decode, ids)
    assert "".join(pieces) == text and not any("\ufffd" in piece for piece in pieces)


def test_nothing_after_a_stop_token_is_shown(sentencepiece):
    assert "".join(assemble(sentencepiece.decode, [1, 5, 3], stop_ids=[5])) == "a"


def spell(ids: list[int]) -> str:
    return "".join(map(chr, ids))


def test_what_may_become_a_stop_text_is_held_back_until_it_is_not():
    pieces = assemble(spell, [ord(c) for c in "x<en y<end>z"], stops=["<end>"])
    assert pieces == ["x", "", "", "", "<en ", "y", "", "", "", "", "", "", ""]


def test_a_stop_text_that_never_ends_is_shown_at_the_end():
    assert "".join(assemble(spell, [ord(c) for c in "x<en"], stops=["<end>"])) == "x<en"


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [("ab<", ["<e"], 1), ("aab", ["aabb", "bc"], 3), ("ab", ["ab"], 0), ("", ["x"], 0), ("a", [], 0)],
)
def test_held_back_is_the_longest_beginning_of_a_stop_text(text, stops, expected):
    assert held_back(text, stops) == expected


def test_the_earliest_stop_text_counts():
    assert first_stop("one two three", ["three", "two"]) == 4
    assert first_stop("one", ["two"]) is None


def test_stop_texts_are_searched_in_generated_tokens_only():
    stops = Stops(3, [9, 9], ["bc"], spell, threading.Event(), torch.device("cpu"))

    def step(*rows: str) -> list[bool]:
        return stops(torch.tensor([[ord(c) for c in row] for row in rows]), None).tolist()

    assert step("abcb", "aabc") == [False, False]
    assert step("abcbc", "aabcx") == [True, False]
    assert step("abcbc.", "aabcxb") == [True, False]
    assert stops.ends == [2, None]

"""ChatGLM3's and Baichuan2's rows on tokenizers made from sentencepiece files give the ids of the originals' code."""

import json

import pytest
from chat_helpers import CORPUS, talk

from swiftlite.chat.config import ChatConfig
from swiftlite.chat.template import choose_template
from swiftlite.models.native.tokenizers import load_original_tokenizer

MESSAGES = talk("Hello there", "fine people", "so?", "yes", system="Be brief.")


@pytest.fixture
def released(tmp_path):
    """(family, settings) -> the fast tokenizer, and sentencepiece's own on the same file."""
    sentencepiece = pytest.importorskip("sentencepiece")

    def make(family, **settings):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS * 5),
            model_prefix=str(tmp_path / "tokenizer"),
            model_type="bpe",
            vocab_size=400,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            minloglevel=2,
            **settings,
        )
        original = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
        return load_original_tokenizer(tmp_path), original

    return make


def test_chatglm3_builds_a_turn_of_a_role_a_line_break_and_a_text(released):
    tokenizer, original = released("chatglm", add_dummy_prefix=True)
    mask, sop, system, user, assistant = (original.get_piece_size() + k for k in (1, 3, 5, 6, 7))

    def turn(role, text):
        return [role, *original.encode("\n"), *original.encode(text)]

    encoded = choose_template(ChatConfig(), tokenizer, "chatglm3").encode(MESSAGES)
    texts = [turn(role, m["content"]) for role, m in zip([system, *[user, assistant] * 2], MESSAGES)]
    assert encoded.ids == [mask, sop, *(i for text in texts for i in text), user]
    # The model is asked by its role alone, and stopped by the user's.
    first = 2 + len(texts[0]) + len(texts[1])
    assert encoded.weights[: first + 1] == [0.0] * (first + 1)
    answer = len(texts[2])
    assert encoded.weights[first + 1 : first + 1 + answer] == [1.0] * answer
    assert encoded.weights[-1] == 1.0


def test_baichuan2_puts_a_reserved_token_before_each_text(released):
    reserved = ["<reserved_106>", "<reserved_107>"]
    tokenizer, original = released("baichuan", add_dummy_prefix=False, user_defined_symbols=reserved)
    user, assistant = original.piece_to_id(reserved)
    encoded = choose_template(ChatConfig(), tokenizer, "baichuan").encode(MESSAGES)
    expected = original.encode("Be brief.")
    for role, message in zip([user, assistant] * 2, MESSAGES[1:]):
        expected += [role, *original.encode(message["content"])]
    assert encoded.ids == [*expected, 2]
    assert encoded.weights[-1] == 1.0

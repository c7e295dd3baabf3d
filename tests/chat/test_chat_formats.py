"""Formats other than ChatML are rows of data too: a few of their oddities, tried without registering them."""

import pytest
from chat_helpers import CORPUS, load_shared, talk

from swiftlite.chat.formats import Pieces
from swiftlite.chat.pieces import PieceTemplate


def test_a_row_of_data_is_enough_for_llama2(tiny):
    # The system prompt sits inside the first user turn, and a new BOS opens every later one.
    pieces = Pieces(
        specials={"<s>": None, "</s>": None},
        prefix="<s>[INST] ",
        system_prefix="<s>[INST] <<SYS>>\n{system}\n<</SYS>>\n\n",
        prompt="{query} [/INST]",
        response_prefix=" ",
        chat_sep=" </s><s>[INST] ",
        suffix=" </s>",
    )
    template = PieceTemplate("llama2", pieces, tiny)
    messages = talk("a", "one", "b", "two", system="S")
    text = "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\na [/INST] one </s><s>[INST] b [/INST] two </s>"
    assert template.render(messages) == text
    encoded = template.encode(messages)
    assert encoded.ids == tiny(text, add_special_tokens=False)["input_ids"]
    assert tiny.apply_chat_template(messages, chat_template=template.jinja(), tokenize=False) == text
    bos, eos = tiny.convert_tokens_to_ids(["<s>", "</s>"])
    weights = dict(zip(encoded.ids, encoded.weights))
    assert (weights[bos], weights[eos]) == (0.0, 1.0)


def test_a_row_of_data_is_enough_for_control_tokens_known_by_id(tiny):
    # ChatGLM3: a turn is ended by the control token that opens the next one.
    user, assistant = 7, 9
    pieces = Pieces(
        specials={"<|user|>": user, "<|assistant|>": assistant},
        prefix="<|user|>",
        prompt="\n {query}<|assistant|>",
        response_prefix="\n ",
        chat_sep="<|user|>",
        suffix="<|user|>",
    )
    encoded = PieceTemplate("glm", pieces, tiny).encode(talk("a", "one", "b", "two"))
    marks = [(i, w) for i, w in zip(encoded.ids, encoded.weights) if i in (user, assistant)]
    assert marks == [(user, 0.0), (assistant, 0.0), (user, 1.0), (assistant, 0.0), (user, 1.0)]


def spaced_tokenizer():
    """A tiny tokenizer that, as sentencepiece ones do, puts a space before the first word of a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    letters = sorted(set("".join(CORPUS)) | set("[]INST/"))
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=letters, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_special_tokens(["<s>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")


def mistral_tokenizer():
    return load_shared("mistral-v0.2")


@pytest.mark.parametrize("make", [spaced_tokenizer, mistral_tokenizer])
@pytest.mark.parametrize("prefix", ["", "<s>"])
def test_sentencepiece_puts_a_space_only_at_the_very_start(make, prefix):
    tokenizer = make()
    pieces = Pieces(
        specials={"<s>": None, "</s>": None},
        prefix=prefix,
        prompt="[INST] {query} [/INST]",
        chat_sep="</s>",
        suffix="</s>",
    )
    template = PieceTemplate("mistral", pieces, tokenizer)
    text = prefix + "[INST] Hello you [/INST]fine</s>[INST] so [/INST] are</s>"
    encoded = template.encode(talk("Hello you", "fine", "so", " are"))
    assert encoded.ids == tokenizer(text, add_special_tokens=False)["input_ids"]

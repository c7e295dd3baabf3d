"""Formats other than ChatML are rows of data too: a few of their oddities, tried without registering them."""

from dataclasses import replace

import pytest
from chat_helpers import load_shared, spaced_tokenizer, talk, train_tokenizer

from swiftlite.chat.formats import Pieces
from swiftlite.chat.pieces import PieceTemplate
from swiftlite.config.errors import UserError


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
    user, assistant = 100_007, 100_009
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


def test_an_id_that_means_another_token_is_refused(tiny):
    pieces = Pieces({"<|user|>": 7}, prompt="<|user|>{query}", chat_sep="</s>", suffix="</s>")
    with pytest.raises(UserError, match=r"<\|user\|>, but at its id 7 the tokenizer has"):
        PieceTemplate("glm", pieces, tiny)


def test_a_token_the_tokenizer_names_beats_the_id_given_for_it(tiny):
    number = tiny.convert_tokens_to_ids("<s>")
    pieces = Pieces({"<s>": number + 100_000, "</s>": None}, prompt="<s>{query}", chat_sep="</s>", suffix="</s>")
    assert PieceTemplate("named", pieces, tiny).encode(talk("a", "b")).ids[0] == number


def test_chatglms_sop_is_known_by_its_id_under_its_other_name():
    tokenizer = train_tokenizer(specials=["sop", "<sop>", "</s>"], eos_token="</s>", pad_token=None)
    number = tokenizer.convert_tokens_to_ids("<sop>")
    pieces = Pieces({"sop": number, "</s>": None}, prompt="sop{query}", chat_sep="</s>", suffix="</s>")
    assert PieceTemplate("glm", pieces, tokenizer).encode(talk("a", "b")).ids[0] == number


def test_bos_and_eos_are_the_tokenizers_own():
    from tokenizers.processors import TemplateProcessing

    tokenizer = train_tokenizer(bos_token="<s>", eos_token="</s>")
    pieces = Pieces(prefix="{bos}", prompt="Q{query}A", chat_sep="{eos}", suffix="{eos}")
    assert PieceTemplate("plain", pieces, tokenizer).render(talk("a", "b")) == "QaAb</s>"
    bos = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    template = PieceTemplate("plain", pieces, tokenizer)
    assert template.render(talk("a", "b")) == "<s>QaAb</s>"
    assert template.encode(talk("a", "b")).ids.count(bos) == 1


def test_a_missing_eos_is_named():
    tokenizer = train_tokenizer(eos_token=None)
    with pytest.raises(UserError, match="needs an EOS token"):
        PieceTemplate("plain", Pieces(suffix="{eos}"), tokenizer)


def test_a_separator_without_a_stop_leaves_only_the_last_answer_stopped(tiny):
    tiny.eos_token = "</s>"
    pieces = Pieces(prompt="Q{query}A", chat_sep="\n", suffix="{eos}")
    encoded = PieceTemplate("plain", pieces, tiny).encode(talk("a", "one", "b", "two"))
    assert tiny.decode([i for i, w in zip(encoded.ids, encoded.weights) if w]) == "onetwo</s>"


def test_a_suffix_without_a_stop_is_refused(tiny):
    with pytest.raises(UserError, match="holds no stop token"):
        PieceTemplate("plain", Pieces(suffix="end"), tiny)


def test_what_opens_every_answer_is_trained_and_no_generation_prompt_has_it(tiny):
    pieces = Pieces({"</s>": None}, prompt="{query}:", opening=" - ", chat_sep="</s>", suffix="</s>")
    template = PieceTemplate("open", pieces, tiny)
    assert template.render(talk("a"), for_generation=True) == "a:"
    encoded = template.encode(talk("a", "one"))
    assert tiny.decode([i for i, w in zip(encoded.ids, encoded.weights) if w]) == " - one</s>"


def test_thoughts_are_dropped_and_the_answer_left_untrained_but_for_the_last(tiny):
    pieces = Pieces({"</s>": None}, prompt="{query}:", chat_sep="</s>", suffix="</s>", thinking=True)
    template = PieceTemplate("think", pieces, tiny)
    messages = talk("a", "<think>x</think>one", "b", "two", "c", "<think>y</think>three")
    assert template.render(messages) == "a:one</s>b:two</s>c:<think>y</think>three</s>"
    encoded = template.encode(messages)
    trained = tiny.decode([i for i, w in zip(encoded.ids, encoded.weights) if w])
    assert trained == "two</s><think>y</think>three</s>"
    assert encoded.untrained_turns == 1


def test_separate_reasoning_is_written_where_thoughts_have_a_place_and_refused_elsewhere(tiny):
    pieces = Pieces({"</s>": None}, prompt="{query}:", chat_sep="</s>", suffix="</s>", thinking=True)
    messages = talk("a", "one")
    messages[1]["reasoning_content"] = "x"
    template = PieceTemplate("think", pieces, tiny)
    text = "a:<think>\nx\n</think>\n\none</s>"
    assert template.render(messages) == text
    assert tiny.apply_chat_template(messages, chat_template=template.jinja(), tokenize=False) == text
    with pytest.raises(UserError, match="message 2: plain has no form for reasoning_content"):
        PieceTemplate("plain", replace(pieces, thinking=False), tiny).encode(messages)

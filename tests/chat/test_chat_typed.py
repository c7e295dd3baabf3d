"""Special tokens typed into texts are text: never the control token, and counted."""

import pickle

import pytest
from chat_helpers import SHARED, load_shared, spaced_tokenizer, talk, train_tokenizer
from tokenizers import AddedToken

from swiftlite.chat.jinja import JinjaTemplate
from swiftlite.chat.pieces import PieceTemplate
from swiftlite.chat.registry import CHATML
from swiftlite.config.errors import UserError

OWN = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + (m['content'] or '') }}"
    "{% for call in m['tool_calls'] or [] %}{{ call['function'] | tojson }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PLAIN = "{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}"
TYPED = talk("say <|im_end|> now", "no<|im_start|>\n<|im_end|>", "<|im_end|>", "<s> so", system="<|endoftext|>!")


def own(tokenizer, text=OWN):
    tokenizer.chat_template = text
    return JinjaTemplate(tokenizer)


def test_ids_are_those_of_a_piece_template(tiny):
    pieces = PieceTemplate("chatml", CHATML, tiny)
    assert own(tiny).encode(TYPED) == pieces.encode(TYPED)
    generating = own(tiny).encode(TYPED[:-1], for_generation=True)
    assert generating == pieces.encode(TYPED[:-1], for_generation=True)
    assert generating.special_in_text == 5


def test_they_are_counted_and_are_not_the_control_token(tiny):
    encoded = own(tiny).encode(TYPED)
    assert encoded.special_in_text == 6
    assert encoded.ids.count(tiny.convert_tokens_to_ids("<|im_end|>")) == 5
    assert "say <|im_end|> now" in tiny.decode(encoded.ids)


def test_the_answers_around_them_are_trained_whole(tiny):
    encoded = own(tiny).encode(TYPED)
    trained = tiny.decode([i for i, weight in zip(encoded.ids, encoded.weights) if weight])
    assert trained == "no<|im_start|>\n<|im_end|><|im_end|><s> so<|im_end|>"


def test_the_same_holds_for_a_tokenizer_that_does_not_mark_them_special():
    tokenizer = train_tokenizer(special_flag=False, eos_token=None, pad_token=None)
    encoded = own(tokenizer).encode(talk("say <|im_end|> now", "no"))
    assert encoded.ids.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 2
    assert encoded.special_in_text == 1


def test_a_real_tokenizer_agrees(qwen):
    messages = talk("say <|im_end|> now", "no<|im_start|> one", "<|im_end|>", "<|endoftext|> so", system="S")
    before, qwen.chat_template = qwen.chat_template, OWN
    try:
        encoded = JinjaTemplate(qwen).encode(messages)
    finally:
        qwen.chat_template = before
    assert encoded == PieceTemplate("chatml", CHATML, qwen).encode(messages)
    assert encoded.special_in_text == 4


def test_sentencepiece_text_is_joined_as_it_stands():
    tokenizer = load_shared("mistral-v0.2")
    encoded = own(tokenizer, PLAIN).encode(talk("one </s> two", "three"))
    tokenizer.chat_template = None
    tokens = ["one", "▁</", "s", ">", "▁two", "</s>", "three", "</s>"]
    assert tokenizer.convert_ids_to_tokens(encoded.ids) == tokens


def test_sentencepiece_puts_its_space_at_the_start_of_the_row_only():
    tokenizer = spaced_tokenizer()
    template = own(tokenizer, PLAIN)
    # It knows no angle brackets; what is left of the typed token are its other characters.
    expected = {("so", "</s>am"): "▁ s o </s> / s a m </s>", ("</s>so", "am"): "▁ / ss o </s> a m </s>"}
    for contents, tokens in expected.items():
        assert tokenizer.convert_ids_to_tokens(template.encode(talk(*contents)).ids) == tokens.split(" ")


def test_tokens_that_swallow_white_space_still_do():
    tokenizer = train_tokenizer(specials=["<|endoftext|>", "<|im_start|>"])
    tokenizer.add_tokens([AddedToken("<|im_end|>", rstrip=True, lstrip=True, special=True)])
    template = own(tokenizer)
    plain, typed = template.encode(talk(" say X now ", " no ")), template.encode(talk(" say <|im_end|> now ", " no "))
    assert plain.ids == tokenizer.apply_chat_template(talk(" say X now ", " no "), return_dict=False)
    tail = tokenizer("now", add_special_tokens=False)["input_ids"]
    assert plain.ids[-12:] == typed.ids[-12:]
    assert typed.ids.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 2
    assert tail[-1] in typed.ids


def test_typed_into_tool_calls_and_tools_they_are_text_too(tiny):
    text = "{{ tools | tojson if tools else '' }}" + OWN
    messages = talk("a", "")
    messages[1]["tool_calls"] = [{"function": {"name": "look", "arguments": {"at": "x<|im_end|>y"}}}]
    tools = [{"type": "function", "function": {"name": "look", "description": "ends by <|im_end|>"}}]
    encoded = own(tiny, text).encode(messages, tools)
    assert encoded.special_in_text == 2
    assert encoded.ids.count(tiny.convert_tokens_to_ids("<|im_end|>")) == 2
    trained = tiny.decode([i for i, weight in zip(encoded.ids, encoded.weights) if weight])
    assert trained.endswith('{"at": "x<|im_end|>y"}}<|im_end|>')


@pytest.mark.parametrize("special", [False, True])
def test_thinking_tags_are_what_a_model_says(special):
    tokenizer = train_tokenizer(specials=["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken(name, special=special) for name in ("<think>", "</think>")])
    messages = talk("a", "<think>x</think>one")
    for template in (own(tokenizer), PieceTemplate("chatml", CHATML, tokenizer)):
        encoded = template.encode(messages)
        assert encoded.ids.count(tokenizer.convert_tokens_to_ids("</think>")) == 1
        assert encoded.special_in_text == 0
        assert encoded.ids == tokenizer.apply_chat_template(messages, return_dict=False)


def test_a_vocabulary_that_knows_no_other_way_is_refused():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"</s>": 0, "so": 1, "no": 2, "?": 3, "!": 4}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(["</s>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    template = own(tokenizer, PLAIN)
    assert template.encode(talk("so", "no")).ids == [1, 0, 2, 0]
    with pytest.raises(UserError, match="no other way to write it"):
        template.encode(talk("so </s> so", "no"))


def test_a_template_that_looks_for_one_in_a_text_is_refused(tiny):
    text = OWN.replace("(m['content'] or '')", "m['content'] + ('!' if m['content'].endswith('<|im_end|>') else '')")
    own(tiny, text).encode(talk("a <|im_end|> b", "c"))
    with pytest.raises(UserError, match="special token typed into it"):
        own(tiny, text).encode(talk("a <|im_end|>", "c"))


def test_a_copy_in_a_worker_process_encodes_the_same(tiny):
    template = own(tiny)
    assert pickle.loads(pickle.dumps(template)).encode(TYPED) == template.encode(TYPED)


def test_batch_equals_one_by_one(tiny):
    rows = [{"messages": messages} for messages in (TYPED, talk("a", "b"), TYPED[1:], talk("c", "d"))] * 3
    assert own(tiny).encode_batch(rows) == [own(tiny).encode(row["messages"]) for row in rows]


def test_every_template_here_writes_them_as_text():
    path = SHARED / "templates" / "llama.cpp" / "meta-llama-Llama-3.1-8B-Instruct.jinja"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    names = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer = train_tokenizer(names, bos_token=names[0], eos_token=names[3], pad_token=None)
    encoded = own(tokenizer, path.read_text()).encode(talk("a<|eot_id|>", "b<|eot_id|>c"))
    assert encoded.ids.count(tokenizer.convert_tokens_to_ids("<|eot_id|>")) == 3
    assert encoded.special_in_text == 2

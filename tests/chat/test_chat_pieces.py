"""Piece templates: ids equal the tokenizer's own, the mask equals one written down by hand."""

import pickle
import random
from dataclasses import replace

import pytest
from chat_helpers import SHARED, load_shared, talk, train_tokenizer

from swiftlite.chat.pieces import PieceTemplate
from swiftlite.chat.registry import CHATML, template_pieces
from swiftlite.config.errors import UserError

WORDS = ["hello", " world", "\n", "\n\n", " ", "你好", "，", "é", "e\u0301", "😀", "'s", "12", "\t", "<|"]


def chatml(tokenizer, **changes):
    return PieceTemplate("chatml", replace(CHATML, **changes), tokenizer)


def reference(tokenizer, messages):
    """ids and weights of a ChatML conversation from a character mask, written without the code under test."""
    text, mask = "", []

    def add(piece, trained):
        nonlocal text
        text += piece
        mask.extend([trained] * len(piece))

    for message in messages:
        trained = message["role"] == "assistant" and message.get("loss", True)
        add(f"<|im_start|>{message['role']}\n", False)
        add(message["content"] + "<|im_end|>", trained)
        add("\n", False)
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return coded["input_ids"], [float(mask[start]) for start, _ in coded["offset_mapping"]]


def random_talk(rng):
    turns = 2 * rng.randint(1, 4)
    contents = ["".join(rng.choices(WORDS, k=rng.randint(0, 12))) for _ in range(turns)]
    messages = talk(*contents, system=rng.choice([None, "Be brief.", "\n\nrules "]))
    for message in messages:
        if message["role"] == "assistant" and rng.random() < 0.3:
            message["loss"] = False
    return messages


def test_random_conversations_equal_the_character_mask(qwen):
    rng = random.Random(0)
    template = chatml(qwen)
    for _ in range(200):
        messages = random_talk(rng)
        encoded = template.encode(messages)
        assert (encoded.ids, encoded.weights) == reference(qwen, messages)


def test_ids_equal_apply_chat_template_with_qwens_own_jinja(qwen):
    messages = talk("Hi 你好", "\nHello.\n", "and?", " Bye ", system="Be brief.")
    assert chatml(qwen).encode(messages).ids == qwen.apply_chat_template(messages, return_dict=False)


def test_ids_for_generation_equal_apply_chat_template(qwen):
    messages = talk("Hi", "Hello.", "and?", system="Be brief.")
    encoded = chatml(qwen).encode(messages, for_generation=True)
    assert encoded.ids == qwen.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert set(encoded.weights) == {0.0}


def test_a_second_real_tokenizer_agrees_with_the_character_mask():
    tokenizer = load_shared("minimind")
    messages = talk("你好，世界", "Fine.\n\nThanks", "so?", "yes")
    encoded = chatml(tokenizer).encode(messages)
    assert (encoded.ids, encoded.weights) == reference(tokenizer, messages)


def test_every_assistant_turn_and_its_stop_token_is_trained(tiny):
    encoded = chatml(tiny).encode(talk("a", "one", "b", "two"))
    trained = tiny.decode([i for i, w in zip(encoded.ids, encoded.weights) if w])
    assert trained == "one<|im_end|>two<|im_end|>"


def test_the_line_break_after_the_stop_token_is_not_trained(tiny):
    encoded = chatml(tiny).encode(talk("a", "one"))
    assert tiny.decode(encoded.ids[-2:]) == "<|im_end|>\n"
    assert encoded.weights[-2:] == [1.0, 0.0]


@pytest.mark.parametrize("loss", [False, 0])
def test_a_turn_with_loss_false_is_read_but_not_trained(tiny, loss):
    messages = talk("a", "one", "b", "two")
    messages[1]["loss"] = loss
    encoded = chatml(tiny).encode(messages)
    assert encoded.ids == chatml(tiny).encode(talk("a", "one", "b", "two")).ids
    assert tiny.decode([i for i, w in zip(encoded.ids, encoded.weights) if w]) == "two<|im_end|>"


def test_a_token_that_straddles_the_header_is_not_trained(tiny):
    # "assistant\n" + "\nHi" is tokenised as "assistant" "\n\n" "Hi": the middle token starts in the header.
    assert len(tiny("\n\n", add_special_tokens=False)["input_ids"]) == 1
    encoded = chatml(tiny).encode(talk("a", "\nhello"))
    start = encoded.weights.index(1.0)
    assert tiny.decode(encoded.ids[start - 1]) == "\n\n"
    assert tiny.decode(encoded.ids[start:]) == "hello<|im_end|>\n"


def test_a_token_that_begins_with_the_headers_space_is_not_trained(tiny):
    # A post-processor that trims offsets would say that " hello" starts behind the space.
    pieces = replace(CHATML, response_prefix="<|im_start|>assistant: ")
    encoded = PieceTemplate("spaced", pieces, tiny).encode(talk("a", "hello world"))
    start = encoded.weights.index(1.0)
    assert tiny.decode(encoded.ids[start - 1]) == " hello"


def test_special_tokens_typed_by_a_user_stay_text(qwen):
    encoded = chatml(qwen).encode(talk("say <|im_end|> now", "no<|im_start|>"))
    assert encoded.ids.count(151645) == 2
    assert encoded.ids.count(151644) == 2
    assert "say <|im_end|> now" in qwen.decode(encoded.ids)


def test_the_same_holds_for_a_tokenizer_that_does_not_mark_them_special():
    tokenizer = train_tokenizer(special_flag=False, eos_token=None, pad_token=None)
    encoded = chatml(tokenizer).encode(talk("say <|im_end|> now", "no"))
    assert encoded.ids.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 2


def test_the_tokenizer_itself_is_left_as_it_was(tiny):
    before = tiny.backend_tokenizer.to_str(), tiny("a<|im_end|>")["input_ids"]
    chatml(tiny).encode(talk("<|im_end|>", "b"))
    assert (tiny.backend_tokenizer.to_str(), tiny("a<|im_end|>")["input_ids"]) == before


def test_a_copy_in_a_worker_process_encodes_the_same(tiny):
    template, messages = chatml(tiny), talk("say <|im_end|> now", "no")
    assert pickle.loads(pickle.dumps(template)).encode(messages) == template.encode(messages)


def test_batch_equals_one_by_one(tiny):
    rng = random.Random(1)
    rows = [{"messages": random_talk(rng)} for _ in range(1100)]
    template = chatml(tiny)
    assert template.encode_batch(rows) == [template.encode(row["messages"]) for row in rows]


@pytest.mark.parametrize("name", ["chatml", "qwen"])
@pytest.mark.parametrize("system", [None, "Be brief.", ""])
@pytest.mark.parametrize("contents", [["Hi"], ["Hi", "{{ 'ho' }}"], ["Hi", "\nHo\n", "so", "it"]])
@pytest.mark.parametrize("for_generation", [False, True])
def test_jinja_renders_the_same_text(tiny, name, system, contents, for_generation):
    if for_generation and len(contents) % 2 == 0:
        contents = [*contents, "more"]
    messages = talk(*contents, system=system)
    template = PieceTemplate(name, template_pieces(name), tiny)
    expected = tiny.apply_chat_template(
        messages, chat_template=template.jinja(), tokenize=False, add_generation_prompt=for_generation
    )
    assert template.render(messages, for_generation=for_generation) == expected


def test_default_system_with_quotes_and_line_breaks_survives_jinja(tiny):
    template = chatml(tiny, default_system="Say \"yes\",\n'no' or {{ nothing }} \\ 你好 😀 %}")
    rendered = tiny.apply_chat_template(talk("Hi"), chat_template=template.jinja(), tokenize=False)
    assert template.render(talk("Hi")) == rendered
    assert "Say \"yes\",\n'no' or {{ nothing }} \\ 你好 😀 %}<|im_end|>" in rendered


def test_jinja_has_no_system_block_when_the_default_is_removed(tiny):
    template = PieceTemplate("qwen", replace(template_pieces("qwen"), default_system=None), tiny)
    rendered = tiny.apply_chat_template(talk("Hi"), chat_template=template.jinja(), tokenize=False)
    assert rendered == "<|im_start|>user\nHi<|im_end|>\n"


def test_a_published_chatml_template_renders_the_same_text(tiny):
    path = SHARED / "templates" / "axolotl" / "chatml.jinja"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    messages = talk("Hi", "Ho", "so", "it", system="Be brief.")
    expected = tiny.apply_chat_template(messages, chat_template=path.read_text(), tokenize=False)
    assert chatml(tiny).render(messages) == expected


def test_a_tokenizer_that_strips_at_its_specials_is_refused():
    from tokenizers import AddedToken

    tokenizer = train_tokenizer(specials=["<|endoftext|>", "<|im_start|>"])
    tokenizer.add_tokens([AddedToken("<|im_end|>", rstrip=True, special=True)])
    with pytest.raises(UserError, match="does not fit this tokenizer"):
        chatml(tokenizer)


def test_a_missing_special_token_is_named():
    tokenizer = train_tokenizer(specials=["<|endoftext|>", "<|im_end|>"])
    with pytest.raises(UserError, match=r"<\|im_start\|>.*--template tokenizer"):
        chatml(tokenizer)


@pytest.mark.parametrize(
    ("messages", "tools", "complaint"),
    [
        ([], None, "no messages"),
        ([{"role": "assistant", "content": "hi"}], None, "message 1 has the role 'assistant'"),
        (talk("a", "b") + talk("c") + talk("d"), None, "message 4 has the role 'user'"),
        ([*talk("a"), {"role": "tool", "content": "b"}], None, "message 2 has the role 'user'"),
        ([*talk("a"), {"role": "critic", "content": "b"}], None, "message 2 has the role 'critic'"),
        ([{"role": "user", "content": None}], None, "message 1: content is NoneType"),
        ([*talk("a"), {"role": "assistant", "content": "", "tool_calls": [{}]}], None, "message 2: a tool call is"),
    ],
)
def test_what_chatml_cannot_write_is_refused(tiny, messages, tools, complaint):
    with pytest.raises(UserError, match=complaint):
        chatml(tiny).encode(messages, tools)


@pytest.mark.parametrize(
    ("messages", "tools", "complaint"),
    [
        (talk("a", "b"), [{"type": "function"}], "no form for tools"),
        ([*talk("a"), {"role": "assistant", "content": "", "tool_calls": [{}]}], None, "no form for tool_calls"),
        ([*talk("a"), {"role": "tool", "content": "b"}], None, "message 2 has the role 'tool'"),
    ],
)
def test_a_row_without_tools_refuses_them(tiny, messages, tools, complaint):
    with pytest.raises(UserError, match=complaint):
        chatml(tiny, tools=False).encode(messages, tools)


def test_generation_after_an_assistant_turn_is_refused(tiny):
    with pytest.raises(UserError, match="must end on a user turn"):
        chatml(tiny).encode(talk("a", "b"), for_generation=True)


def test_the_stop_token_comes_first_and_eos_after(tiny):
    tiny.eos_token = "<|endoftext|>"
    expected = tiny.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert chatml(tiny).stop_token_ids == expected


def test_the_fingerprint_is_the_same_for_the_same_settings(tiny):
    first = chatml(tiny).fingerprint
    tiny(["a", "b c d"], padding=True, truncation=True, max_length=3)
    assert chatml(tiny).fingerprint == first
    assert len(first) == 16
    assert int(first, 16) >= 0


def test_the_fingerprint_follows_the_system_prompt_the_pieces_and_the_vocabulary(tiny):
    other = train_tokenizer(specials=["<|im_end|>", "<|im_start|>"], pad_token=None)
    prints = [
        chatml(tiny).fingerprint,
        chatml(tiny, default_system="S").fingerprint,
        chatml(tiny, response_prefix="<|im_start|>model\n").fingerprint,
        chatml(other).fingerprint,
    ]
    assert len(set(prints)) == 4

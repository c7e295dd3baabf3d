"""Each family's row beside the Jinja template its makers publish, and its own Jinja beside itself."""

import json

import pytest
from agreement import FILE, record
from agreement_families import CASES, TOOL
from chat_helpers import SHARED, load_shared, talk, train_tokenizer

from swiftlite.chat.families import FAMILIES
from swiftlite.chat.jinja import JinjaTemplate
from swiftlite.chat.pieces import PieceTemplate
from swiftlite.chat.registry import template_pieces
from swiftlite.config.errors import UserError


def test_the_table_of_the_docs_is_what_comes_out_now():
    if not (SHARED / "templates").is_dir():
        pytest.skip(f"{SHARED / 'templates'} is not here")
    assert record() == json.loads(FILE.read_text(encoding="utf-8")), "if that is right: python tests/chat/agreement.py"


def test_no_family_differs_from_its_reference():
    found = json.loads(FILE.read_text(encoding="utf-8"))
    assert [name for name, family in found.items() if "differs" in family["cases"].values()] == []


def test_every_row_is_in_the_table():
    listed = {family["row"] for family in json.loads(FILE.read_text(encoding="utf-8")).values()}
    assert set(FAMILIES) - {"llama2"} <= listed


def tokenizer_for(name):
    specials = [*FAMILIES[name].specials, "</s>"]
    return train_tokenizer(list(dict.fromkeys(specials)), bos_token=None, eos_token="</s>", pad_token=None)


# ReAct-free conversations of every shape; the row may refuse some (no place for a system prompt or for tools).
SHAPES = {
    **CASES,
    "white space": talk(" uno\n", "\n duo ", "tria", " quattuor ", system=" Be brief.\n"),
    "empty": talk("", "duo", "tria", ""),
    "thoughts": talk("uno", "<think>a</think>b</think>c", "tria", "quattuor"),
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_jinja_saved_with_a_checkpoint_renders_what_the_row_does(name, shape):
    template = PieceTemplate(name, template_pieces(name), tokenizer := tokenizer_for(name))
    tools = [TOOL] if shape == "tool" else None
    messages = SHAPES[shape]
    ends = {"chat_template": template.jinja(), "tokenize": False, "tools": tools}
    asked = messages[: 2 if messages[0]["role"] == "system" else 1]
    try:
        ours, prompt = template.render(messages, tools), template.render(asked, tools, for_generation=True)
    except UserError:
        assert shape == "tool" or messages[0]["role"] == "system"
        return
    assert tokenizer.apply_chat_template(messages, **ends) == ours
    assert tokenizer.apply_chat_template(asked, add_generation_prompt=True, **ends) == prompt


@pytest.mark.parametrize("name", ["chatml", "qwen", "qwen2_5"])
@pytest.mark.parametrize("arguments", [{"at": "там"}, '{"at": "там"}'])
def test_tools_are_written_as_qwen2_5_writes_them(qwen, name, arguments):
    call = {"type": "function", "function": {"name": "look", "arguments": arguments}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Is it here or there?"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call, call]},
        {"role": "tool", "content": "no"},
        {"role": "tool", "content": "yes"},
        {"role": "assistant", "content": "There."},
        {"role": "user", "content": "Sure?"},
    ]
    parsed = [m | {"tool_calls": [{"function": {"name": "look", "arguments": {"at": "там"}}}] * 2} if "tool_calls" in m
              else m for m in messages]  # fmt: skip
    encoded = PieceTemplate(name, template_pieces(name), qwen).encode(messages, [TOOL], for_generation=True)
    expected = qwen.apply_chat_template(parsed, tools=[TOOL], add_generation_prompt=True, return_dict=False)
    assert encoded.ids == expected


def test_tool_calls_are_trained_and_tool_results_are_not(tiny):
    encoded = PieceTemplate("chatml", template_pieces("chatml"), tiny).encode(CASES["tool"], [TOOL])
    call = '<tool_call>\n{"name": "look", "arguments": {"at": "there"}}\n</tool_call>'
    trained = tiny.decode([i for i, weight in zip(encoded.ids, encoded.weights) if weight])
    assert trained == f"{call}<|im_end|>duo<|im_end|>"


def test_qwen1_5_leaves_the_last_answer_open_and_we_close_it(qwen):
    path = SHARED / "templates" / "tokenizer_config" / "Qwen1.5.json"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    own = json.loads(path.read_text())["chat_template"]
    before, qwen.chat_template = qwen.chat_template, own
    try:
        encoded = JinjaTemplate(qwen).encode(talk("a", "one"))
        open_ended = qwen.apply_chat_template(talk("a", "one"), return_dict=False)
    finally:
        qwen.chat_template = before
    assert encoded.ids == [*open_ended, 151645]
    assert encoded.weights[-1] == 1.0


def test_a_real_tokenizer_keeps_a_row_that_it_cannot_read_in_one_go():
    tokenizer = load_shared("mistral-v0.2")
    encoded = PieceTemplate("mistral", template_pieces("mistral"), tokenizer).encode(talk("Hi", "Ho", "so", "it"))
    text = "<s>[INST] Hi [/INST]Ho</s>[INST] so [/INST]it</s>"
    assert encoded.ids == tokenizer(text, add_special_tokens=False)["input_ids"]

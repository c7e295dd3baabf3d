"""Which template a run gets, and the names it may be called by."""

import subprocess
import sys

import pytest
from chat_helpers import talk, train_tokenizer

from swiftlite.chat import registry
from swiftlite.chat.config import ChatConfig
from swiftlite.chat.formats import Pieces
from swiftlite.chat.jinja import JinjaTemplate
from swiftlite.chat.pieces import PieceTemplate
from swiftlite.chat.template import choose_template
from swiftlite.config.errors import UserError
from swiftlite.config.options import options_of

OWN = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' }}{% endfor %}"


def test_auto_takes_the_familys_template_first(tiny):
    tiny.chat_template = OWN
    template = choose_template(ChatConfig(), tiny, "qwen")
    assert isinstance(template, PieceTemplate)
    assert template.name == "qwen"


def test_auto_takes_the_tokenizers_own_next(tiny):
    tiny.chat_template = OWN
    assert isinstance(choose_template(ChatConfig(), tiny, None), JinjaTemplate)


def test_auto_falls_back_to_chatml(tiny):
    assert choose_template(ChatConfig(), tiny, None).name == "chatml"


def test_auto_without_any_says_what_to_do():
    tokenizer = train_tokenizer(specials=["<|endoftext|>"], eos_token="<|endoftext|>")
    with pytest.raises(UserError, match=r"--template auto: .*no chat template.*tokenizer_config\.json"):
        choose_template(ChatConfig(), tokenizer, None)


def test_a_name_beats_the_family(tiny):
    assert choose_template(ChatConfig(template="chatml"), tiny, "qwen").name == "chatml"


def test_an_unknown_name_gets_the_nearest_one(tiny):
    with pytest.raises(UserError, match="did you mean chat"):
        choose_template(ChatConfig(template="chatlm"), tiny, None)


def test_an_empty_name_is_refused(tiny):
    with pytest.raises(UserError, match="--template is empty"):
        choose_template(ChatConfig(template=""), tiny, None)


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ("auto", "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"),
        ("Be brief.", "<|im_start|>system\nBe brief.<|im_end|>\n"),
        (None, ""),
        ("", ""),
    ],
)
def test_system_replaces_or_removes_the_default(tiny, system, expected):
    template = choose_template(ChatConfig(template="qwen", system=system), tiny, None)
    assert template.render(talk("Hi")) == expected + "<|im_start|>user\nHi<|im_end|>\n"


def test_a_conversations_own_system_prompt_wins(tiny):
    template = choose_template(ChatConfig(template="qwen", system="A"), tiny, None)
    assert template.render(talk("Hi", system="B")).startswith("<|im_start|>system\nB<|im_end|>\n")


def test_the_flag_none_means_no_system_prompt():
    system = next(o for o in options_of("chat", ChatConfig) if o.name == "system")
    assert system.read("none") is None


def test_system_none_leaves_a_template_alone_that_puts_none_in(tiny):
    tiny.chat_template = OWN
    template = choose_template(ChatConfig(system=None), tiny, None)
    assert template.render(talk("Hi")) == "<|im_start|>user\nHi<|im_end|>"
    assert template.jinja() == OWN


INJECTS = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>{% endif %}" + OWN


def test_system_none_empties_the_prompt_a_template_puts_in(tiny):
    tiny.chat_template = INJECTS
    assert "Be kind." in choose_template(ChatConfig(), tiny, None).render(talk("Hi"))
    template = choose_template(ChatConfig(system=None), tiny, None)
    expected = "<|im_start|>system\n<|im_end|><|im_start|>user\nHi<|im_end|>"
    assert template.render(talk("Hi")) == expected
    assert tiny.apply_chat_template(talk("Hi"), chat_template=template.jinja(), tokenize=False) == expected


def test_system_none_is_refused_where_an_empty_prompt_means_the_templates_own(tiny):
    stubborn = "messages[0]['role'] != 'system' or not messages[0]['content']"
    tiny.chat_template = INJECTS.replace("messages[0]['role'] != 'system'", stubborn)
    with pytest.raises(UserError, match="--system none"):
        choose_template(ChatConfig(system=None), tiny, None)


def test_a_system_prompt_that_a_template_puts_in_is_noted(tiny):
    tiny.chat_template = INJECTS
    assert "system prompt of its own" in choose_template(ChatConfig(), tiny, None).notes[0]
    assert choose_template(ChatConfig(template="qwen"), tiny, None).notes == [
        "conversations without a system prompt get: You are a helpful assistant."
    ]
    tiny.chat_template = OWN
    assert choose_template(ChatConfig(), tiny, None).notes == []


def test_a_slow_tokenizer_is_refused():
    class Slow:
        chat_template = None
        eos_token_id = None

    with pytest.raises(UserError, match="no fast backend"):
        choose_template(ChatConfig(), Slow(), None)


def test_a_registered_row_can_be_chosen(tiny, monkeypatch):
    monkeypatch.setattr(registry, "_TEMPLATES", dict(registry._TEMPLATES))
    registry.register_template("mine", Pieces({"</s>": None}, chat_sep="</s>", suffix="</s>"))
    assert "mine" in registry.template_names()
    assert choose_template(ChatConfig(template="mine"), tiny, None).render(talk("a", "b")) == "ab</s>"


@pytest.mark.parametrize("name", ["chatml", "auto", "tokenizer"])
def test_a_taken_name_cannot_be_registered(name):
    with pytest.raises(UserError, match="is taken"):
        registry.register_template(name, Pieces())


def test_a_system_prompt_for_a_format_without_one_is_refused(tiny, monkeypatch):
    monkeypatch.setattr(registry, "_TEMPLATES", dict(registry._TEMPLATES))
    registry.register_template("mine", Pieces({"</s>": None}, chat_sep="</s>", suffix="</s>"))
    with pytest.raises(UserError, match="no place for a system prompt"):
        choose_template(ChatConfig(template="mine", system="S"), tiny, None)


def test_config_and_registry_import_neither_torch_nor_transformers():
    code = (
        "import sys, swiftlite.chat.config, swiftlite.chat.registry, swiftlite.chat.template;"
        "print([m for m in ('torch', 'transformers', 'tokenizers', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

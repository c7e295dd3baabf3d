"""A chat format as data: a few pieces of text, and the Jinja chat template that writes the same."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from swiftlite.chat import hermes


@dataclass(frozen=True)
class Pieces:
    """One chat format as data.

    The pieces (after ms-swift's templates) are text in which the strings listed in `specials` stand for special
    tokens. `specials` maps each to None (the tokenizer has it by that name) or to the id it has where the
    tokenizer does not name it (ChatGLM3, Baichuan2). `{eos}` stands for the tokenizer's EOS token, `{bos}` for the
    BOS token if the tokenizer puts one before plain text.

    A conversation is: `system_prefix` (`prefix` when there is no system prompt), then for each user turn
    `prompt`, for each assistant turn `response_prefix`, `opening`, its content and `chat_sep` (`suffix` after the
    last). The first special token of `chat_sep` and of `suffix` is the stop token, trained with the content; a
    `chat_sep` without one leaves earlier answers without a trained stop, as the model's makers do.

    Attributes:
        opening: text at the start of every answer that no generation prompt holds: the model writes it.
        generation: text that only the generation prompt has, after `response_prefix`.
        trim: roles whose content loses the white space around it.
        tools: whether tools, tool calls and tool results are written as Qwen2.5 does (see hermes.py).
        thinking: whether an answer may begin with thoughts in <think> tags, which are dropped from all answers but
            the last.
    """

    specials: Mapping[str, int | None] = field(default_factory=dict)
    prefix: str = ""
    system_prefix: str | None = None  # with {system}; None: the format has no place for a system prompt
    prompt: str = "{query}"
    response_prefix: str = ""
    opening: str = ""
    generation: str = ""
    chat_sep: str = ""
    suffix: str = ""
    default_system: str | None = None
    trim: tuple[str, ...] = ()
    tools: bool = False
    thinking: bool = False


def jinja_text(pieces: Pieces) -> str:
    """A chat_template that renders in plain transformers what the pieces do.

    Everything sits in string literals between trimming tags, so no engine's white-space setting matters.
    """
    header = _quote(pieces.response_prefix)
    ending = f"({_quote(pieces.suffix)} if loop.last else {_quote(pieces.chat_sep)})"
    return "".join(
        [
            *_start(pieces),
            "{%- for message in turns -%}",
            "{%- if message['role'] == 'user' -%}",
            _print(_quote(pieces.prompt, "{query}", _content(pieces, "user"))),
            "{%- elif message['role'] == 'assistant' -%}",
            *_answer(pieces),
            _print(f"{header} + {_quote(pieces.opening)} + said + {ending}"),
            *(hermes.jinja_result(*map(_quote, pieces.prompt.split("{query}"))) if pieces.tools else []),
            "{%- else -%}",
            _print("raise_exception('this template has no form for the role ' + message['role'])"),
            "{%- endif -%}",
            "{%- endfor -%}",
            "{%- if add_generation_prompt -%}",
            _print(f"{header} + {_quote(pieces.generation)}"),
            "{%- endif -%}",
        ]
    )


def _start(pieces: Pieces) -> list[str]:
    """What stands before the first turn; leaves the turns in the variable `turns`."""
    if pieces.system_prefix is None:
        return [
            "{%- if messages[0]['role'] == 'system' -%}",
            _print("raise_exception('this template has no place for a system prompt')"),
            "{%- endif -%}",
            "{%- set turns = messages -%}",
            _print(_quote(pieces.prefix)),
        ]
    default = "none" if pieces.default_system is None else _quote(pieces.default_system)
    trim = " | trim" if "system" in pieces.trim else ""
    return [
        "{%- if messages[0]['role'] == 'system' -%}",
        f"{{%- set system = messages[0]['content']{trim} -%}}",
        "{%- set turns = messages[1:] -%}",
        "{%- else -%}",
        f"{{%- set system = {default}{trim if pieces.default_system is not None else ''} -%}}",
        "{%- set turns = messages -%}",
        "{%- endif -%}",
        *(hermes.JINJA_SYSTEM if pieces.tools else []),
        "{%- if system is none -%}",
        _print(_quote(pieces.prefix)),
        "{%- else -%}",
        _print(_quote(pieces.system_prefix, "{system}", "system")),
        "{%- endif -%}",
    ]


def _answer(pieces: Pieces) -> list[str]:
    """Leaves the text of an answer in the variable `said`."""
    if pieces.tools:
        return hermes.JINJA_ANSWER
    if not pieces.thinking:
        return [f"{{%- set said = {_content(pieces, 'assistant')} -%}}"]
    return [
        "{%- set said = message['content'] -%}",
        "{%- if message['reasoning_content'] -%}",
        "{%- set said = '<think>\\n' + message['reasoning_content'] + '\\n</think>\\n\\n' + said -%}",
        "{%- endif -%}",
        "{%- if not loop.last and '</think>' in said -%}",
        "{%- set said = said.split('</think>')[-1] -%}",
        "{%- endif -%}",
    ]


def _content(pieces: Pieces, role: str) -> str:
    return "(message['content'] | trim)" if role in pieces.trim else "message['content']"


def _print(expression: str) -> str:
    """A Jinja statement that prints `expression` and nothing around it."""
    return f"{{{{- {expression} -}}}}"


def _quote(text: str, slot: str | None = None, name: str = "") -> str:
    """A Jinja expression for `text`, with `slot` replaced by the variable `name`."""
    if slot is None:
        return json.dumps(text, ensure_ascii=False)
    before, after = text.split(slot)
    return f"{json.dumps(before, ensure_ascii=False)} + {name} + {json.dumps(after, ensure_ascii=False)}"

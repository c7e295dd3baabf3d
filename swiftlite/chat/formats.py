"""A chat format as data: seven pieces of text, and the Jinja chat template that writes the same."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Pieces:
    """One chat format as data.

    The seven pieces (after ms-swift's templates) are text in which the strings listed in `specials` stand for
    special tokens. `specials` maps each to None (the tokenizer's token of that name) or to a token id, for
    families whose control tokens have no text of their own (ChatGLM3, Baichuan2).

    A conversation is: `system_prefix` (`prefix` when there is no system prompt), then for each user turn
    `prompt`, for each assistant turn `response_prefix`, its content and `chat_sep` (`suffix` after the last).
    The first special token of `chat_sep` and of `suffix` is the stop token, trained with the content.
    """

    specials: Mapping[str, int | None] = field(default_factory=dict)
    prefix: str = ""
    system_prefix: str | None = None  # with {system}; None: the format has no place for a system prompt
    prompt: str = "{query}"
    response_prefix: str = ""
    chat_sep: str = ""
    suffix: str = ""
    default_system: str | None = None


def jinja_text(pieces: Pieces) -> str:
    """A chat_template that renders in plain transformers what the pieces do.

    Everything sits in string literals between trimming tags, so no engine's white-space setting matters.
    """
    header = _quote(pieces.response_prefix)
    prompt = _quote(pieces.prompt, "{query}", "message['content']")
    ending = f"({_quote(pieces.suffix)} if loop.last else {_quote(pieces.chat_sep)})"
    return "".join(
        [
            *_start(pieces),
            "{%- for message in turns -%}",
            "{%- if message['role'] == 'user' -%}",
            _print(prompt),
            "{%- elif message['role'] == 'assistant' -%}",
            _print(f"{header} + message['content'] + {ending}"),
            "{%- else -%}",
            _print("raise_exception('this template has no form for the role ' + message['role'])"),
            "{%- endif -%}",
            "{%- endfor -%}",
            "{%- if add_generation_prompt -%}",
            _print(header),
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
    return [
        "{%- if messages[0]['role'] == 'system' -%}",
        "{%- set system = messages[0]['content'] -%}",
        "{%- set turns = messages[1:] -%}",
        "{%- else -%}",
        f"{{%- set system = {default} -%}}",
        "{%- set turns = messages -%}",
        "{%- endif -%}",
        "{%- if system is none -%}",
        _print(_quote(pieces.prefix)),
        "{%- else -%}",
        _print(_quote(pieces.system_prefix, "{system}", "system")),
        "{%- endif -%}",
    ]


def _print(expression: str) -> str:
    return f"{{{{- {expression} -}}}}"


def _quote(text: str, slot: str | None = None, name: str = "") -> str:
    """A Jinja expression for `text`, with `slot` replaced by the variable `name`."""
    if slot is None:
        return json.dumps(text, ensure_ascii=False)
    before, after = text.split(slot)
    return f"{json.dumps(before, ensure_ascii=False)} + {name} + {json.dumps(after, ensure_ascii=False)}"

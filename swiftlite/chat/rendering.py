"""Conversations through a Jinja chat template as transformers renders it, with our system prompt and date."""

import json
import re
from datetime import date
from functools import cached_property
from typing import Any

from swiftlite.chat.dates import CLOCK, pin_date
from swiftlite.chat.marks import MARK, Layout, Marker
from swiftlite.config.errors import UserError

GENERATION_TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")
_PROBE_TOOL = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {}}}
_PROBE_CALL = {"id": "call12345", "type": "function", "function": {"name": "look", "arguments": {"at": "there"}}}

Message = dict[str, Any]


class Renderer:
    """Renders as `tokenizer.apply_chat_template(..., tokenize=False)` does.

    Args:
        template: the tokenizer's chat_template.
        variables: its special tokens by name (bos_token, ...), which templates print.
        system: system prompt put before conversations that bring none; None: none is put.
        day: what `strftime_now` says in templates that ask for the date.

    Attributes:
        saved: the template with the system prompt, for the checkpoint.
        text: the same with the date pinned, which is what renders.
        tagged: whether `{% generation %}` tags say what is trained.
    """

    def __init__(self, template: str, variables: dict[str, Any], system: str | None, day: date) -> None:
        self.saved = template if system is None else _with_system(template, system)
        self.text = pin_date(self.saved, day) if CLOCK in template else self.saved
        self.tagged = GENERATION_TAG.search(template) is not None
        self._variables = variables

    def render(
        self, messages: list[Message], tools: Any = None, for_generation: bool = False, tags: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        """The text, and with `tags` the [start, end) of each generation tag in it.

        Tool calls go in as the template wants them: arguments as objects (what transformers documents), or as
        JSON text beside a content of none (OpenAI's own layout, DeepSeek).

        Raises:
            UserError: with the template's own complaint when it refuses.
        """
        messages = plain_messages(messages)
        if self._wants_text and any(message.get("tool_calls") for message in messages):
            messages = [_as_sent(message) for message in messages]
        return self._render(messages, tools, for_generation, tags)

    def layout(
        self, marker: Marker, messages: list[Message], tools: Any = None, for_generation: bool = False
    ) -> Layout:
        """Where the texts of the conversation stand in its rendering; the caller compares the whole."""
        marked, marked_tools, fragments = marker.mark(plain_messages(messages), tools)
        return Layout(self.render(marked, marked_tools, for_generation)[0], fragments)

    def injects_system(self) -> bool:
        """Whether the template puts a system prompt of its own before conversations that bring none.

        It does when the rendering without a system prompt is neither the one with an empty prompt, nor the one
        with some prompt less a stretch that holds it.
        """
        user = {"role": "user", "content": "?"}
        try:
            alone = self.render([user])[0]
            if alone == self._with("", user):
                return False
            some = self._with("\U00100000", user)
        except UserError:
            return False  # It takes no system prompt, or not without tools.
        ahead = _shared(alone, some)
        behind = _shared(alone[::-1], some[::-1])
        return ahead + behind < len(alone)

    def tried(self, messages: list[Message], *, for_generation: bool = False, with_tools: bool = False) -> str:
        """A rendering of a probe; empty where the template refuses it."""
        try:
            return self.render(messages, [_PROBE_TOOL] if with_tools else None, for_generation)[0]
        except UserError:
            return ""

    def can_empty_system(self) -> bool:
        """Whether an empty system prompt is written as one, and not replaced by the template's own."""
        user = {"role": "user", "content": "?"}
        return self._with("", user) == self._with("\U00100000", user).replace("\U00100000", "")

    def _with(self, system: str, user: Message) -> str:
        return self.render([{"role": "system", "content": system}, user])[0]

    @cached_property
    def _wants_text(self) -> bool:
        """Whether tool calls come out whole only in OpenAI's own layout."""
        probe = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "", "tool_calls": [_PROBE_CALL]}]

        def shows(messages: list[Message]) -> bool:
            try:
                text = self._render(messages, [_PROBE_TOOL], False, False)[0]
            except UserError:
                return False
            return "there" in text

        return not shows(probe) and shows([_as_sent(message) for message in probe])

    def _render(
        self, messages: list[Message], tools: Any, for_generation: bool, tags: bool
    ) -> tuple[str, list[tuple[int, int]]]:
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            rendered: Any = render_jinja_template(
                conversations=[messages],
                tools=tools or None,
                chat_template=self.text,
                return_assistant_tokens_mask=tags,
                add_generation_prompt=for_generation,
                **self._variables,
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise UserError(f"the tokenizer's chat template refuses this conversation: {error}") from error
        texts, found = rendered
        return texts[0], found[0] if tags else []


def plain_messages(messages: list[Message]) -> list[Message]:
    """The messages without our own fields and keys of no value, tool calls with their arguments as objects.

    Raises:
        UserError: there are none, or they hold characters that we use as marks.
    """
    if not messages:
        raise UserError("the conversation has no messages")
    # transformers drops keys without a value since 5.23, templates then take them for absent.
    clean = [{k: v for k, v in message.items() if k != "loss" and v is not None} for message in messages]
    return [m | {"tool_calls": [_parsed(c) for c in m["tool_calls"]]} if m.get("tool_calls") else m for m in clean]


def refuse_marks(text: str) -> None:
    """Raise UserError when `text`, rendered without marks, holds one."""
    found = MARK.search(text)
    if found:
        raise UserError(
            f"the conversation holds the private-use character U+{ord(found.group()):X}, which swiftlite needs for "
            "itself: take it out"
        )


def _parsed(call: dict[str, Any]) -> dict[str, Any]:
    if isinstance(call.get("function"), dict):
        return call | {"function": _parsed(call["function"])}
    if not isinstance(call.get("arguments"), str):
        return call
    try:
        arguments = json.loads(call["arguments"])
    except ValueError:
        return call
    return call | {"arguments": arguments} if isinstance(arguments, dict) else call


def _as_sent(message: Message) -> Message:
    """A message with its tool calls in OpenAI's own layout: arguments as JSON text, no content but none."""
    if not message.get("tool_calls"):
        return message
    calls = []
    for call in message["tool_calls"]:
        function = call.get("function")
        if isinstance(function, dict) and isinstance(function.get("arguments"), dict):
            call = call | {"function": function | {"arguments": json.dumps(function["arguments"], ensure_ascii=False)}}
        calls.append(call)
    return message | {"content": message.get("content") or None, "tool_calls": calls}


def _shared(a: str, b: str) -> int:
    """How many characters two texts share at their beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def _with_system(template: str, system: str) -> str:
    """`template` with a system message put first where there is none.

    Jinja removes the line break after the inserted block (trim_blocks), whatever the template begins with.
    """
    message = f"[{{'role': 'system', 'content': {json.dumps(system, ensure_ascii=False)}}}]"
    condition = "messages[0]['role'] != 'system'"
    return f"{{%- if {condition} %}}{{%- set messages = {message} + messages %}}{{%- endif %}}\n{template}"

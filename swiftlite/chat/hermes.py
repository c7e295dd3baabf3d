"""Tools in the form that Hermes and Qwen2.5 use: conversations with them become plain turns of text.

Tool schemas stand at the end of the system prompt, an answer's calls as JSON in <tool_call> tags at its end, and
the results that follow in <tool_response> tags in one user turn. Rendered as ChatML this equals Qwen2.5's own chat
template to the character.
"""

import json
from typing import Any

from swiftlite.config.errors import UserError

_HEAD = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)

Message = dict[str, Any]


def with_tools(system: str | None, tools: list[dict[str, Any]] | None) -> str | None:
    """The system prompt with the schemas of `tools` at its end."""
    if not tools:
        return system
    listed = "".join("\n" + _json(tool) for tool in tools)
    return ("" if system is None else system + "\n\n") + _HEAD + listed + _TAIL


def plain_turns(turns: list[tuple[int, Message]]) -> list[tuple[int, Message]]:
    """Turns without tool calls and results; each comes with its index in the conversation, for error messages.

    Raises:
        UserError: a tool call without a name or with arguments that are no object.
    """
    plain: list[tuple[int, Message]] = []
    in_results = False
    for index, message in turns:
        if message.get("role") == "tool":
            result = f"<tool_response>\n{_text(message, index)}\n</tool_response>"
            if in_results:
                plain[-1][1]["content"] += "\n" + result
            else:
                plain.append((index, {"role": "user", "content": result}))
            in_results = True
            continue
        in_results = False
        calls = message.get("tool_calls")
        if calls and message.get("role") == "assistant":
            parts = [message.get("content") or "", *(_call(call, index) for call in calls)]
            said = "\n".join(part for part in parts if part)
            message = {k: v for k, v in message.items() if k != "tool_calls"} | {"content": said}
        plain.append((index, message))
    return plain


def _call(call: dict[str, Any], index: int) -> str:
    function = call.get("function", call)
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = None
    if not isinstance(function.get("name"), str) or not isinstance(arguments, dict):
        raise UserError(
            f"message {index + 1}: a tool call is {_json(call)[:80]}, expected a name and arguments as an object"
        )
    return f'<tool_call>\n{{"name": "{function["name"]}", "arguments": {_json(arguments)}}}\n</tool_call>'


def _text(message: Message, index: int) -> str:
    if not isinstance(message.get("content"), str):
        raise UserError(f"message {index + 1}: content is {type(message.get('content')).__name__}, expected text")
    return message["content"]


def _json(value: Any) -> str:
    """As chat templates print it: transformers' tojson filter."""
    return json.dumps(value, ensure_ascii=False)


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


# The same in Jinja. `system` and `turns` are set before, `said` is read after.
JINJA_SYSTEM = [
    "{%- if tools -%}",
    f"{{%- set listed = namespace(text={_literal(_HEAD)}) -%}}",
    "{%- for tool in tools -%}",
    '{%- set listed.text = listed.text + "\\n" + (tool | tojson) -%}',
    "{%- endfor -%}",
    f'{{%- set system = ("" if system is none else system + "\\n\\n") + listed.text + {_literal(_TAIL)} -%}}',
    "{%- endif -%}",
]
JINJA_ANSWER = [
    "{%- set parts = namespace(text=message['content'] or '') -%}",
    "{%- for call in message['tool_calls'] or [] -%}",
    "{%- set function = call['function'] or call -%}",
    '{%- set parts.text = parts.text + ("\\n" if parts.text else "") + '
    "'<tool_call>\\n{\"name\": \"' + function['name'] + '\", \"arguments\": ' + "
    "(function['arguments'] if function['arguments'] is string else function['arguments'] | tojson) + "
    "'}\\n</tool_call>' -%}",
    "{%- endfor -%}",
    "{%- set said = parts.text -%}",
]


def jinja_result(before: str, after: str) -> list[str]:
    """The branch for tool results; `before` and `after` are literals of what stands around a user's text."""
    return [
        "{%- elif message['role'] == 'tool' -%}",
        "{%- if loop.first or turns[loop.index0 - 1]['role'] != 'tool' -%}",
        f"{{{{- {before} -}}}}",
        "{%- else -%}",
        '{{- "\\n" -}}',
        "{%- endif -%}",
        "{{- '<tool_response>\\n' + message['content'] + '\\n</tool_response>' -}}",
        "{%- if loop.last or turns[loop.index0 + 1]['role'] != 'tool' -%}",
        f"{{{{- {after} -}}}}",
        "{%- endif -%}",
    ]

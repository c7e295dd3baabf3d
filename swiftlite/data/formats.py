"""One row of any known layout to a conversation or a plain text; anything else is refused with a reason."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

EXPECTED = (
    "messages or conversations, instruction and output, query and response, question and answer, "
    "prompt and response or completion, or text (rename columns with --columns)"
)
ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "function_call": "call",
    "tool_call": "call",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
}
PAIRS = (("query", "response"), ("question", "answer"), ("prompt", "response"), ("prompt", "completion"))
TURN_LISTS = ("messages", "conversations", "conversation")
PREFERENCE = ("chosen", "rejected", "rejected_response", "rejected_messages", "chosen_messages")
MEDIA = ("images", "image", "videos", "video", "audios", "audio")
FOLLOWERS = {
    "start": ("user",),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}


class BadRow(Exception):
    """A row that cannot be trained on: `kind` groups rows in the report, `reason` is about this one."""

    def __init__(self, kind: str, detail: str = "", expected: str = "") -> None:
        self.kind = kind
        self.reason = f"{kind}: {detail}" if detail else kind
        self.expected = expected or EXPECTED
        super().__init__(self.reason)


@dataclass(frozen=True)
class Converted:
    """`content` is {"messages", optional "tools"} or {"text"}; `ignored` names the fields not read."""

    content: dict[str, Any]
    ignored: tuple[str, ...]
    renamed: tuple[str, ...]


def convert_row(row: Mapping[str, Any], columns: Mapping[str, str] | None = None) -> Converted:
    """Recognise `row` by its keys, after renaming `columns`.

    Empty or null optional fields (system, input, history, tools) count as absent.

    Raises:
        BadRow: unknown keys, an empty or non-text content, roles out of order, no assistant turn, or a
            row of another kind (preference pairs, images).
    """
    fields, renamed = _rename(row, columns or {})
    for key in PREFERENCE:
        if key in fields:
            raise BadRow("preference row", f"it has the field {key}", "one answer a row for sft and pt")
    if isinstance(fields.get("label"), bool):
        raise BadRow("preference row", "it has a true/false label", "one answer a row for sft and pt")
    for key in MEDIA:
        if fields.get(key):
            raise BadRow("row with media", f"it has the field {key}", "text only")
    used: set[str] = set()
    ignored: set[str] = set()
    content = _recognise(fields, used, ignored)
    # A caption of nothing is nothing: unread fields are reported only where they hold a value.
    ignored |= {key for key, value in fields.items() if key not in used and value not in ("", [], {})}
    return Converted(content, tuple(sorted(ignored)), renamed)


def _rename(row: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    fields: dict[str, Any] = {}
    renamed = []
    for key, value in row.items():
        if key in columns:
            renamed.append(key)
            key = columns[key]
        if value is None:
            continue
        if key in fields:
            raise BadRow("two columns of one name", key, "a --columns rename to a name no other column has")
        fields[key] = value
    return fields, tuple(renamed)


def _recognise(fields: dict[str, Any], used: set[str], ignored: set[str]) -> dict[str, Any]:
    turns = next((key for key in TURN_LISTS if key in fields), None)
    if turns is not None:
        used.update({turns, "system", "tools"})
        return _conversation(fields, _turns(fields[turns], turns, ignored))
    if "instruction" in fields and "output" in fields:
        used.update({"instruction", "input", "output", "history", "system", "tools"})
        question = _text(fields["instruction"], "instruction")
        if fields.get("input", "") != "":
            question += "\n" + _text(fields["input"], "input")
        return _conversation(fields, _exchange(fields, question, _text(fields["output"], "output")))
    for ask, reply in PAIRS:
        if ask in fields and reply in fields:
            used.update({ask, reply, "history", "system", "tools"})
            return _conversation(fields, _exchange(fields, _text(fields[ask], ask), _text(fields[reply], reply)))
    if "text" in fields:
        used.add("text")
        return {"text": _text(fields["text"], "text")}
    names = sorted(map(str, fields))
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    raise BadRow("unknown fields", shown or "the row is empty")


def _text(value: Any, name: str, *, may_be_empty: bool = False) -> str:
    if isinstance(value, list):
        value = _join_parts(value, name)
    if not isinstance(value, str):
        shown = repr(value)
        shown = shown if len(shown) <= 40 else shown[:37] + "..."
        raise BadRow("content of the wrong type", f"{name} is {shown}", "text")
    if not value.strip() and not may_be_empty:
        raise BadRow("empty content", name, "text that is not blank")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRow("broken text", f"{name} holds half of a surrogate pair", "valid Unicode") from None
    return value


def _join_parts(parts: list[Any], name: str) -> str:
    """OpenAI's list of content parts, of which only text can be read."""
    texts = []
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text":
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise BadRow("content of the wrong type", f"{name} has a part of type {kind}", "text parts only")
        value = part.get("text") if part.get("text") is not None else part.get("value")
        if not isinstance(value, str):
            raise BadRow("content of the wrong type", f"{name} has a part without text", "text parts only")
        texts.append(value)
    return "".join(texts)


def _exchange(fields: dict[str, Any], question: str, answer: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    history = _from_json(fields.get("history") or [], "history")
    if not isinstance(history, list):
        raise BadRow("content of the wrong type", "history is not a list", "a list of [query, response] pairs")
    for pair in history:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise BadRow("content of the wrong type", "a history entry is not a pair", "[query, response]")
        messages.append({"role": "user", "content": _text(pair[0], "history")})
        messages.append({"role": "assistant", "content": _text(pair[1], "history")})
    messages.append({"role": "user", "content": question})
    messages.append({"role": "assistant", "content": answer})
    return messages


def _from_json(value: Any, name: str) -> Any:
    """Lists and objects arrive as JSON text from csv files and sharegpt rows."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise BadRow("JSON text that cannot be read", f"{name} ({error})", "valid JSON") from None


def _turns(turns: Any, name: str, ignored: set[str]) -> list[dict[str, Any]]:
    turns = _from_json(turns, name)
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise BadRow("content of the wrong type", f"{name} is not a list of turns", '[{"role", "content"}, ...]')
    messages: list[dict[str, Any]] = []
    for turn in turns:
        turn = {key: value for key, value in turn.items() if value is not None}
        if "human" in turn and "assistant" in turn:
            messages.append({"role": "user", "content": _text(turn.pop("human"), "human")})
            messages.append({"role": "assistant", "content": _text(turn.pop("assistant"), "assistant")})
            ignored.update(f"{name}.{key}" for key in turn)
            continue
        message = _turn(turn, name, ignored)
        # A call turn after an assistant turn is the same turn in OpenAI's layout.
        if message.pop("call", False) and messages and messages[-1]["role"] == "assistant":
            last = messages[-1]
            if message.get("loss", True) != last.get("loss", True):
                raise BadRow("content of the wrong type", "loss differs inside one turn", "one loss a turn")
            last["tool_calls"] = last.get("tool_calls", []) + message["tool_calls"]
        else:
            messages.append(message)
    return messages


def _turn(turn: dict[str, Any], name: str, ignored: set[str]) -> dict[str, Any]:
    said = turn.pop("role", turn.pop("from", None))
    role = ROLES.get(said) if isinstance(said, str) else None
    if role is None:
        raise BadRow("unknown role", repr(said)[:40], "one of " + ", ".join(ROLES))
    if turn.pop("reasoning_content", None):
        raise BadRow("separate reasoning", "reasoning_content", "reasoning inside content, as <think> text")
    content = turn.pop("content", turn.pop("value", ""))
    calls = turn.pop("tool_calls", None)
    loss = _loss(turn, role)
    ignored.update(f"{name}.{key}" for key in turn)
    if role == "call":
        return {"role": "assistant", "content": "", "tool_calls": _calls(content), "call": True} | loss
    if calls and role != "assistant":
        raise BadRow("roles out of order", f"tool_calls in a {said} turn", "tool_calls in assistant turns")
    text = _text(content, f"{said} content", may_be_empty=bool(calls) or role == "tool")
    return {"role": role, "content": text} | ({"tool_calls": _calls(calls)} if calls else {}) | loss


def _loss(turn: dict[str, Any], role: str) -> dict[str, bool]:
    """The flag that excludes an assistant turn: ours and ms-swift's `loss`, OpenAI's `weight`."""
    found = {}
    for key in ("loss", "loss_weight", "weight"):
        if key not in turn:
            continue
        value = turn.pop(key)
        if not isinstance(value, (bool, int, float)) or value not in (0, 1):
            raise BadRow("content of the wrong type", f"{key} is {value!r:.40}", "0 or 1 (true or false)")
        if role in ("assistant", "call"):
            found["loss"] = bool(value)
        elif value:
            raise BadRow("roles out of order", f"{key} set in a {role} turn", "only assistant turns trained")
    return found


def _calls(value: Any) -> list[dict[str, Any]]:
    """OpenAI-style tool calls with `arguments` as an object (what chat templates print as JSON)."""
    value = _from_json(value, "tool call")
    calls = []
    for call in value if isinstance(value, list) else [value]:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRow("tool call without a name", repr(call)[:40], '{"name": ..., "arguments": {...}}')
        arguments = _from_json(function.get("arguments") or {}, "tool call arguments")
        if not isinstance(arguments, dict):
            raise BadRow("content of the wrong type", "tool call arguments are not an object", "an object")
        entry = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
        calls.append(({"id": call["id"]} if call.get("id") else {}) | entry)
    if not calls:
        raise BadRow("tool call without a name", "an empty list", '{"name": ..., "arguments": {...}}')
    return calls


def _conversation(fields: dict[str, Any], messages: list[dict[str, Any]]) -> dict[str, Any]:
    if fields.get("system", "") != "":
        messages = [{"role": "system", "content": _text(fields["system"], "system")}, *messages]
    previous = "start"
    for message in messages:
        role = message["role"]
        if role not in FOLLOWERS[previous] and not (previous == "start" and role == "system"):
            raise BadRow(
                "roles out of order",
                f"{role} after {previous}" if previous != "start" else f"{role} first",
                "an optional system turn, then user and assistant in turn",
            )
        previous = role
    if not any(message["role"] == "assistant" for message in messages):
        raise BadRow("no assistant turn", "", "an answer to train on")
    if previous != "assistant":
        raise BadRow("roles out of order", f"{previous} last", "an assistant turn at the end")
    content: dict[str, Any] = {"messages": messages}
    tools = _from_json(fields.get("tools") or [], "tools")
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadRow("content of the wrong type", "tools is not a list of objects", "a list of tool schemas")
    return content | ({"tools": tools} if tools else {})

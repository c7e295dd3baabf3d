"""Turn lists of every dialect as OpenAI messages: roles, content parts, reasoning, tool calls, loss flags."""

from typing import Any

from swiftlite.data.values import BadRow, checked_json, checked_text, from_json, shown, wrong_type

# OpenAI, sharegpt, LLaMA-Factory and ms-swift; "call" is an assistant turn whose content is the call itself.
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "function_call": "call",
    "tool_call": "call",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
}
FOLLOWERS = {
    "start": ("user",),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}
CALL = '{"name": ..., "arguments": {...}}'

Message = dict[str, Any]


def read_turns(turns: Any, name: str, ignored: set[str]) -> list[Message]:
    """The turns of the field `name` as messages; fields of turns that are not read are added to `ignored`.

    Raises:
        BadRow: anything that cannot be read without a guess.
    """
    turns = from_json(turns, name)
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise wrong_type(f"{name} is not a list of turns", '[{"role", "content"}, ...]')
    messages: list[Message] = []
    for turn in turns:
        turn = {key: value for key, value in turn.items() if value is not None}
        for key in turn:
            checked_text(key, f"a key in {name}", may_be_empty=True)
        if "human" in turn and "assistant" in turn:
            messages.append({"role": "user", "content": checked_text(turn.pop("human"), "human")})
            messages.append({"role": "assistant", "content": checked_text(turn.pop("assistant"), "assistant")})
            ignored.update(f"{name}.{key}" for key in turn)
            continue
        message = _turn(turn, name, ignored)
        # A call turn after an assistant turn is the same turn in OpenAI's layout.
        if message.pop("call", False) and messages and messages[-1]["role"] == "assistant":
            last = messages[-1]
            if message.get("loss", True) != last.get("loss", True):
                raise wrong_type("loss differs inside one turn", "one loss a turn")
            last["tool_calls"] = last.get("tool_calls", []) + message["tool_calls"]
        else:
            messages.append(message)
    return messages


def check_order(messages: list[Message]) -> None:
    """Raise BadRow unless turns follow each other as in a conversation that ends with an answer."""
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


def read_tools(value: Any) -> list[dict[str, Any]]:
    """Tool schemas in OpenAI's layout, {"type": "function", "function": {"name", ...}}; [] for none.

    Bare functions (sharegpt, ms-swift) are wrapped; their content is left as it is.
    """
    value = from_json(value or [], "tools")
    if not isinstance(value, list):
        raise wrong_type("tools is not a list", "a list of tool schemas")
    tools = []
    for tool in value:
        tool = from_json(tool, "tools")
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict):
            raise wrong_type("tools is not a list of objects", "a list of tool schemas")
        if not isinstance(function.get("name"), str):
            raise BadRow("tool without a name", shown(tool), '{"name": ..., "parameters": {...}}')
        if "function" not in tool:
            tool = {"function": {key: entry for key, entry in tool.items() if key != "type"}}
        tools.append({"type": "function", **checked_json(tool, "tools")})
    return tools


def read_content(value: Any, name: str, *, may_be_empty: bool = False) -> str:
    """Text, or a list of content parts that are all text."""
    if not isinstance(value, list):
        return checked_text(value, name, may_be_empty=may_be_empty)
    found = _parts(value, name)
    for key in ("reasoning_content", "tool_calls"):
        if key in found:
            raise wrong_type(f"{name} has {key.split('_')[0]} parts", "text parts only")
    return checked_text(found["content"], name, may_be_empty=may_be_empty)


def _turn(turn: dict[str, Any], name: str, ignored: set[str]) -> Message:
    said = turn.pop("role", turn.pop("from", None))
    role = ROLES.get(said) if isinstance(said, str) else None
    if role is None:
        raise BadRow("unknown role", shown(said), "one of " + ", ".join(ROLES))
    content = turn.pop("content", turn.pop("value", ""))
    more = {key: turn.pop(key) for key in ("reasoning_content", "tool_calls") if key in turn}
    loss = _loss(turn, role)
    # Which call a result answers: some templates (Mistral) refuse results without it.
    answered = {key: turn.pop(key) for key in ("name", "tool_call_id") if role == "tool" and key in turn}
    ignored.update(f"{name}.{key}" for key in turn)
    if role == "call":
        return {"role": "assistant", "content": "", "tool_calls": _calls(content), "call": True} | loss
    if role == "assistant":
        return {"role": role} | _answer(content, more, f"{said} content") | loss
    if more.get("tool_calls"):
        raise BadRow("roles out of order", f"tool_calls in a {said} turn", "tool_calls in assistant turns")
    if more.get("reasoning_content"):
        raise BadRow("roles out of order", f"reasoning_content in a {said} turn", "reasoning in assistant turns")
    for key, value in answered.items():
        checked_text(value, key)
    return {"role": role, "content": read_content(content, f"{said} content", may_be_empty=role == "tool")} | answered


def _answer(content: Any, more: dict[str, Any], name: str) -> Message:
    """An assistant turn: its text, what it thought before (`reasoning_content`) and the tools it calls."""
    found = _parts(content, name) if isinstance(content, list) else {"content": content}
    for key, value in more.items():
        if value and key in found:
            raise wrong_type(f"{key} is given twice", "either content parts or a field beside them")
        found[key] = value
    calls = _calls(found["tool_calls"]) if found.get("tool_calls") else []
    message = {"content": checked_text(found["content"], name, may_be_empty=bool(calls))}
    # Blank reasoning is a turn without reasoning.
    if checked_text(found.get("reasoning_content", ""), "reasoning_content", may_be_empty=True).strip():
        message["reasoning_content"] = found["reasoning_content"]
    return message | ({"tool_calls": calls} if calls else {})


def _parts(parts: list[Any], name: str) -> dict[str, Any]:
    """OpenAI's and LLaMA-Factory's content parts by kind; images and the like cannot be read."""
    texts: dict[str, list[str]] = {"text": [], "reasoning": []}
    calls: list[Any] = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        if not isinstance(part, dict) or kind not in ("text", "reasoning", "tool_call"):
            raise wrong_type(f"{name} has a part of type {shown(kind)}", "parts of text, reasoning or tool_call")
        value = part.get("text") if part.get("text") is not None else part.get("value")
        if kind == "tool_call":
            calls += _calls(value)
        elif isinstance(value, str):
            texts[kind].append(value)
        else:
            raise wrong_type(f"{name} has a part without text", "text in each part")
    found: dict[str, Any] = {"content": "".join(texts["text"])}
    if texts["reasoning"]:
        found["reasoning_content"] = "".join(texts["reasoning"])
    return found | ({"tool_calls": calls} if calls else {})


def _loss(turn: dict[str, Any], role: str) -> dict[str, bool]:
    """The flag that excludes an assistant turn: ours and ms-swift's `loss`, OpenAI's `weight`."""
    found = {}
    for key in ("loss", "loss_weight", "weight"):
        if key not in turn:
            continue
        value = turn.pop(key)
        if not isinstance(value, (bool, int, float)) or value not in (0, 1):
            raise wrong_type(f"{key} is {shown(value)}", "0 or 1 (true or false)")
        if role in ("assistant", "call"):
            found["loss"] = bool(value)
        elif value:
            raise BadRow("roles out of order", f"{key} set in a {role} turn", "only assistant turns trained")
    return found


def _calls(value: Any) -> list[dict[str, Any]]:
    """OpenAI-style tool calls with `arguments` as an object (what chat templates print as JSON)."""
    value = from_json(value, "tool call")
    calls = []
    for call in value if isinstance(value, list) else [value]:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRow("tool call without a name", shown(call), CALL)
        checked_text(function["name"], "the name of a tool call")
        arguments = from_json(function.get("arguments") or {}, "tool call arguments")
        if not isinstance(arguments, dict):
            raise wrong_type("tool call arguments are not an object", "an object")
        arguments = checked_json(arguments, "tool call arguments")
        entry = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
        calls.append(({"id": checked_text(call["id"], "tool call id")} if call.get("id") else {}) | entry)
    if not calls:
        raise BadRow("tool call without a name", "an empty list", CALL)
    return calls

"""One row of any known layout to a conversation or a plain text; anything else is refused with a reason."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swiftlite.data.turns import check_order, read_content, read_tools, read_turns
from swiftlite.data.values import BadRow, from_json, is_unicode, wrong_type

PAIRS = (
    ("query", "response"),
    ("question", "answer"),
    ("prompt", "response"),
    ("prompt", "completion"),
    ("prompt", "answer"),
)
TURN_LISTS = ("messages", "conversations", "conversation")
PREFERENCE = ("chosen", "chosen_messages", "rejected", "rejected_messages", "rejected_response")
# Where the better answer of a preference row may stand, and what reads it there.
BETTER = (("chosen_messages", "messages"), ("chosen", "messages"), ("chosen", "response"), ("chosen", "text"))
MEDIA = ("images", "image", "videos", "video", "audios", "audio")
# A --columns rename to one of these takes the column away (ms-swift's spellings).
NOWHERE = ("_", "-")
# Fields of rows that no question and answer can be read from: what they are, and what would do.
OTHER_KINDS = (
    ({"data", "version"}, "a SQuAD file in one piece", "a row for each question, with query and response"),
    ({"question", "function"}, "a function-calling test without an answer", "messages with tool_calls, and tools"),
    ({"ground_truth"}, "the answers of a test without its questions", "query and response in one row"),
    ({"Instructions", "Golden_Answers"}, "a ToolAlpaca tool with its tests", "messages with tool_calls, and tools"),
    ({"instruction", "instances"}, "a self-instruct task with a list of instances", "instruction, input and output"),
    (
        {"sentence", "label_desc"},
        "a labelled sentence",
        'a rename such as --columns {"sentence": "query", "label_desc": "response"}',
    ),
    ({"response"}, "an answer without a question", 'a question, or --columns {"response": "text"} to train on text'),
)


@dataclass(frozen=True)
class Converted:
    """`content` is {"messages", optional "tools"} or {"text"}; `ignored` names the fields not read."""

    content: dict[str, Any]
    ignored: tuple[str, ...]
    renamed: tuple[str, ...]


def convert_row(row: Mapping[str, Any], columns: Mapping[str, str] | None = None) -> Converted:
    """Recognise `row` by its keys, after renaming `columns` (to `_`: taken away).

    Empty or null optional fields (system, input, history, tools) count as absent.

    Raises:
        BadRow: unknown keys, an empty or non-text content, roles out of order, no assistant turn, or a
            row of another kind (preference pairs, images).
    """
    fields, renamed = _rename(row, columns or {})
    _refuse_preference(fields)
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
        if not isinstance(key, str) or not (key.isascii() or is_unicode(key)):
            raise BadRow("broken text", "the name of a field holds half of a surrogate pair", "valid Unicode")
        if key in columns:
            renamed.append(key)
            key = columns[key]
        if value is None or key in NOWHERE:
            continue
        if key in fields:
            raise BadRow("two columns of one name", key, "a --columns rename to a name no other column has")
        fields[key] = value
    return fields, tuple(renamed)


def _refuse_preference(fields: dict[str, Any]) -> None:
    """Rows for DPO, KTO and the like hold answers that nobody wants repeated."""
    found = [key for key in PREFERENCE if key in fields]
    if found:
        raise BadRow(
            "preference row",
            f"a better and a worse answer, for rlhf (it has the field {found[0]})",
            "one answer a row" + _rename_to_better(fields, found),
        )
    if isinstance(fields.get("label"), bool):
        raise BadRow(
            "preference row",
            "an answer judged good or bad, for rlhf (it has a true/false label)",
            'answers without a judgement; --columns {"label": "_"} trains on good and bad ones alike',
        )


def _rename_to_better(fields: dict[str, Any], found: list[str]) -> str:
    """The --columns that make such rows plain ones, where there are any."""
    nowhere = dict.fromkeys(found, "_")
    for columns in (nowhere, *(nowhere | {old: new} for old, new in BETTER if old in fields)):
        try:
            convert_row(fields, columns)
        except BadRow:
            continue
        return f"; --columns {json.dumps(columns)} trains on the better answers"
    return ""


def _recognise(fields: dict[str, Any], used: set[str], ignored: set[str]) -> dict[str, Any]:
    turns = next((key for key in TURN_LISTS if key in fields), None)
    if turns is not None:
        used.update({turns, "system", "tools"})
        return _conversation(fields, read_turns(fields[turns], turns, ignored))
    if "instruction" in fields and "output" in fields:
        used.update({"instruction", "input", "output", "history", "system", "tools"})
        question = read_content(fields["instruction"], "instruction")
        if fields.get("input", "") != "":
            question += "\n" + read_content(fields["input"], "input")
        return _conversation(fields, _exchange(fields, question, read_content(fields["output"], "output")))
    for ask, reply in PAIRS:
        if ask in fields and reply in fields:
            used.update({ask, reply, "history", "system", "tools"})
            question, answer = read_content(fields[ask], ask), read_content(fields[reply], reply)
            return _conversation(fields, _exchange(fields, question, answer))
    if "text" in fields:
        used.add("text")
        return {"text": read_content(fields["text"], "text")}
    for keys, what, instead in OTHER_KINDS:
        if keys <= fields.keys():
            raise BadRow("another kind of row", what, instead)
    names = sorted(fields)
    some = ", ".join(name[:40] for name in names[:8]) + (", ..." if len(names) > 8 else "")
    raise BadRow("unknown fields", some or "the row is empty")


def _exchange(fields: dict[str, Any], question: str, answer: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    history = from_json(fields.get("history") or [], "history")
    if not isinstance(history, list):
        raise wrong_type("history is not a list", "a list of [query, response] pairs")
    for pair in history:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise wrong_type("a history entry is not a pair", "[query, response]")
        messages.append({"role": "user", "content": read_content(pair[0], "history")})
        messages.append({"role": "assistant", "content": read_content(pair[1], "history")})
    messages.append({"role": "user", "content": question})
    messages.append({"role": "assistant", "content": answer})
    return messages


def _conversation(fields: dict[str, Any], messages: list[dict[str, Any]]) -> dict[str, Any]:
    if fields.get("system", "") != "":
        messages = [{"role": "system", "content": read_content(fields["system"], "system")}, *messages]
    check_order(messages)
    tools = read_tools(fields.get("tools"))
    return {"messages": messages} | ({"tools": tools} if tools else {})

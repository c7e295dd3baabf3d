"""Rows of any layout the data room knows, with or without their answers, to prompts."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swiftlite.config.errors import UserError
from swiftlite.data.formats import PAIRS, TURN_LISTS, convert_row
from swiftlite.data.readers import Origin, Record, Unreadable
from swiftlite.data.registry import Source, resolve
from swiftlite.data.selection import take
from swiftlite.data.turns import ROLES
from swiftlite.data.values import EXPECTED, BadRow

_EXPECTED = (
    "messages or conversations, instruction, query, question or prompt, each with or without an answer "
    "(a registered dataset may rename columns)"
)
# Stands where the model's answer goes while the data room checks the rest of the row.
_PENDING = "?"
_ASKS = (("instruction", "output"), *PAIRS)


@dataclass(frozen=True)
class Prompt:
    """What the model is asked: `messages` end before the answer; `reference` is the row's own answer; `adapter`, where
    there are several, the one that the row names."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    reference: str | None
    origin: Origin
    adapter: str | None = None


def read_prompts(specs: list[str], seed: int, adapters: Sequence[str] = ()) -> tuple[list[Prompt], dict[str, int]]:
    """The prompts of `--infer_dataset`, in order, and how often each field was left unread.

    Args:
        specs: files, folders or registered names, each with #N for N of its rows, drawn by `seed`.
        adapters: names of which a row's field `adapter` may hold one; without any that field is not read.

    Raises:
        UserError: a source that cannot be read, or a row without a prompt, naming its file and line.
    """
    prompts: list[Prompt] = []
    unread: Counter[str] = Counter()
    for source in [resolve(spec, "infer_dataset") for spec in specs]:
        for row, origin in _rows(source, seed):
            try:
                prompt, ignored = _read(row, origin, source.columns, adapters)
            except BadRow as error:
                expected = _EXPECTED if error.expected == EXPECTED else error.expected
                raise UserError(f"{origin}: {error.reason}; expected {expected}; fix it or take it out") from None
            prompts.append(prompt)
            unread.update(ignored)
    return prompts, dict(unread)


def _rows(source: Source, seed: int) -> Iterator[Record]:
    if source.count is None:
        return source.rows()
    records = list(source.rows())
    return iter([records[i] for i in take(len(records), source.count, seed)])


def _read(
    row: dict[str, Any] | Unreadable, origin: Origin, columns: Mapping[str, str], adapters: Sequence[str]
) -> tuple[Prompt, tuple[str, ...]]:
    if isinstance(row, Unreadable):
        raise BadRow("not readable", row.reason, "one row in the file's format")
    adapter = row.get("adapter") if adapters else None
    if adapters and "adapter" in row:
        row = {key: value for key, value in row.items() if key != "adapter"}
    if adapter is not None and adapter not in adapters:
        raise BadRow("unknown adapter", f"there is no adapter {adapter!r}", f"one of {', '.join(adapters)}")
    complete, pending = _completed(row, columns)
    converted = convert_row(complete, columns)
    if "messages" not in converted.content:
        raise BadRow("plain text", "it asks nothing", "a conversation or a question")
    *asked, answer = converted.content["messages"]
    reference = None
    if not pending:
        reference = (
            json.dumps(answer["tool_calls"], ensure_ascii=False) if "tool_calls" in answer else answer["content"]
        )
    # Which turns are trained means nothing here.
    messages = [{key: value for key, value in message.items() if key != "loss"} for message in asked]
    return Prompt(messages, converted.content.get("tools"), reference, origin, adapter), converted.ignored


def _completed(row: dict[str, Any], columns: Mapping[str, str]) -> tuple[dict[str, Any], bool]:
    """`row` with a stand-in where it has no answer, and whether it needed one."""
    names = {columns.get(key, key): key for key in row}
    turns_name = next((names[name] for name in TURN_LISTS if name in names), None)
    if turns_name is not None:
        turns = _parsed(row[turns_name])
        if not isinstance(turns, list) or (turns and _ends_on_answer(turns[-1])):
            return row, False
        return {**row, turns_name: [*turns, {"role": "assistant", "content": _PENDING}]}, True
    asks = [(ask, names.get(reply, reply)) for ask, reply in _ASKS if ask in names]
    if not asks or any(not _blank(row.get(reply)) for _, reply in asks):
        return row, False
    return {**row, asks[0][1]: _PENDING}, True


def _ends_on_answer(turn: Any) -> bool:
    """Whether a last turn is the assistant's; what is no turn at all is left to the data room to judge."""
    role = turn.get("role", turn.get("from")) if isinstance(turn, dict) else None
    return not isinstance(role, str) or ROLES.get(role) in ("assistant", "call", None)


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())

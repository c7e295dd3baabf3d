"""Checked values of a row: text, JSON written as text, nested JSON; and the error for a row that has none."""

import json
from typing import Any

EXPECTED = (
    "messages or conversations, instruction and output, query and response, question and answer, "
    "prompt and response or completion, or text (rename columns with --columns)"
)
# Deeper than any real tool schema, far from where templates and JSON writers run out of stack.
DEEPEST = 64


class BadRow(Exception):
    """A row that cannot be trained on: `kind` groups rows in the report, `reason` is about this one."""

    def __init__(self, kind: str, detail: str = "", expected: str = "") -> None:
        self.kind = kind
        self.reason = f"{kind}: {detail}" if detail else kind
        self.expected = expected or EXPECTED
        super().__init__(self.reason)


def wrong_type(detail: str, expected: str) -> BadRow:
    """The most frequent BadRow."""
    return BadRow("content of the wrong type", detail, expected)


def shown(value: Any) -> str:
    """`value` in at most 40 characters, for error sentences."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits; nested too deep
        return f"a {type(value).__name__}"
    return text if len(text) <= 40 else text[:37] + "..."


def is_unicode(text: str) -> bool:
    """False for half of a surrogate pair, which no tokenizer, file or terminal takes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def checked_text(value: Any, name: str, *, may_be_empty: bool = False) -> str:
    """`value`, which must be valid text, and not blank unless `may_be_empty`."""
    if not isinstance(value, str):
        raise wrong_type(f"{name} is {shown(value)}", "text")
    if not may_be_empty and not value.strip():
        raise BadRow("empty content", name, "text that is not blank")
    if not is_unicode(value):
        raise BadRow("broken text", f"{name} holds half of a surrogate pair", "valid Unicode")
    return value


def from_json(value: Any, name: str) -> Any:
    """Lists and objects arrive as JSON text from csv files and sharegpt rows; other values stay as they are."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        reason = str(error).encode("utf-8", "backslashreplace").decode()
        raise BadRow("JSON text that cannot be read", f"{name} ({reason})", "valid JSON") from None


def checked_json(value: Any, name: str) -> Any:
    """`value`, which must hold JSON values only (tool schemas, arguments), with valid text, not nested too deep."""
    open_values = [(value, 1)]
    while open_values:
        inner, depth = open_values.pop()
        if depth > DEEPEST:
            raise BadRow("nested too deep", f"{name} has over {DEEPEST} levels", "flatter data")
        if isinstance(inner, dict):
            for key in inner:
                checked_text(key, f"a key in {name}", may_be_empty=True)
            open_values += [(entry, depth + 1) for entry in inner.values()]
        elif isinstance(inner, list):
            open_values += [(entry, depth + 1) for entry in inner]
        elif isinstance(inner, str):
            checked_text(inner, name, may_be_empty=True)
        elif inner is not None and not isinstance(inner, (bool, int, float)):
            raise wrong_type(f"{name} holds {shown(inner)}", "JSON values")
    return value

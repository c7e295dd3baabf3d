"""Which turns and characters of a conversation weigh how much in the loss: the rules of --loss_scale."""

import re
from collections.abc import Iterator
from typing import Any, Literal

from swiftlite.chat.tokens import Span

LossScale = Literal["default", "last_round", "all", "react"]

# ms-swift's table for ReAct answers: keyword -> weight of the keyword, weight of what follows it up to the next one.
REACT = {
    "Action:": (2.0, 2.0),
    "Action Input:": (2.0, 2.0),
    "Thought:": (1.0, 1.0),
    "Final Answer:": (1.0, 1.0),
    "Observation:": (2.0, 0.0),
}
_KEYWORD = re.compile("|".join(map(re.escape, REACT)))


def is_trained(message: dict[str, Any]) -> bool:
    """Whether an assistant turn is trained on: always, unless it says `loss: false` (or 0)."""
    return message.get("loss") not in (False,)


def trained_turns(messages: list[dict[str, Any]], rule: LossScale) -> list[int]:
    """Indices of the assistant turns that are trained; under last_round only the last of all may be."""
    turns = [i for i, message in enumerate(messages) if message.get("role") == "assistant"]
    return [i for i in (turns[-1:] if rule == "last_round" else turns) if is_trained(messages[i])]


def answer_spans(text: str, start: int, end: int, rule: LossScale) -> Iterator[Span]:
    """The weights of an answer that stands at [start, end) of `text`."""
    if rule != "react":
        yield Span(start, end, 1.0)
        return
    weight = 1.0
    for keyword in _KEYWORD.finditer(text, start, end):
        yield Span(start, keyword.start(), weight)
        own, weight = REACT[keyword.group()]
        yield Span(keyword.start(), keyword.end(), own)
        start = keyword.end()
    yield Span(start, end, weight)

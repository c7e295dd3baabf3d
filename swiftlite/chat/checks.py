"""What is looked at before any training: that the mask is right, shown and checked on sample rows."""

from itertools import groupby
from typing import Any

from swiftlite.chat.encoded import Encoded
from swiftlite.chat.template import Template
from swiftlite.config.errors import UserError

GREEN, PLAIN = "\x1b[32m", "\x1b[0m"


def check_encoding(template: Template, encoded: Encoded, tokenizer: Any) -> None:
    """Check one encoded conversation.

    Raises:
        UserError: when no token is trained, no stop token is trained (the model would never learn to end its
            answer), or the beginning-of-text token comes twice.
    """
    trained = {i for i, weight in zip(encoded.ids, encoded.weights, strict=True) if weight}
    if not trained:
        rewritten = (
            f"; it rewrites {encoded.untrained_turns} of its answers (as by dropping their thoughts), which are then "
            "not what the model would say: choose another --template"
            if encoded.untrained_turns
            else ""
        )
        raise UserError(
            f"the template {template.name} trains no token of this conversation: it needs an assistant turn "
            f"whose loss is not false{rewritten}"
        )
    if trained.isdisjoint(template.stop_token_ids):
        stops = ", ".join(tokenizer.convert_ids_to_tokens(template.stop_token_ids)) or "none known"
        raise UserError(
            f"the template {template.name} trains no stop token (one of: {stops}), so the model would not "
            "learn to end its answer: choose another --template, or correct the tokenizer's chat_template or "
            "eos_token"
        )
    bos = tokenizer.bos_token_id
    if bos is not None and encoded.ids[:2] == [bos, bos]:
        raise UserError(
            f"the conversation starts with {tokenizer.bos_token} twice: take one out of the data or the chat template"
        )


def show_example(encoded: Encoded, tokenizer: Any, *, color: bool = True) -> str:
    """One row as text and as ids; what is trained is green, or with `color=False` between ⟦ and ⟧."""
    opening, closing = (GREEN, PLAIN) if color else ("⟦", "⟧")
    texts, numbers = [], []
    for trained, run in groupby(zip(encoded.ids, encoded.weights, strict=True), key=lambda pair: pair[1] > 0):
        ids = [i for i, _ in run]
        text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        number = " ".join(map(str, ids))
        texts.append(f"{opening}{text}{closing}" if trained else text)
        numbers.append(f"{opening}{number}{closing}" if trained else number)
    count = sum(weight > 0 for weight in encoded.weights)
    head = f"{len(encoded.ids)} tokens, {count} of them trained ({'green' if color else 'between ⟦ and ⟧'})"
    return f"{head}\ntext: {''.join(texts)}\nids: {' '.join(numbers)}"

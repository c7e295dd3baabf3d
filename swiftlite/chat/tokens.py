"""Token ids with true character offsets, straight from a tokenizer's backend, and the weights they get."""

import hashlib
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from swiftlite.config.errors import UserError

# Part of every fingerprint: raise it when the rules that decide ids or weights change.
RULE_VERSION = "1"

# Rows tokenised by one call of the backend; its results are large until they are read out.
ROWS_PER_CALL = 1000


class Span(NamedTuple):
    """Characters [start, end) of a text and the loss weight of the tokens that start among them."""

    start: int
    end: int
    weight: float


def backend_of(tokenizer: Any) -> Any:
    """The `tokenizers.Tokenizer` of a transformers tokenizer.

    Raises:
        UserError: for one written in Python, which cannot say where its tokens start.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(
            f"the tokenizer {type(tokenizer).__name__} has no fast backend, so the trained tokens cannot be "
            "located: convert it to a tokenizer.json first"
        )
    return backend


def backend_copy(tokenizer: Any, *, as_text: Collection[str] | None = None, at_start: bool = True) -> Any:
    """A `tokenizers.Tokenizer` that shares the vocabulary of `tokenizer` and leaves its settings alone.

    It has no truncation or padding and no post-processor: nothing adds a BOS, and offsets cover the whole
    token (the ByteLevel post-processor of Llama-3 trims them: the start of " word" moves behind the space).

    Args:
        as_text: given, special tokens are not looked for in the text: `<|im_end|>` is encoded as ten plain
            characters. These added tokens count as special too, whatever the tokenizer says of them.
        at_start: False for text that follows a special token; sentencepiece-style tokenizers then put no
            space before the first word.

    Raises:
        UserError: for a tokenizer without such a backend.
    """
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import Metaspace

    original = backend_of(tokenizer)
    copy = Tokenizer(original.model)
    if original.normalizer is not None:
        copy.normalizer = original.normalizer
    split = original.pre_tokenizer
    if isinstance(split, Metaspace) and split.prepend_scheme == "first" and not at_start:
        split = Metaspace(replacement=split.replacement, prepend_scheme="never", split=split.split)
    if split is not None:
        copy.pre_tokenizer = split
    added = original.get_added_tokens_decoder()
    copy.add_tokens([_marked(added[i], as_text or ()) for i in sorted(added)])
    moved = [str(token) for i, token in added.items() if copy.token_to_id(token.content) != i]
    if moved:
        raise UserError(f"the tokenizer's added token {moved[0]} cannot keep its id: repair its tokenizer.json")
    copy.encode_special_tokens = as_text is not None
    return copy


def _marked(token: Any, special: Collection[str]) -> Any:
    from tokenizers import AddedToken

    return AddedToken(
        token.content,
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized,
        special=token.special or token.content in special,
    )


def special_token_ids(tokenizer: Any) -> set[int]:
    """Ids of the control tokens: every added token marked special, and EOS."""
    added = backend_of(tokenizer).get_added_tokens_decoder()
    found = {i for i, token in added.items() if token.special}
    return found | ({tokenizer.eos_token_id} - {None})


def digest(backend: Any, *parts: str) -> str:
    """16 hex digits over a backend's vocabulary and rules, `parts`, and RULE_VERSION."""
    state = hashlib.sha256()
    for part in (backend.to_str(), *parts, RULE_VERSION):
        state.update(hashlib.sha256(part.encode("utf-8", "surrogatepass")).digest())
    return state.hexdigest()[:16]


def starts_of(encoding: Any) -> list[int]:
    """The character at which each token of a backend's encoding starts; never decreasing."""
    return [start for start, _ in encoding.offsets]


def weigh(starts: Sequence[int], spans: Iterable[Span]) -> list[float]:
    """The weight of each token; one that straddles a border belongs to the span it starts in."""
    weights = [0.0] * len(starts)
    for span in spans:
        first, last = bisect_left(starts, span.start), bisect_left(starts, span.end)
        weights[first:last] = [span.weight] * (last - first)
    return weights


def is_trained(message: dict[str, Any]) -> bool:
    """Whether an assistant turn is trained on: always, unless it says `loss: false` (or 0)."""
    return message.get("loss") not in (False,)

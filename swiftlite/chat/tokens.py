"""Token ids with true character offsets, straight from a tokenizer's backend, and the weights they get."""

import hashlib
import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from swiftlite.config.errors import UserError

# Part of every fingerprint: raise it when the rules that decide ids or weights change.
RULE_VERSION = "2"

# Rows tokenised by one call of the backend; its results are large until they are read out.
ROWS_PER_CALL = 1000

# Tags that a model writes inside its answers: text to us, whatever the tokenizer says of them.
ANSWER_TAGS = re.compile(r"think|tool_call", re.IGNORECASE)


class Span(NamedTuple):
    """Characters [start, end) of a text and the loss weight of the tokens that start among them."""

    start: int
    end: int
    weight: float


class Backends:
    """Three copies of a tokenizer's backend.

    Attributes:
        whole: reads special tokens in the text.
        first, inner: do not: `<|im_end|>` is ten plain characters. `inner` is for text after a special token,
            where sentencepiece-style tokenizers put no space before the first word.
    """

    def __init__(self, tokenizer: Any, control: Collection[str]) -> None:
        self.whole = backend_copy(tokenizer)
        self.first = backend_copy(tokenizer, as_text=control)
        self.inner = backend_copy(tokenizer, as_text=control, at_start=False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A pickled backend forgets this switch, and a worker process would read typed special tokens as real.
        self.__dict__.update(state)
        self.first.encode_special_tokens = self.inner.encode_special_tokens = True


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
        special=(token.special and not ANSWER_TAGS.search(token.content)) or token.content in special,
    )


def control_tokens(tokenizer: Any, written: Collection[str] = ()) -> dict[str, int]:
    """Text and id of the tokens that only a template may write: special ones, EOS and those in `written`."""
    added = backend_of(tokenizer).get_added_tokens_decoder()
    return {
        token.content: i
        for i, token in added.items()
        if (token.special or i == tokenizer.eos_token_id or token.content in written)
        and not ANSWER_TAGS.search(token.content)
    }


def any_of(names: Iterable[str]) -> re.Pattern[str]:
    """A pattern of any of `names`, the longest that fits; of nothing when there are none."""
    return re.compile("|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)) or r"(?!)")


def encode_mixed(
    backends: Backends, control: Mapping[str, int], text: str, typed: list[tuple[int, int]]
) -> tuple[list[int], list[int]]:
    """Ids of `text`, and the character each starts at, with the control tokens at `typed` read as plain text.

    What lies between two real control tokens is encoded in one go, as a piece template does.

    Raises:
        UserError: the vocabulary makes a control token even of its plain characters.
    """
    reserved = set(control.values())
    borders = _borders(backends, control, text, typed)
    ids: list[int] = []
    starts: list[int] = []

    def add(backend: Any, begin: int, end: int) -> None:
        encoding = backend.encode(text[begin:end], add_special_tokens=False)
        ids.extend(encoding.ids)
        starts.extend(begin + start for start in starts_of(encoding))
        if backend is not backends.whole and not reserved.isdisjoint(encoding.ids):
            raise UserError(
                f"a special token is typed into the text ({text[typed[0][0] : typed[0][1]]}) and the tokenizer has "
                "no other way to write it: take it out of the data"
            )

    done = 0
    for begin, end in typed:
        if end <= done:
            continue
        left = max((e for _, e in borders if e <= begin), default=0)
        right = min((s for s, _ in borders if s >= end), default=len(text))
        if left > done:
            add(backends.whole, done, left)
        add(backends.inner if left else backends.first, left, right)
        done = right
    if done < len(text):
        add(backends.whole, done, len(text))
    return ids, starts


def _borders(
    backends: Backends, control: Mapping[str, int], text: str, typed: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Where the real control tokens stand, with the white space that some of them swallow."""
    added = {i: backends.whole.get_added_tokens_decoder()[i] for i in control.values()}
    encoding = backends.whole.encode(text, add_special_tokens=False)
    found = []
    for number, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
        if number not in added or any(start < e and s < end for s, e in typed):
            continue
        if added[number].lstrip:
            start = len(text[:start].rstrip())
        if added[number].rstrip:
            end = len(text) - len(text[end:].lstrip())
        found.append((start, end))
    return found


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
    """The weight of each token; one that straddles a border belongs to the span it starts in, the last such."""
    weights = [0.0] * len(starts)
    for span in spans:
        first, last = bisect_left(starts, span.start), bisect_left(starts, span.end)
        weights[first:last] = [span.weight] * (last - first)
    return weights

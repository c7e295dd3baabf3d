"""Our own templates: ids and loss weights from a chat format given as pieces of text."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from swiftlite.chat.encoded import Encoded
from swiftlite.chat.formats import Pieces, jinja_text
from swiftlite.chat.tokens import (
    ROWS_PER_CALL,
    Span,
    backend_copy,
    backend_of,
    digest,
    is_trained,
    starts_of,
    weigh,
)
from swiftlite.config.errors import UserError


class Part(NamedTuple):
    """A special token (`token_id` set, `text` its name) or text, and the weight of its tokens."""

    token_id: int | None
    text: str
    weight: float


class Segment(NamedTuple):
    """The text between two special tokens, tokenised in one go."""

    text: str
    at_start: bool
    spans: tuple[Span, ...]


class PieceTemplate:
    """A `Template` made of `Pieces`.

    Text between special tokens is tokenised once and never parsed for special tokens, so `<|im_end|>` typed
    by a user stays text. Ids equal the tokenizer's own for the same rendering; the constructor tries it.

    Raises:
        UserError: when a special token is missing or the tokenizer splits the rendering in another way, and,
            on encoding, for messages that the pieces cannot write.
    """

    def __init__(self, name: str, pieces: Pieces, tokenizer: Any) -> None:
        self.name = name
        self.pieces = pieces
        self._ids = _special_ids(name, pieces, tokenizer)
        self._prefix = self._compile(pieces.prefix)
        self._system = None
        if pieces.system_prefix is not None:
            self._system = self._around(pieces.system_prefix, "{system}")
        self._prompt = self._around(pieces.prompt, "{query}")
        self._response_prefix = self._compile(pieces.response_prefix)
        self._chat_sep = self._ending("chat_sep", pieces.chat_sep)
        self._suffix = self._ending("suffix", pieces.suffix)
        if pieces.default_system is not None and self._system is None:
            raise UserError(f"the template {name} has no place for a system prompt: leave out --system")
        stop = next(part.token_id for part in self._suffix[1.0] if part.token_id is not None)
        self.stop_token_ids = list(dict.fromkeys(i for i in (stop, tokenizer.eos_token_id) if i is not None))
        self._first = backend_copy(tokenizer, as_text=self._ids)
        self._inner = backend_copy(tokenizer, as_text=self._ids, at_start=False)
        whole = backend_copy(tokenizer)
        self.fingerprint = digest(whole, repr(pieces))
        self._compare_with(whole)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A pickled backend forgets this switch, and a worker process would read typed special tokens as real.
        self.__dict__.update(state)
        self._first.encode_special_tokens = self._inner.encode_special_tokens = True

    def encode(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        *,
        for_generation: bool = False,
    ) -> Encoded:
        """Ids and weights of one conversation.

        With `for_generation` it must end on a user turn; the assistant's header is added, all weights are 0.
        """
        return self._encode([self._parts(messages, tools, for_generation)])[0]

    def encode_batch(self, conversations: list[dict[str, Any]]) -> list[Encoded]:
        """`encode` of each conversation (`messages`, optional `tools`), with far fewer tokenizer calls."""
        encoded: list[Encoded] = []
        for first in range(0, len(conversations), ROWS_PER_CALL):
            rows = conversations[first : first + ROWS_PER_CALL]
            encoded += self._encode([self._parts(row["messages"], row.get("tools"), False) for row in rows])
        return encoded

    def render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        *,
        for_generation: bool = False,
    ) -> str:
        """The conversation as text, special tokens by name."""
        return "".join(part.text for part in self._parts(messages, tools, for_generation))

    def jinja(self) -> str:
        """A chat_template that renders the same text in plain transformers."""
        return jinja_text(self.pieces)

    def _compile(self, piece: str, weight: float = 0.0) -> list[Part]:
        if not self._ids:
            return [Part(None, piece, weight)] if piece else []
        names = "|".join(re.escape(name) for name in sorted(self._ids, key=len, reverse=True))
        texts = [text for text in re.split(f"({names})", piece) if text]
        return [Part(self._ids.get(text), text, weight) for text in texts]

    def _around(self, piece: str, slot: str) -> tuple[list[Part], list[Part]]:
        if piece.count(slot) != 1:
            raise UserError(f"the template {self.name}: the piece {piece!r} needs {slot} exactly once")
        before, after = piece.split(slot)
        return self._compile(before), self._compile(after)

    def _ending(self, which: str, piece: str) -> dict[float, list[Part]]:
        """What follows an assistant turn, for a turn of weight 1 and of weight 0."""
        parts = self._compile(piece)
        stop = next((i for i, part in enumerate(parts) if part.token_id is not None), None)
        if stop is None:
            raise UserError(f"the template {self.name}: {which} {piece!r} holds no stop token")
        trained = [part._replace(weight=1.0) for part in parts[: stop + 1]]
        return {1.0: trained + parts[stop + 1 :], 0.0: parts}

    def _parts(self, messages: list[dict[str, Any]], tools: Any, for_generation: bool) -> list[Part]:
        if tools:
            raise UserError(f"the template {self.name} has no form for tools: use --template tokenizer")
        system, turns = self._split(messages)
        if system is None:
            parts = list(self._prefix)
        elif self._system is None:
            raise UserError(f"message 1: the template {self.name} has no place for a system prompt")
        else:
            parts = [*self._system[0], Part(None, system, 0.0), *self._system[1]]
        for i, message in enumerate(turns):
            content = self._content(message, "assistant" if i % 2 else "user", len(messages) - len(turns) + i)
            if i % 2 == 0:
                parts += [*self._prompt[0], Part(None, content, 0.0), *self._prompt[1]]
                continue
            weight = 1.0 if is_trained(message) and not for_generation else 0.0
            ending = self._suffix if i + 1 == len(turns) else self._chat_sep
            parts += [*self._response_prefix, Part(None, content, weight), *ending[weight]]
        if for_generation:
            if len(turns) % 2 == 0:
                raise UserError("the conversation must end on a user turn for the model to answer it")
            parts += self._response_prefix
        return parts

    def _split(self, messages: list[dict[str, Any]]) -> tuple[str | None, list[dict[str, Any]]]:
        if not messages:
            raise UserError("the conversation has no messages")
        if messages[0].get("role") == "system":
            return self._content(messages[0], "system", 0), messages[1:]
        return self.pieces.default_system, messages

    def _content(self, message: dict[str, Any], role: str, index: int) -> str:
        where = f"message {index + 1}"
        if message.get("role") != role:
            raise UserError(
                f"{where} has the role {message.get('role')!r} where the template {self.name} needs "
                f"{role!r}: a system prompt or none, then user and assistant by turns (--template tokenizer "
                "may take others)"
            )
        if message.get("tool_calls"):
            raise UserError(f"{where}: {self.name} has no form for tool_calls: use --template tokenizer")
        content = message.get("content")
        if not isinstance(content, str):
            raise UserError(f"{where}: content is {type(content).__name__}, expected text")
        return content

    def _encode(self, rows: list[list[Part]]) -> list[Encoded]:
        plans = [list(_segments(parts)) for parts in rows]
        texts = {(s.text, s.at_start) for plan in plans for s in plan if isinstance(s, Segment)}
        encodings: dict[tuple[str, bool], Any] = {}
        for backend, at_start in ((self._first, True), (self._inner, False)):
            group = [key for key in texts if key[1] == at_start]
            found = backend.encode_batch([text for text, _ in group], add_special_tokens=False)
            encodings.update(zip(group, found, strict=True))
        return [self._assemble(plan, encodings) for plan in plans]

    def _assemble(self, plan: list[Part | Segment], encodings: dict[tuple[str, bool], Any]) -> Encoded:
        ids: list[int] = []
        weights: list[float] = []
        for item in plan:
            if isinstance(item, Part):
                assert item.token_id is not None, "a plan holds text only as segments"
                ids.append(item.token_id)
                weights.append(item.weight)
                continue
            encoding = encodings[item.text, item.at_start]
            ids += encoding.ids
            if item.spans:
                weights += weigh(starts_of(encoding), item.spans)
            else:
                weights += [0.0] * len(encoding)
        return Encoded(ids, weights)

    def _compare_with(self, whole: Any) -> None:
        """Refuse a tokenizer that splits the rendered text in another way, as by stripping at specials."""
        if any(number is not None for number in self.pieces.specials.values()):
            return  # These control tokens have no text that the tokenizer could read.
        user, answer = " Is it\n so?\n", " Yes, it is. "
        probe = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}] * 2
        if self._system is not None:
            probe.insert(0, {"role": "system", "content": "Be brief.\n"})
        if self.encode(probe).ids != whole.encode(self.render(probe), add_special_tokens=False).ids:
            raise UserError(
                f"the template {self.name} does not fit this tokenizer, which treats text next to special "
                "tokens in its own way: use --template tokenizer"
            )


def missing_specials(pieces: Pieces, tokenizer: Any) -> list[str]:
    """The special tokens of `pieces` that are no added token of the tokenizer."""
    added = {token.content for token in backend_of(tokenizer).get_added_tokens_decoder().values()}
    return [name for name, number in pieces.specials.items() if number is None and name not in added]


def _special_ids(name: str, pieces: Pieces, tokenizer: Any) -> dict[str, int]:
    missing = missing_specials(pieces, tokenizer)
    if missing:
        raise UserError(
            f"the template {name} needs the special token {', '.join(missing)}, which the tokenizer lacks: "
            "choose --template tokenizer (its own chat template) or the template of this model's family"
        )
    backend = backend_of(tokenizer)
    return {text: backend.token_to_id(text) if i is None else i for text, i in pieces.specials.items()}


def _segments(parts: list[Part]) -> Iterator[Part | Segment]:
    """Join neighbouring text; text at the very start of the row is marked, some tokenizers treat it apart."""
    text, spans, at_start = "", [], True
    for part in parts:
        if part.token_id is None:
            if part.weight:
                spans.append(Span(len(text), len(text) + len(part.text), part.weight))
            text += part.text
            continue
        if text:
            yield Segment(text, at_start, tuple(spans))
            text, spans = "", []
        yield part
        at_start = False
    if text:
        yield Segment(text, at_start, tuple(spans))

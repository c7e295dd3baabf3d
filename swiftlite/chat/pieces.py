"""Our own templates: ids and loss weights from a chat format given as pieces of text."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from swiftlite.chat import hermes
from swiftlite.chat.encoded import Encoded
from swiftlite.chat.formats import Pieces, jinja_text
from swiftlite.chat.loss_scale import LossScale, answer_spans, is_trained, trained_turns
from swiftlite.chat.specials import resolve_pieces, special_ids
from swiftlite.chat.tokens import (
    ROWS_PER_CALL,
    Backends,
    Span,
    any_of,
    control_tokens,
    digest,
    starts_of,
    weigh,
)
from swiftlite.config.errors import UserError

Message = dict[str, Any]


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


class Written(NamedTuple):
    """A conversation in parts, and the two counts of `Encoded`."""

    parts: list[Part]
    untrained_turns: int
    special_in_text: int


class PieceTemplate:
    """A `Template` made of `Pieces`.

    Text between special tokens is tokenised once and never parsed for special tokens, so `<|im_end|>` typed
    by a user stays text. Ids equal the tokenizer's own for the same rendering; the constructor tries it.

    Args:
        loss_scale: see `ChatConfig`.

    Raises:
        UserError: when a special token is missing or the tokenizer splits the rendering in another way, and,
            on encoding, for messages that the pieces cannot write.
    """

    def __init__(self, name: str, pieces: Pieces, tokenizer: Any, loss_scale: LossScale = "default") -> None:
        self.name = name
        pieces = resolve_pieces(name, pieces, tokenizer)
        self.pieces = pieces
        self._loss_scale = loss_scale
        self._ids = special_ids(name, pieces, tokenizer)
        self._prefix = self._compile(pieces.prefix)
        self._system = None
        if pieces.system_prefix is not None:
            self._system = self._around(pieces.system_prefix, "{system}")
        self._prompt = self._around(pieces.prompt, "{query}")
        self._response_prefix = self._compile(pieces.response_prefix)
        self._chat_sep, _ = self._ending(pieces.chat_sep)
        self._suffix, stop = self._ending(pieces.suffix)
        if stop is None:
            raise UserError(f"the template {name}: the suffix {pieces.suffix!r} holds no stop token")
        self.notes = []
        if pieces.default_system is not None:
            if self._system is None:
                raise UserError(f"the template {name} has no place for a system prompt: leave out --system")
            self.notes.append(f"conversations without a system prompt get: {pieces.default_system}")
        self.stop_token_ids = list(dict.fromkeys(i for i in (stop, tokenizer.eos_token_id) if i is not None))
        self._backends = Backends(tokenizer, self._ids)
        self._typed = any_of(control_tokens(tokenizer, self._ids))
        self.fingerprint = digest(self._backends.whole, repr(pieces), loss_scale)
        self._compare_with_whole()

    def encode(
        self,
        messages: list[Message],
        tools: list[dict[str, Any]] | None = None,
        *,
        for_generation: bool = False,
    ) -> Encoded:
        """Ids and weights of one conversation.

        With `for_generation` it must end on a user turn; the assistant's header is added, all weights are 0.
        """
        return self._encode([self._write(messages, tools, for_generation)])[0]

    def encode_batch(self, conversations: list[dict[str, Any]]) -> list[Encoded]:
        """`encode` of each conversation (`messages`, optional `tools`), with far fewer tokenizer calls."""
        encoded: list[Encoded] = []
        for first in range(0, len(conversations), ROWS_PER_CALL):
            rows = conversations[first : first + ROWS_PER_CALL]
            encoded += self._encode([self._write(row["messages"], row.get("tools"), False) for row in rows])
        return encoded

    def render(
        self,
        messages: list[Message],
        tools: list[dict[str, Any]] | None = None,
        *,
        for_generation: bool = False,
    ) -> str:
        """The conversation as text, special tokens by name."""
        return "".join(part.text for part in self._write(messages, tools, for_generation).parts)

    def jinja(self) -> str:
        """A chat_template that renders the same text in plain transformers."""
        return jinja_text(self.pieces)

    def _compile(self, piece: str) -> list[Part]:
        if not self._ids:
            return [Part(None, piece, 0.0)] if piece else []
        texts = [text for text in re.split(f"({any_of(self._ids).pattern})", piece) if text]
        return [Part(self._ids.get(text), text, 0.0) for text in texts]

    def _around(self, piece: str, slot: str) -> tuple[list[Part], list[Part]]:
        if piece.count(slot) != 1:
            raise UserError(f"the template {self.name}: the piece {piece!r} needs {slot} exactly once")
        before, after = piece.split(slot)
        return self._compile(before), self._compile(after)

    def _ending(self, piece: str) -> tuple[dict[bool, list[Part]], int | None]:
        """What follows an assistant turn, for one that is trained and one that is not, and its stop token."""
        parts = self._compile(piece)
        stop = next((i for i, part in enumerate(parts) if part.token_id is not None), None)
        if stop is None:
            return {True: parts, False: parts}, None
        trained = [part._replace(weight=1.0) for part in parts[: stop + 1]]
        return {True: trained + parts[stop + 1 :], False: parts}, parts[stop].token_id

    def _write(self, messages: list[Message], tools: Any, for_generation: bool) -> Written:
        system, turns = self._read(messages, tools)
        trained = set() if for_generation else set(trained_turns(messages, self._loss_scale))
        all_of_it = self._loss_scale == "all" and not for_generation
        typed = len(self._typed.findall(system or "")) + sum(len(self._typed.findall(text)) for _, text in turns)
        untrained = 0
        parts = list(self._prefix)
        if system is not None:
            assert self._system is not None, "checked when the messages were read"
            parts = [*self._system[0], Part(None, system, 0.0), *self._system[1]]
        parts = _lifted(parts, all_of_it)
        for i, (index, text) in enumerate(turns):
            if i % 2 == 0:
                parts += _lifted([*self._prompt[0], Part(None, text, 0.0), *self._prompt[1]], all_of_it)
                continue
            last = i + 1 == len(turns)
            said = text
            if self.pieces.thinking and not last:
                said = text.split("</think>")[-1]
            learned = index in trained and said == text
            untrained += index in trained and not learned
            answer = self._answer(said, learned, last)
            parts += _lifted(answer, all_of_it and is_trained(messages[index]))
        if for_generation:
            if len(turns) % 2 == 0:
                raise UserError("the conversation must end on a user turn for the model to answer it")
            parts += [*self._response_prefix, *self._compile(self.pieces.generation)]
        return Written(parts, 0 if all_of_it else untrained, typed)

    def _answer(self, said: str, trained: bool, last: bool) -> list[Part]:
        ending = (self._suffix if last else self._chat_sep)[trained]
        opening = Part(None, self.pieces.opening, float(trained))
        if not trained:
            return [*self._response_prefix, opening, Part(None, said, 0.0), *ending]
        spans = answer_spans(said, 0, len(said), self._loss_scale)
        body = [Part(None, said[span.start : span.end], span.weight) for span in spans]
        return [*self._response_prefix, opening, *body, *ending]

    def _read(self, messages: list[Message], tools: Any) -> tuple[str | None, list[tuple[int, str]]]:
        """The system prompt, and the texts of the user and the assistant by turns, with their index."""
        if not messages:
            raise UserError("the conversation has no messages")
        turns = list(enumerate(messages))
        system = self.pieces.default_system
        if messages[0].get("role") == "system":
            if self._system is None:
                raise UserError(f"message 1: the template {self.name} has no place for a system prompt")
            system, turns = self._text(messages[0], "system", 0), turns[1:]
        elif system is not None and "system" in self.pieces.trim:
            system = system.strip()
        if self.pieces.tools:
            system, turns = hermes.with_tools(system, tools), hermes.plain_turns(turns)
        elif tools:
            raise UserError(f"the template {self.name} has no form for tools: use --template tokenizer or chatml")
        return system, [
            (index, self._text(message, "assistant" if i % 2 else "user", index))
            for i, (index, message) in enumerate(turns)
        ]

    def _text(self, message: Message, role: str, index: int) -> str:
        where = f"message {index + 1}"
        if message.get("role") != role:
            raise UserError(
                f"{where} has the role {message.get('role')!r} where the template {self.name} needs "
                f"{role!r}: a system prompt or none, then user and assistant by turns (--template tokenizer "
                "may take others)"
            )
        if message.get("tool_calls"):
            raise UserError(f"{where}: {self.name} has no form for tool_calls: use --template tokenizer or chatml")
        content = message.get("content")
        if not isinstance(content, str):
            raise UserError(f"{where}: content is {type(content).__name__}, expected text")
        thought = message.get("reasoning_content")
        if thought:
            if not self.pieces.thinking:
                raise UserError(f"{where}: {self.name} has no form for reasoning_content: use --template tokenizer")
            content = f"<think>\n{thought}\n</think>\n\n{content}"
        return content.strip() if role in self.pieces.trim else content

    def _encode(self, rows: list[Written]) -> list[Encoded]:
        plans = [list(_segments(row.parts)) for row in rows]
        texts = {(s.text, s.at_start) for plan in plans for s in plan if isinstance(s, Segment)}
        encodings: dict[tuple[str, bool], Any] = {}
        for backend, at_start in ((self._backends.first, True), (self._backends.inner, False)):
            group = [key for key in texts if key[1] == at_start]
            found = backend.encode_batch([text for text, _ in group], add_special_tokens=False)
            encodings.update(zip(group, found, strict=True))
        return [self._assemble(plan, encodings, row) for plan, row in zip(plans, rows, strict=True)]

    def _assemble(self, plan: list[Part | Segment], encodings: dict[tuple[str, bool], Any], row: Written) -> Encoded:
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
        return Encoded(ids, weights, row.untrained_turns, row.special_in_text)

    def _compare_with_whole(self) -> None:
        """Refuse a tokenizer that splits the rendered text in another way, as by stripping at specials."""
        added = self._backends.whole.get_added_tokens_decoder()
        if any(number not in added or added[number].content != name for name, number in self._ids.items()):
            return  # These control tokens have no text that the tokenizer could read.
        user, answer = " Is it\n so?\n", " Yes, it is. "
        probe = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}] * 2
        if self._system is not None:
            probe.insert(0, {"role": "system", "content": "Be brief.\n"})
        if self.encode(probe).ids != self._backends.whole.encode(self.render(probe), add_special_tokens=False).ids:
            raise UserError(
                f"the template {self.name} does not fit this tokenizer, which treats text next to special "
                "tokens in its own way: use --template tokenizer"
            )


def _lifted(parts: list[Part], lift: bool) -> list[Part]:
    """`parts`, all of them trained if `lift` says so."""
    return [part._replace(weight=1.0) for part in parts] if lift else parts


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

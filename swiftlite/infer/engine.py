"""The one place where a model is asked: conversations in, answers out, whole or in pieces."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from swiftlite.config.errors import UserError
from swiftlite.config.options import closest
from swiftlite.infer.config import InferConfig
from swiftlite.infer.loading import Loaded, load_parts
from swiftlite.infer.sampling import Answer, Sampling
from swiftlite.infer.stopping import Stops, first_stop
from swiftlite.infer.streaming import AnswerStream, TextAssembler
from swiftlite.models.source import BASE

Message = dict[str, Any]
Tools = list[dict[str, Any]]


class Engine:
    """A loaded model that answers conversations through transformers' `generate`.

    Of several adapters, `adapter` answers unless a request names another; `base` is none of them.

    Draws come from torch's global generator: `torch.manual_seed` before a request repeats it.
    """

    def __init__(self, loaded: Loaded):
        self.model = loaded.model
        self.tokenizer = loaded.tokenizer
        self.template = loaded.template
        self.stop_ids = loaded.stop_ids
        self.adapters = loaded.adapters
        self.adapter = loaded.adapters[0] if loaded.adapters else None
        self.context = loaded.context
        self.pads = loaded.pads
        self.header = loaded.header

    @classmethod
    def load(cls, config: InferConfig) -> "Engine":
        """The model that `config` names, ready to answer.

        Raises:
            UserError: it cannot be found, does not fit together, or cannot run here.
        """
        return cls(load_parts(config))

    def choose_adapter(self, name: str) -> str:
        """Has that adapter answer from here on; returns what to say of it. Without a name, only the latter."""
        if not self.adapters:
            return "(there are not several adapters to choose from; --adapters A B loads them)"
        known = [*self.adapters, BASE]
        if name and name not in known:
            return f"no adapter {name}{closest(name, known)} There are: {', '.join(known)}"
        self.adapter = name or self.adapter
        return f"({self.adapter} answers; there are: {', '.join(known)})"

    def encode(self, messages: list[Message], tools: Tools | None = None) -> list[int]:
        """The prompt's token ids, up to and with the assistant's header.

        Raises:
            UserError: the template cannot write it, or the model has no room left for an answer.
        """
        ids = self.template.encode(messages, tools, for_generation=True).ids
        if not ids:
            raise UserError("the prompt is empty")
        if self.context is not None and len(ids) >= self.context:
            raise UserError(
                f"the prompt has {len(ids)} tokens, and the model has room for {self.context} with its answer; "
                "shorten it"
            )
        return ids

    def generate(
        self,
        conversations: Sequence[list[Message]],
        sampling: Sampling,
        tools: Sequence[Tools | None] | None = None,
        adapters: Sequence[str | None] | None = None,
    ) -> list[Answer]:
        """Answers to all conversations, computed as one batch, or as one for each adapter.

        Where the model cannot pad (behind learned tokens), also as one for each length of prompts.

        An answer also ends (`length`) where the model's positions do, before `max_new_tokens`.

        Args:
            tools: for each conversation, the tools its prompt describes.
            adapters: for each conversation, which of several adapters answers; None: `adapter`.

        Raises:
            UserError: a conversation that cannot be answered, or a batch that does not fit the GPU's memory.
        """
        tools = tools or [None] * len(conversations)
        prompts = [self.encode(*pair) for pair in zip(conversations, tools, strict=True)]
        names = [name or self.adapter for name in adapters or [None] * len(prompts)]
        # What can be one batch.
        kinds = [(name, 0 if self.pads else len(prompt)) for name, prompt in zip(names, prompts, strict=True)]
        found: dict[int, Answer] = {}
        for kind in dict.fromkeys(kinds):
            places = [place for place, its_kind in enumerate(kinds) if its_kind == kind]
            with self._active(kind[0]):
                answers = self._answers([prompts[place] for place in places], sampling, None, threading.Event())
            found |= dict(zip(places, answers, strict=True))
        return [found[place] for place in range(len(prompts))]

    def stream(self, messages: list[Message], sampling: Sampling, tools: Tools | None = None) -> AnswerStream:
        """One answer in pieces of text; after the last, the stream's `answer` holds the whole.

        Raises:
            UserError: here or while the pieces come, as `generate` does.
        """
        prompt = self.encode(messages, tools)

        def generate(streamer: BaseStreamer, cancelled: threading.Event) -> Answer:
            with self._active(self.adapter):
                return self._answers([prompt], sampling, streamer, cancelled)[0]

        return AnswerStream(generate, TextAssembler(self._decode, self.stop_ids, sampling.stop))

    @contextlib.contextmanager
    def _active(self, adapter: str | None) -> Iterator[None]:
        """With that one of several adapters; None: there are not several."""
        if adapter == BASE:
            with self.model.disable_adapter():
                yield
            return
        if adapter is not None:
            self.model.set_adapter(adapter)
        yield

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(  # pyrefly: ignore
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def _answers(
        self,
        prompts: list[list[int]],
        sampling: Sampling,
        streamer: BaseStreamer | None,
        cancelled: threading.Event,
    ) -> list[Answer]:
        ids, mask = _pad_left(prompts)
        room = [sampling.max_new_tokens if self.context is None else self.context - len(p) for p in prompts]
        limits = [min(sampling.max_new_tokens, r) for r in room]
        stops = Stops(ids.shape[1], limits, sampling.stop, self._decode, cancelled, self.model.device)
        # What fills up an ended row is never read; no prompt ends in a stop token, so none is taken for padded.
        filler = self.stop_ids[0] if self.stop_ids else 0
        settings = sampling.to_generation_config(self.stop_ids, filler, max_new_tokens=max(limits))
        try:
            with torch.inference_mode():
                output = self.model.generate(
                    input_ids=ids.to(self.model.device),
                    attention_mask=mask.to(self.model.device),
                    generation_config=settings,
                    stopping_criteria=StoppingCriteriaList([stops]),
                    streamer=streamer,
                )
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"{len(prompts)} answers of up to {max(limits)} tokens, after prompts of up to {ids.shape[1]}, do "
                "not fit the GPU's memory; lower --infer_batch_size or --max_new_tokens"
            ) from error
        rows = output[:, ids.shape[1] :].tolist()
        return [self._answer(row[:n], end, sampling) for row, n, end in zip(rows, limits, stops.ends, strict=True)]

    def _answer(self, ids: list[int], end: int | None, sampling: Sampling) -> Answer:
        """One row's generated ids, up to its limit; `end`: where a stop text was complete."""
        ended = end is not None
        ids = ids[:end]
        tokens = len(ids)
        stop = next((at for at, token in enumerate(ids) if token in self.stop_ids), None)
        if stop is not None:
            ids, tokens, ended = ids[:stop], stop + 1, True
        text = self._decode(ids)
        return Answer(text[: first_stop(text, sampling.stop)], tokens, "stop" if ended else "length")


def _pad_left(prompts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask, both (batch, longest).

    The mask goes by length, since a pad token may also occur in a text. A row is filled up with its own first
    token: a repetition penalty then sees the same set of tokens as without padding.
    """
    longest = max(map(len, prompts))
    ids = [[prompt[0]] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids), torch.tensor(mask)

"""When each answer of a batch ends besides at a stop token: its own limit, a stop text, an interruption."""

import threading
from collections.abc import Callable, Sequence

import torch
from transformers import StoppingCriteria


class Stops(StoppingCriteria):
    """Ends rows of a running `generate`.

    Only generated tokens are searched for stop texts: a prompt that ends in one does not end its answer.

    Args:
        prompt_length: tokens before the first generated one, padding included.
        limits: (batch,) tokens that each row may generate.
        texts: texts that end a row.
        decode: token ids to text.
        cancelled: when it is set, every row ends.

    Attributes:
        ends: for each row, the number of tokens generated when a stop text was complete; None: not yet.
    """

    def __init__(
        self,
        prompt_length: int,
        limits: list[int],
        texts: Sequence[str],
        decode: Callable[[list[int]], str],
        cancelled: threading.Event,
        device: torch.device,
    ):
        self.ends: list[int | None] = [None] * len(limits)
        self._prompt_length = prompt_length
        self._limits = torch.tensor(limits, device=device)
        self._texts = texts
        self._decode = decode
        self._cancelled = cancelled
        # A token adds a byte at least; one more, since some decoders strip the space the first one begins with.
        self._window = max((len(text.encode()) for text in texts), default=0) + 1

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **_: object) -> torch.BoolTensor:
        generated = input_ids.shape[1] - self._prompt_length
        done = self._limits <= generated
        if self._texts:
            self._search(input_ids[:, -min(self._window, generated) :].tolist(), generated)
            done |= torch.tensor([end is not None for end in self.ends], device=done.device)
        if self._cancelled.is_set():
            done.fill_(True)
        return done  # pyrefly: ignore

    def _search(self, tails: list[list[int]], generated: int) -> None:
        for row, tail in enumerate(tails):
            if self.ends[row] is None:
                text = self._decode(tail)
                if any(stop in text for stop in self._texts):
                    self.ends[row] = generated


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the earliest of `stops` begins in `text`."""
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    return min(found, default=None)


def held_back(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of `text` may be the beginning of a stop text."""
    longest = 0
    for stop in stops:
        for size in range(min(len(stop) - 1, len(text)), longest, -1):
            if text.endswith(stop[:size]):
                longest = size
                break
    return longest

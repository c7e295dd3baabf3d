"""An answer in pieces while it is made: `generate` in a thread, tokens over a queue, whole characters out."""

import dataclasses
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import torch
from transformers.generation.streamers import BaseStreamer

from swiftlite.infer.sampling import Answer
from swiftlite.infer.stopping import first_stop, held_back

_INCOMPLETE = "\ufffd"


class TextAssembler:
    """Token ids in, new text out, such that the pieces add up to the whole answer.

    A piece ends in a whole character and never in what may become a stop text. (transformers' TextStreamer
    starts to decode anew after each line break, where sentencepiece decoders lose the next line's indent.)
    """

    def __init__(self, decode: Callable[[list[int]], str], stop_ids: Sequence[int], stops: Sequence[str]):
        self.text = ""
        self._decode = decode
        self._stop_ids = stop_ids
        self._stops = stops
        self._ids: list[int] = []
        # Tokens up to _read are in `text`; those from _start are decoded with new ones, for their spacing.
        self._start = self._read = 0
        self._given = 0
        self._ended = False

    def add(self, token: int) -> str:
        """The text that is sure after this token; often none."""
        self._ended = self._ended or token in self._stop_ids
        if self._ended:
            return ""
        self._ids.append(token)
        if not self._take(self._decode(self._ids[self._start :]), whole=True):
            return ""
        return self._give(len(self.text) - held_back(self.text, self._stops))

    def finish(self) -> str:
        """What was held back, now that nothing follows."""
        self._take(self._decode(self._ids[self._start :]), whole=False)
        return self._give(len(self.text))

    def _take(self, text: str, *, whole: bool) -> bool:
        known = self._decode(self._ids[self._start : self._read])
        if len(text) <= len(known) or (whole and text.endswith(_INCOMPLETE)):
            return False
        self.text += text[len(known) :]
        self._start, self._read = self._read, len(self._ids)
        return True

    def _give(self, sure: int) -> str:
        stop = first_stop(self.text, self._stops)
        if stop is not None:
            sure, self._ended = stop, True
            self.text = self.text[:stop]
        piece = self.text[self._given : sure]
        self._given = max(self._given, sure)
        return piece


class _Tokens(BaseStreamer):
    """Puts generated tokens on a queue; the first call brings the prompt."""

    def __init__(self, queue: "SimpleQueue[int | None]"):
        self._queue = queue
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if self._prompt_seen:
            self._queue.put(int(value.item()))
        self._prompt_seen = True

    def end(self) -> None:
        """The thread's end says it, which comes after errors too."""


class AnswerStream:
    """Iterates over the pieces of one answer; afterwards `answer` holds the whole.

    Leaving early (`close`, or an exception such as KeyboardInterrupt while waiting) ends the generation;
    `answer` then stays None.
    """

    def __init__(self, generate: Callable[[BaseStreamer, threading.Event], Answer], assembler: TextAssembler):
        self.answer: Answer | None = None
        self._generate = generate
        self._assembler = assembler
        self._pieces = self._run()

    def __iter__(self) -> "AnswerStream":
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    def close(self) -> None:
        """Ends the generation and waits for it."""
        self._pieces.close()

    def _run(self) -> Generator[str, None, None]:
        queue: SimpleQueue[int | None] = SimpleQueue()
        cancelled = threading.Event()
        with ThreadPoolExecutor(1, thread_name_prefix="swiftlite-generate") as thread:
            future = thread.submit(self._generate, _Tokens(queue), cancelled)
            future.add_done_callback(lambda _: queue.put(None))
            try:
                while (token := queue.get()) is not None:
                    if piece := self._assembler.add(token):
                        yield piece
            finally:
                cancelled.set()
        answer = future.result()
        if piece := self._assembler.finish():
            yield piece
        self.answer = dataclasses.replace(answer, text=self._assembler.text)

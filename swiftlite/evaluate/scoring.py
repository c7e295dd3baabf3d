"""From questions to scores: every question asked once, answers compared, rows counted."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from swiftlite.config.errors import UserError
from swiftlite.evaluate.exact_match import is_exact_match
from swiftlite.evaluate.questions import Question, QuestionSet
from swiftlite.infer.engine import Engine
from swiftlite.infer.sampling import Answer, Sampling


@dataclass(frozen=True)
class Sample:
    """One question, what the model answered, and whether that is right."""

    question: Question
    answer: Answer
    right: bool


@dataclass(frozen=True)
class Tally:
    """How many of some rows are right."""

    rows: int
    right: int

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> "Tally":
        """Counts them."""
        judged = [sample.right for sample in samples]
        return cls(len(judged), sum(judged))

    @property
    def accuracy(self) -> float:
        """Share of rows that are right, 0 to 1."""
        return self.right / self.rows

    @property
    def stderr(self) -> float:
        """Standard error of the accuracy p over n rows, sqrt(p (1 - p) / n)."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.rows)


@dataclass(frozen=True)
class Score(Tally):
    """The result on one data set.

    Attributes:
        kinds: the same by the rows' `kind`, in the order the kinds first stand in the data; empty: no row has one.
        tokens: generated ones, those that end an answer included.
        seconds: wall time of answering, reading the prompts included.
        cut: answers that ended at their limit of tokens.
        samples: in the order of the data.
    """

    kinds: dict[str, Tally]
    tokens: int
    seconds: float
    cut: int
    samples: list[Sample]

    @property
    def tokens_per_s(self) -> float:
        """Generated tokens a second of `seconds`."""
        return self.tokens / max(self.seconds, 1e-9)


def score_set(
    engine: Engine,
    questions: QuestionSet,
    sampling: Sampling,
    batch_size: int,
    progress: Callable[[int, str], None] = lambda answered, note: None,
) -> Score:
    """Asks every question and counts the answers that are right by exact match.

    Questions of similar length are answered together, the longest first: what does not fit the memory shows at once.

    Args:
        progress: told, after each batch, how many questions are answered, and in words how many of those are right.

    Raises:
        UserError: a question that cannot be answered, or a batch that does not fit the GPU's memory.
    """
    asked = questions.questions
    lengths = [len(engine.encode(question.prompt.messages, question.prompt.tools)) for question in asked]
    order = sorted(range(len(asked)), key=lambda at: -lengths[at])
    samples: dict[int, Sample] = {}
    started = time.perf_counter()
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        for at, answer in zip(batch, _answers(engine, [asked[at] for at in batch], sampling), strict=True):
            samples[at] = Sample(asked[at], answer, is_exact_match(answer.text, asked[at].reference))
        progress(len(samples), f"{sum(sample.right for sample in samples.values())} right")
    return _count([samples[at] for at in range(len(asked))], time.perf_counter() - started)


def _answers(engine: Engine, questions: list[Question], sampling: Sampling) -> list[Answer]:
    prompts = [question.prompt for question in questions]
    try:
        return engine.generate([p.messages for p in prompts], sampling, [p.tools for p in prompts])
    except UserError as error:
        # The engine's sentence names the flag of `swiftlite infer`.
        if isinstance(error.__cause__, torch.OutOfMemoryError):
            raise UserError(
                f"{len(prompts)} answers of up to {sampling.max_new_tokens} tokens do not fit the GPU's memory; "
                "lower --eval_batch_size or --max_new_tokens"
            ) from error
        raise


def _count(samples: list[Sample], seconds: float) -> Score:
    whole = Tally.of(samples)
    kinds = dict.fromkeys(kind for sample in samples if (kind := sample.question.kind) is not None)
    return Score(
        whole.rows,
        whole.right,
        {kind: Tally.of(sample for sample in samples if sample.question.kind == kind) for kind in kinds},
        sum(sample.answer.tokens for sample in samples),
        seconds,
        sum(sample.answer.stopped == "length" for sample in samples),
        samples,
    )

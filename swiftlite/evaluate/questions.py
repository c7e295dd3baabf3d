"""Rows of any layout the data room knows to questions: what is asked, the right answer, and its kind."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from swiftlite.config.errors import UserError
from swiftlite.data.formats import convert_row
from swiftlite.data.registry import resolve
from swiftlite.data.sources import Source
from swiftlite.infer.prompts import Prompt, read_prompts

# Their answers are reasoned out or chosen by likelihood; `gsm8k` also names the data set that is trained on.
_BENCHMARKS = ("gsm8k", "arc", "ceval")


@dataclass(frozen=True)
class Question:
    """One row: `reference` is the right answer, `kind` the row's own field of that name."""

    prompt: Prompt
    reference: str
    kind: str | None


@dataclass(frozen=True)
class QuestionSet:
    """The questions of one `--eval_dataset`.

    Attributes:
        name: as it was given.
        files: {"file", "fingerprint"} of each source; the fingerprint of a file is the sha256 of its bytes.
        unread: field -> number of rows whose field of that name is not used.
    """

    name: str
    questions: list[Question]
    files: list[dict[str, str]]
    unread: dict[str, int]

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the questions in order: a JSON line of [messages, tools, reference] for each."""
        state = hashlib.sha256()
        for question in self.questions:
            content = [question.prompt.messages, question.prompt.tools, question.reference]
            state.update(json.dumps(content, sort_keys=True).encode() + b"\n")
        return state.hexdigest()


def read_questions(specs: list[str], limit: int | None, seed: int) -> list[QuestionSet]:
    """The questions of `--eval_dataset`, a set for each spec.

    Args:
        specs: files, folders or registered names, each with #N for N of its rows, drawn by `seed`.
        limit: keep only this many of each set, the first ones.

    Raises:
        UserError: a source that cannot be read or has no rows, or a row without a question or its answer.
    """
    return [_read_set(spec, limit, seed) for spec in specs]


def _read_set(spec: str, limit: int | None, seed: int) -> QuestionSet:
    _refuse_benchmark(spec)
    source = resolve(spec, "eval_dataset")
    prompts, unread = read_prompts([spec], seed)
    if not prompts:
        raise UserError(f"--eval_dataset {spec}: it has no rows; expected at least one question with its answer")
    different = len({prompt.origin for prompt in prompts})
    if different < len(prompts):
        raise UserError(
            f"--eval_dataset {spec}: it has {different} rows, and asking one twice measures nothing more; "
            f"ask for at most #{different}"
        )
    identity = source.identity()
    return QuestionSet(
        spec,
        _questions(source, prompts[:limit]),
        [{"file": file, "fingerprint": digest} for file, (_, digest) in zip(source.files, identity, strict=True)],
        {field: rows for field, rows in unread.items() if field != "kind"},
    )


def _refuse_benchmark(spec: str) -> None:
    name = spec.strip().partition("#")[0]
    if name in _BENCHMARKS and not Path(name).exists():
        raise UserError(
            f"--eval_dataset {spec}: the benchmark {name} is not in this version of swiftlite, which compares whole "
            "answers; name rows with short answers, such as demo-eval or a file"
        )


def _questions(source: Source, prompts: list[Prompt]) -> list[Question]:
    """`prompts` with what only their rows say: the kind, and whether the answer is a text at all."""
    wanted = {prompt.origin for prompt in prompts}
    rows = {origin: row for row, origin in source.rows() if origin in wanted}
    questions = []
    for prompt in prompts:
        if prompt.reference is None:
            raise UserError(
                f"{prompt.origin}: the row has no answer to compare with; expected an assistant turn at its end, or "
                "a response, output or answer beside the question; add it or take the row out"
            )
        row = rows[prompt.origin]
        assert isinstance(row, dict), "read_prompts refuses any other row"
        if "tool_calls" in convert_row(row, source.columns).content["messages"][-1]:
            raise UserError(
                f"{prompt.origin}: the row's answer calls a tool, and only texts are compared; take the row out"
            )
        kind = row.get("kind")
        questions.append(Question(prompt, prompt.reference, None if kind is None else str(kind)))
    return questions

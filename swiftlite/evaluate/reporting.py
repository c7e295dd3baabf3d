"""Scores for people and for programs: the table, and the content of eval.json."""

import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from swiftlite.evaluate.questions import QuestionSet
from swiftlite.evaluate.scoring import Sample, Score, Tally

# Wide enough that no name is folded in a file.
_PIPED_WIDTH = 1000


def print_table(scores: dict[str, Score]) -> None:
    """A row for each data set and, below it, each of its kinds; without lines and colours in a file or a pipe."""
    terminal = sys.stdout.isatty()
    table = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=False, header_style="bold" if terminal else "")
    table.add_column("data set", overflow="fold")
    for heading in ("right", "rows", "accuracy", "+/-", "tokens", "tokens/s", "cut"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, score in scores.items():
        speed = (f"{score.tokens:,}", f"{score.tokens_per_s:,.0f}", str(score.cut))
        table.add_row(name, *_counts(score), *speed, style="bold" if terminal and score.kinds else "")
        for kind, tally in score.kinds.items():
            table.add_row(f"  {kind}", *_counts(tally))
    Console(highlight=False, markup=False, emoji=False, width=None if terminal else _PIPED_WIDTH).print(table)


def _counts(tally: Tally) -> tuple[str, ...]:
    return str(tally.right), str(tally.rows), f"{tally.accuracy:.1%}", f"{tally.stderr:.1%}"


def result_record(questions: QuestionSet, score: Score) -> dict[str, Any]:
    """What eval.json says of one data set besides its samples; shares from 0 to 1, seconds."""
    return {
        **_tally_record(score),
        "kinds": {kind: _tally_record(tally) for kind, tally in score.kinds.items()},
        "generated_tokens": score.tokens,
        "seconds": score.seconds,
        "tokens_per_s": score.tokens_per_s,
        "cut": score.cut,
        "metric": "exact_match",
        "files": questions.files,
        "fingerprint": questions.fingerprint,
    }


def sample_record(sample: Sample) -> dict[str, Any]:
    """What eval.json says of one question; `finish` is `stop` or `length`."""
    prompt = sample.question.prompt
    return {
        "origin": str(prompt.origin),
        **({"kind": sample.question.kind} if sample.question.kind is not None else {}),
        "prompt": prompt.messages,
        **({"tools": prompt.tools} if prompt.tools else {}),
        "answer": sample.answer.text,
        "reference": sample.question.reference,
        "right": sample.right,
        "tokens": sample.answer.tokens,
        "finish": sample.answer.stopped,
    }


def _tally_record(tally: Tally) -> dict[str, Any]:
    return {"rows": tally.rows, "right": tally.right, "accuracy": tally.accuracy, "stderr": tally.stderr}

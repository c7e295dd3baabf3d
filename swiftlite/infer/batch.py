"""`swiftlite infer --infer_dataset FILE`: a file of prompts in, a file of answers out, written as it goes."""

import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from swiftlite.config.errors import UserError
from swiftlite.infer.engine import Engine
from swiftlite.infer.progress import progress_bar
from swiftlite.infer.prompts import Prompt
from swiftlite.infer.sampling import Answer, Sampling
from swiftlite.models.source import CARD


def choose_result_path(
    wanted: str | None, model: str | None, name: Callable[[int], str] = "infer-result-{}.jsonl".format
) -> Path:
    """Where results go: `--result_path`, else a new file near the model that answers.

    Near is inside the run's folder for a run or one of its checkpoints, beside a checkpoint that was moved
    elsewhere, and the working folder for any other model.

    Args:
        name: the name of the Nth result there; the first that is free is taken.

    Raises:
        UserError: the file exists, or its folder does not.
    """
    if wanted is None:
        folder = _home(Path(model).expanduser()) if model else Path()
        return next(path for number in itertools.count(1) if not (path := folder / name(number)).exists())
    path = Path(wanted).expanduser()
    if path.exists():
        raise UserError(f"--result_path {path} exists and is not overwritten; name another file, or move that one")
    if not path.parent.is_dir():
        raise UserError(f"--result_path {path}: there is no folder {path.parent}; make it first")
    return path


def _home(model: Path) -> Path:
    for folder in (model, model.parent):
        if (folder / "run.yaml").is_file():
            return folder
    return model.parent if (model / CARD).is_file() else Path()


def create_result(path: Path) -> TextIO:
    """The new file of that path, open for writing.

    Raises:
        UserError: it exists, or cannot be written.
    """
    try:
        return path.open("x", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--result_path {path} cannot be written: {error.strerror}") from None


def check_prompts(engine: Engine, prompts: list[Prompt]) -> None:
    """Encodes every prompt once, so that none is found wrong after hours of answering.

    Raises:
        UserError: naming the row that cannot be answered.
    """
    for prompt in prompts:
        try:
            engine.encode(prompt.messages, prompt.tools)
        except UserError as error:
            raise UserError(f"{prompt.origin}: {error}") from None


def answer_file(engine: Engine, prompts: list[Prompt], sampling: Sampling, batch_size: int, path: Path) -> list[str]:
    """Answers all prompts into `path`, one JSON object a line, in order; says how fast.

    Each line: `messages` (the prompt), `tools` where it has any, `response`, `reference` (the row's own answer,
    or null), `tokens`, `finish` (`stop` or `length`), of several adapters `adapter`. Complete lines survive an
    interruption.

    Raises:
        UserError: a prompt that cannot be answered, or a file that cannot be written.
    """
    check_prompts(engine, prompts)
    answers: list[Answer] = []
    started = time.perf_counter()
    with create_result(path) as file:
        try:
            with progress_bar("row", len(prompts)) as progress:
                for first in range(0, len(prompts), batch_size):
                    batch = prompts[first : first + batch_size]
                    named = {"adapters": [p.adapter for p in batch]} if engine.adapters else {}
                    found = engine.generate([p.messages for p in batch], sampling, [p.tools for p in batch], **named)
                    file.writelines(
                        _line(prompt, answer, engine.adapter) for prompt, answer in zip(batch, found, strict=True)
                    )
                    file.flush()
                    answers += found
                    progress(len(answers), _rate(answers, started))
        finally:
            cut = sum(answer.stopped == "length" for answer in answers)
            print(
                f"{len(answers)} of {len(prompts)} rows answered in {path}: {_rate(answers, started)} generated, "
                f"prompts included in the time; {cut} cut at their limit",
                file=sys.stderr,
            )
    return [answer.text for answer in answers]


def _line(prompt: Prompt, answer: Answer, adapter: str | None) -> str:
    record = {
        "messages": prompt.messages,
        **({"tools": prompt.tools} if prompt.tools else {}),
        "response": answer.text,
        "reference": prompt.reference,
        "tokens": answer.tokens,
        "finish": answer.stopped,
        **({"adapter": prompt.adapter or adapter} if adapter else {}),
    }
    return json.dumps(record, ensure_ascii=False) + "\n"


def _rate(answers: list[Answer], started: float) -> str:
    tokens = sum(answer.tokens for answer in answers)
    return f"{tokens} tokens, {tokens / max(time.perf_counter() - started, 1e-9):,.0f} tokens/s"

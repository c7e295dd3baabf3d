"""`swiftlite infer`, the way of one call: prompts, model, answers."""

import dataclasses
import sys
from pathlib import Path

import torch

from swiftlite.infer.batch import answer_file, choose_result_path
from swiftlite.infer.chat import run_chat
from swiftlite.infer.config import InferConfig
from swiftlite.infer.engine import Engine
from swiftlite.infer.prompts import Prompt, read_prompts
from swiftlite.infer.sampling import Sampling
from swiftlite.models.source import BASE, resolve_model


@dataclasses.dataclass(frozen=True)
class InferResult:
    """What was answered (None: a chat), the file the answers are in, and the exit code of the command."""

    answers: list[str] | None
    result_path: Path | None = None
    exit_code: int = 0


def run_infer(config: InferConfig) -> InferResult:
    """Answers the prompts of `--infer_dataset` or the one of `--query`, or chats.

    Standard output carries answers only; the header and everything else go to standard error.

    Raises:
        UserError: anything a user can mend; answers written before stay in the result file.
    """
    config.refuse_not_yet()
    o = config.infer
    prompts, path = [], None
    if o.infer_dataset:
        # Before the model is loaded, which may take minutes.
        path = choose_result_path(o.result_path, config.model.model)
        adapters = resolve_model(config.model, config.general.seed).adapters
        prompts = _read_prompts(o.infer_dataset, config.general.seed, [*adapters, BASE] if len(adapters) > 1 else [])
    engine, sampling = Engine.load(config), Sampling.of(o)
    for line in [*engine.header, sampling.describe()]:
        _say(line)
    torch.manual_seed(config.general.seed)
    if path is not None:
        return InferResult(answer_file(engine, prompts, sampling, o.infer_batch_size, path), path)
    if o.query is not None:
        return InferResult([_answer(engine, o.query, sampling, o.stream)])
    run_chat(engine, sampling, stream=o.stream)
    return InferResult(None)


def _read_prompts(specs: list[str], seed: int, adapters: list[str]) -> list[Prompt]:
    prompts, unread = read_prompts(specs, seed, adapters)
    for field, rows in unread.items():
        _say(f"note: the field '{field}' is not used ({rows} of {len(prompts)} rows)")
    return prompts


def _answer(engine: Engine, query: str, sampling: Sampling, stream: bool) -> str:
    pieces = []
    for piece in engine.stream([{"role": "user", "content": query}], sampling):
        pieces.append(piece)
        if stream:
            print(piece, end="", flush=True)
    text = "".join(pieces)
    print("" if stream else text)
    return text


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

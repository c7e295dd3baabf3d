"""`swiftlite eval`, the way of one call: questions, model, answers, scores, eval.json."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from swiftlite.evaluate.config import EvalConfig
from swiftlite.evaluate.questions import QuestionSet, read_questions
from swiftlite.evaluate.reporting import print_table, result_record, sample_record
from swiftlite.evaluate.scoring import Score, score_set
from swiftlite.infer.batch import check_prompts, choose_result_path, create_result
from swiftlite.infer.config import InferConfig
from swiftlite.infer.engine import Engine
from swiftlite.infer.progress import progress_bar
from swiftlite.infer.sampling import Sampling
from swiftlite.measure.environment import environment_stamp
from swiftlite.models.source import resolve_model


@dataclasses.dataclass(frozen=True)
class EvalResult:
    """The scores by the name of their data set, the file that holds them, and the exit code of the command."""

    scores: dict[str, Score]
    result_path: Path
    exit_code: int = 0


def run_eval(config: EvalConfig) -> EvalResult:
    """Asks the model the questions of `--eval_dataset`, greedily, and counts its right answers.

    Standard output carries the table only; the header and everything else go to standard error.

    Raises:
        UserError: anything a user can mend; a run that does not come to its end leaves no result.
    """
    config.refuse_not_yet()
    o = config.eval
    # Before the model is loaded, which may take minutes.
    sets = read_questions(o.eval_dataset, o.eval_limit, config.general.seed)
    for questions in sets:
        for field, rows in questions.unread.items():
            _say(f"note: {questions.name}: the field '{field}' is not used ({rows} of its rows)")
    resolve_model(config.model, config.general.seed).one_adapter()
    near = config.model.adapters[0] if config.model.adapters else config.model.model
    with _reserved(choose_result_path(o.result_path, near, _result_name)) as file:
        engine, sampling = Engine.load(_infer_config(config)), Sampling(max_new_tokens=o.max_new_tokens)
        for line in [*engine.header, sampling.describe()]:
            _say(line)
        scores = evaluate(engine, sets, sampling, o.eval_batch_size)
        _write(_result(config, engine, sets, scores), file, scores)
    print_table(scores)
    _say(f"written to {file.name}")
    return EvalResult(scores, Path(file.name))


def evaluate(engine: Engine, sets: list[QuestionSet], sampling: Sampling, batch_size: int) -> dict[str, Score]:
    """The scores of a loaded model, by the name of each set.

    Raises:
        UserError: naming the question that cannot be answered, before the first is; or a batch that does not fit.
    """
    for questions in sets:
        check_prompts(engine, [question.prompt for question in questions.questions])
    scores = {}
    for questions in sets:
        with progress_bar(questions.name, len(questions.questions)) as progress:
            scores[questions.name] = score_set(engine, questions, sampling, batch_size, progress)
    return scores


def _result_name(number: int) -> str:
    return "eval.json" if number == 1 else f"eval-{number}.json"


@contextlib.contextmanager
def _reserved(path: Path) -> Iterator[TextIO]:
    """A new file, held from the start so that it can surely be written at the end; gone when that is not reached."""
    with create_result(path) as file:
        try:
            yield file
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _infer_config(config: EvalConfig) -> InferConfig:
    """The settings that `swiftlite infer` would load the same model by."""
    same = InferConfig(model=config.model.model, model_type=config.model.model_type, merge_lora=config.eval.merge_lora)
    same.general, same.model, same.chat = config.general, config.model, config.chat
    return same


def _result(config: EvalConfig, engine: Engine, sets: list[QuestionSet], scores: dict[str, Score]) -> dict[str, Any]:
    """The content of eval.json: what was found first, the samples last."""
    source = resolve_model(config.model, config.general.seed)
    samples = {name: [sample_record(sample) for sample in score.samples] for name, score in scores.items()}
    return {
        "results": {questions.name: result_record(questions, scores[questions.name]) for questions in sets},
        "model": {"weights": str(source.adapter or source.location) or None, "description": engine.header[0]},
        "settings": config.to_dict(),
        "environment": environment_stamp(),
        **({"samples": samples} if config.eval.save_samples else {}),
    }


def _write(result: dict[str, Any], file: TextIO, scores: dict[str, Score]) -> None:
    try:
        json.dump(result, file, ensure_ascii=False, indent=1)
        file.write("\n")
        file.flush()
    except OSError:
        # A full disk takes the file, not the figures.
        print_table(scores)
        raise


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

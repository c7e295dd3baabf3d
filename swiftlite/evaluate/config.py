"""Settings of `swiftlite eval`: which questions, how many, how they are answered, where the result goes."""

from dataclasses import dataclass
from typing import ClassVar

from swiftlite.chat.config import ChatConfig
from swiftlite.config.command import CommandConfig
from swiftlite.config.errors import UserError
from swiftlite.config.general import GeneralConfig
from swiftlite.config.options import option
from swiftlite.models.config import ModelConfig


@dataclass
class EvalOptions:
    eval_dataset: list[str] = option(
        [],
        "questions with their answers: registered names (demo-eval), files or folders, each with #N for N rows drawn",
    )
    eval_limit: int | None = option(None, "ask only the first N questions of each data set; none: all")
    eval_batch_size: int = option(16, "questions answered at a time")
    max_new_tokens: int = option(64, "an answer ends after this many tokens")
    merge_lora: bool = option(False, "fold the adapter into the base before answering: faster, rounds once more")
    save_samples: bool = option(True, "keep each question, its answer and whether it was right in the result")
    result_path: str | None = option(
        None,
        "JSON file for the result; none: eval.json (then eval-2.json, ...) in the run's folder, beside a checkpoint, "
        "or here",
    )

    def check(self) -> None:
        if not self.eval_dataset:
            raise UserError("no questions given: pass --eval_dataset NAME_OR_FILE ... (try --eval_dataset demo-eval)")
        for at, name in enumerate(self.eval_dataset):
            if not name.strip():
                raise UserError("--eval_dataset: an empty name; expected a registered name, a file or a folder")
            if name in self.eval_dataset[:at]:
                raise UserError(f"--eval_dataset: {name} is named twice; name it once")
        for flag in ("eval_limit", "eval_batch_size", "max_new_tokens"):
            value = getattr(self, flag)
            if value is not None and value < 1:
                raise UserError(f"--{flag}: {value} must be 1 or more")


class EvalConfig(CommandConfig):
    """Settings of `swiftlite eval`."""

    command: ClassVar[str] = "eval"
    parts: ClassVar[dict[str, type]] = {
        "general": GeneralConfig,
        "model": ModelConfig,
        "chat": ChatConfig,
        "eval": EvalOptions,
    }

    general: GeneralConfig
    model: ModelConfig
    chat: ChatConfig
    eval: EvalOptions

"""Settings of `swiftlite infer`: what is asked, how tokens are drawn, where answers go."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from swiftlite.chat.config import ChatConfig
from swiftlite.config.command import CommandConfig
from swiftlite.config.errors import UserError
from swiftlite.config.general import GeneralConfig
from swiftlite.config.options import option
from swiftlite.models.config import ModelConfig


@dataclass
class InferOptions:
    infer_dataset: list[str] = option(
        [],
        "files (or registered names, each with #N for N rows) of prompts to answer; none: chat in the terminal",
    )
    result_path: str | None = option(
        None,
        "jsonl file for the answers; none: infer-result-N.jsonl in the run's folder, beside a checkpoint, or here",
    )
    query: str | None = option(None, "answer this one prompt, print only the answer, and leave")
    max_new_tokens: int = option(512, "an answer ends after this many tokens")
    temperature: float = option(0.0, "0: always the likeliest token (greedy); above: draw, the flatter the higher")
    top_p: float = option(1.0, "draw from the likeliest tokens that make up this probability; 1: all")
    top_k: int = option(0, "draw from this many of the likeliest tokens; 0: all")
    repetition_penalty: float = option(1.0, "above 1: tokens already in the prompt or answer become less likely")
    stop: list[str] = option([], "texts that end an answer; they are not part of it")
    infer_batch_size: int = option(8, "prompts of --infer_dataset answered at a time")
    merge_lora: bool = option(False, "fold the adapter into the base before answering: faster, rounds once more")
    stream: bool = option(True, "show an answer while it is made, in the chat and for --query")
    infer_backend: Literal["transformers"] = option("transformers", "what runs the model", rare=True)

    def check(self) -> None:
        self._check_numbers()
        if self.query is not None and self.infer_dataset:
            raise UserError("--query and --infer_dataset both say what to answer; give one of them")
        if self.query is not None and not self.query.strip():
            raise UserError("--query is empty; give the prompt to answer, or leave it away to chat")
        if self.result_path is not None and not self.infer_dataset:
            raise UserError("--result_path is for the answers to a file of prompts; pass --infer_dataset FILE too")
        if "" in self.stop:
            raise UserError("--stop has an empty text, which would end every answer at once; leave it away")

    def _check_numbers(self) -> None:
        for name in ("max_new_tokens", "infer_batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name}: {getattr(self, name)} must be 1 or more")
        if self.temperature < 0:
            raise UserError(f"--temperature: {self.temperature} is neither 0 (greedy) nor a number above it")
        if not 0 < self.top_p <= 1:
            raise UserError(f"--top_p: {self.top_p} is not a probability above 0 and up to 1 (1: all tokens)")
        if self.top_k < 0:
            raise UserError(f"--top_k: {self.top_k} is neither 0 (all tokens) nor a number of tokens")
        if self.repetition_penalty <= 0:
            raise UserError(f"--repetition_penalty: {self.repetition_penalty} must be above 0 (1: no penalty)")


class InferConfig(CommandConfig):
    """Settings of `swiftlite infer`."""

    command: ClassVar[str] = "infer"
    parts: ClassVar[dict[str, type]] = {
        "general": GeneralConfig,
        "model": ModelConfig,
        "chat": ChatConfig,
        "infer": InferOptions,
    }
    # ms-swift v1.5 to v2.0: defaults of its InferArguments.
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "seed": {"temperature": 0.3, "top_p": 0.7, "top_k": 20, "max_new_tokens": 2048}
    }

    general: GeneralConfig
    model: ModelConfig
    chat: ChatConfig
    infer: InferOptions

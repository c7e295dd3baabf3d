"""Settings: which model, with which weights, in which precision."""

from dataclasses import dataclass
from typing import Literal

from swiftlite.config.errors import UserError
from swiftlite.config.options import option


@dataclass
class ModelConfig:
    model: str | None = option(
        None, "a local folder, a hub id, a registered name, or the checkpoint or run folder of an earlier run"
    )
    model_type: str | None = option(
        None, "a registered name; with --model it says which registered model that folder holds"
    )
    adapters: list[str] = option([], "an adapter folder (PEFT layout) to put on --model; training goes on with it")
    weights: Literal["auto", "dummy"] = option(
        "auto", "dummy: random weights at the model's true shape, no download (to measure and to try)"
    )
    tokenizer: str | None = option(None, "folder or hub id of another tokenizer than the model's own")
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = option(
        "auto",
        "precision of the weights and the maths; auto: bf16 where the GPU has it, fp16 else, fp32 on CPU",
    )
    attn_impl: Literal["auto", "eager", "sdpa", "flash", "flash_attention_2", "flash_attention_3"] = option(
        "auto",
        "attention; flash: the flash-attn package where it is installed, else PyTorch's own flash kernel",
    )
    add_tokens: list[str] = option(
        [], "new special tokens; an adapter trains only their rows of the embedding and the head"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = option("auto", "where to run", rare=True)
    revision: str | None = option(None, "branch, tag or commit of a hub model", rare=True)

    def check(self) -> None:
        if self.model is None and self.model_type is None:
            raise UserError("no model given: pass --model FOLDER_OR_HUB_ID, or --model_type NAME (try --model nano)")
        if len(self.adapters) > 1:
            raise UserError(f"--adapters takes one folder in this version, got {len(self.adapters)}")

"""Settings of LoRA."""

from dataclasses import dataclass
from typing import Literal

from swiftlite.config.errors import UserError
from swiftlite.config.options import option


@dataclass
class LoraOptions:
    lora_rank: int = option(8, "rank r of the update B·A")
    lora_alpha: float = option(32, "the update is scaled by alpha / r (rsLoRA: alpha / sqrt(r))")
    lora_dropout: float = option(0.0, "dropout on the adapter's input")
    lora_target_modules: list[str] = option(
        ["ALL"],
        "module names; ALL: every linear layer but the head; DEFAULT: the family's attention projections; "
        "EMBEDDING: the token embedding",
    )
    target_regex: str | None = option(None, "target modules by a pattern on their full names", rare=True)
    lora_modules_to_save: list[str] = option(
        [], "modules trained in full beside the adapter; EMBEDDING, LN (all norms) or names"
    )
    lora_bias: Literal["none", "all", "lora_only"] = option("none", "which biases train", rare=True)
    lora_dtype: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto", "precision of the adapter's weights; auto: fp32", rare=True
    )
    use_rslora: bool = option(False, "scale by alpha / sqrt(r) (rsLoRA, arXiv 2312.03732)")
    use_dora: bool = option(False, "train magnitude and direction apart (DoRA, arXiv 2402.09353)")
    init_lora_weights: str = option("true", "true, false, gaussian, pissa, olora: how A and B start", rare=True)
    lora_lr_ratio: float | None = option(
        None, "learning rate of B over that of A (LoRA+, arXiv 2402.12354); 16 is usual"
    )

    def check(self) -> None:
        if self.lora_rank < 1:
            raise UserError(f"--lora_rank: {self.lora_rank} is not a rank; expected 1 or more, usually 8 to 64")
        if self.lora_alpha <= 0:
            raise UserError(f"--lora_alpha: {self.lora_alpha} must be above 0")
        if not 0 <= self.lora_dropout < 1:
            raise UserError(f"--lora_dropout: {self.lora_dropout} is not between 0 and 1")
        if self.lora_lr_ratio is not None and self.lora_lr_ratio <= 0:
            raise UserError(f"--lora_lr_ratio: {self.lora_lr_ratio} must be above 0 (16 is usual)")
        if not self.lora_target_modules and not self.target_regex:
            raise UserError("--lora_target_modules is empty: name modules, or ALL, DEFAULT or EMBEDDING")
        known = ("true", "false", "gaussian", "pissa", "olora")
        if self.init_lora_weights.startswith("pissa_niter_"):
            raise UserError(
                f"--init_lora_weights: {self.init_lora_weights} draws its start at random, so a saved adapter would "
                f"not fit its base again; use pissa"
            )
        if self.init_lora_weights.lower() not in known:
            raise UserError(f"--init_lora_weights: '{self.init_lora_weights}' is none of {', '.join(known)}")

"""Settings: which tuner, and which parameters stay frozen."""

from dataclasses import dataclass

from swiftlite.config.errors import UserError
from swiftlite.config.options import option


@dataclass
class TunerConfig:
    sft_type: str = option(
        "lora",
        "the tuner: lora (dora, rslora and lora+ are options of it), full (with lisa and galore), adapter, llamapro, "
        "adalora, ia3, vera, boft, oft, fourierft, miss, longlora, loreft, prompt_tuning, prefix_tuning or p_tuning",
    )
    freeze_parameters_ratio: float = option(
        0.0, "full: freeze the first layers until this share of all parameters is frozen", rare=True
    )
    freeze_parameters: list[str] = option([], "full: freeze parameters whose name starts so", rare=True)
    freeze_parameters_regex: str | None = option(None, "full: freeze parameters whose name matches", rare=True)
    trainable_parameters: list[str] = option(
        [], "full: train parameters whose name starts so, whatever froze them", rare=True
    )
    trainable_parameters_regex: str | None = option(
        None, "full: train parameters whose name matches, whatever froze them", rare=True
    )
    neftune_noise_alpha: float | None = option(
        None,
        "noise on the embeddings in training, within alpha / sqrt(length x width) (NEFTune, arXiv 2310.05914); try 5",
    )

    def check(self) -> None:
        if not 0 <= self.freeze_parameters_ratio <= 1:
            raise UserError(f"--freeze_parameters_ratio: {self.freeze_parameters_ratio} is not between 0 and 1")
        if self.neftune_noise_alpha is not None and self.neftune_noise_alpha < 0:
            raise UserError(f"--neftune_noise_alpha: {self.neftune_noise_alpha} must not be negative; 5 is usual")

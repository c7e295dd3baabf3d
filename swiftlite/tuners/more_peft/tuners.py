"""IA3, VeRA, BOFT, OFT, FourierFT and MiSS: PEFT's configs from our settings, each starting as an identity."""

import re
import warnings
from collections.abc import Sequence

from peft import BOFTConfig, FourierFTConfig, IA3Config, MissConfig, OFTConfig, PeftConfig, VeraConfig
from torch import nn
from transformers import PreTrainedModel

from swiftlite.config.errors import UserError
from swiftlite.tuners.lora.targets import matched, target_modules
from swiftlite.tuners.peft_tuner import PeftTuner


class Ia3Tuner(PeftTuner):
    """Outputs of layers times a trained vector, in MLPs the input of the last one (Liu et al., arXiv 2205.05638)."""

    def peft_config(self, model: PreTrainedModel, new_tokens: Sequence[int]) -> PeftConfig:
        common = self.common(model, new_tokens)
        targets = dict(matched(model, common["target_modules"]))
        named = self.config.ia3.ia3_feedforward_modules
        if named:
            inner = [n for n, _ in matched(model, target_modules(model, named, None, "--ia3_feedforward_modules"))]
            strangers = [name for name in inner if name not in targets]
            if strangers:
                raise UserError(
                    f"--ia3_feedforward_modules: {strangers[0]} is not among the targets; name it in "
                    f"--lora_target_modules too"
                )
        else:
            inner = [name for name, linear in targets.items() if _ends_mlp(model, name, linear)]
        return IA3Config(**common, feedforward_modules=_pattern(inner))


class VeraTuner(PeftTuner):
    """Two vectors a layer, around random matrices that all layers share (Kopiczko et al., arXiv 2310.11454)."""

    def peft_config(self, model: PreTrainedModel, new_tokens: Sequence[int]) -> PeftConfig:
        o = self.config.vera
        return VeraConfig(
            **self.common(model, new_tokens),
            r=o.vera_rank,
            vera_dropout=o.vera_dropout,
            d_initial=o.vera_d_initial,
            projection_prng_key=o.vera_projection_prng_key,
        )


class BoftTuner(PeftTuner):
    """Inputs turned by orthogonal blocks, outputs scaled (Liu et al., arXiv 2311.06243); one butterfly factor.

    More factors need a CUDA extension that PEFT compiles on the spot.
    """

    def peft_config(self, model: PreTrainedModel, new_tokens: Sequence[int]) -> PeftConfig:
        o, common = self.config.boft, self.common(model, new_tokens)
        _check_blocks(model, common, "boft_block_size", o.boft_block_size, "boft_block_num", o.boft_block_num)
        return BOFTConfig(
            **common,
            boft_block_size=o.boft_block_size,
            boft_block_num=o.boft_block_num,
            boft_n_butterfly_factor=1,
            boft_dropout=o.boft_dropout,
        )

    def apply(self, model: PreTrainedModel, new_tokens: Sequence[int] = ()) -> nn.Module:
        with warnings.catch_warnings():
            # It looks for its extension whatever the number of factors, and says that there will be one.
            warnings.filterwarnings("ignore", message="Failed to load the CUDA extension")
            warnings.filterwarnings("ignore", message="Setting boft_n_butterfly_factor to 1")
            return super().apply(model, new_tokens)


class OftTuner(PeftTuner):
    """Inputs turned by orthogonal blocks (Qiu et al., arXiv 2306.07280; as in OFTv2, arXiv 2506.19847)."""

    def peft_config(self, model: PreTrainedModel, new_tokens: Sequence[int]) -> PeftConfig:
        o, common = self.config.oft, self.common(model, new_tokens)
        _check_blocks(model, common, "oft_block_size", o.oft_block_size, "oft_block_num", o.oft_block_num)
        return OFTConfig(**common, r=o.oft_block_num, oft_block_size=o.oft_block_size, module_dropout=o.oft_dropout)


class FourierftTuner(PeftTuner):
    """Updates with a sparse trained spectrum (Gao et al., arXiv 2405.03003), which starts at zero."""

    def peft_config(self, model: PreTrainedModel, new_tokens: Sequence[int]) -> PeftConfig:
        o = self.config.fourierft
        return FourierFTConfig(
            **self.common(model, new_tokens),
            n_frequency=o.fourier_n_frequency,
            scaling=o.fourier_scaling,
            init_weights=True,
        )


class MissTuner(PeftTuner):
    """One matrix a layer, read by sums over the input's shards (Kang et al., arXiv 2409.15371; first called Bone)."""

    def peft_config(self, model: PreTrainedModel, new_tokens: Sequence[int]) -> PeftConfig:
        o = self.config.miss
        variant = "bat" if o.miss_variant == "bat" else True
        return MissConfig(
            **self.common(model, new_tokens), r=o.miss_rank, miss_dropout=o.miss_dropout, init_weights=variant
        )


def _pattern(names: list[str]) -> str:
    """A pattern for full names, the same in every layer; one that no name has where there are none."""
    return "|".join(dict.fromkeys(re.sub(r"\\.\d+\\.", r"\\.\\d+\\.", re.escape(name)) for name in names)) or "$^"


def _ends_mlp(model: PreTrainedModel, name: str, linear: nn.Module) -> bool:
    width = model.config.get_text_config().hidden_size
    return "attn" not in name and "attention" not in name and _in(linear) != width and _out(linear) == width


def _check_blocks(
    model: PreTrainedModel, common: dict, size_flag: str, size: int, number_flag: str, number: int
) -> None:
    """Raises a UserError where blocks do not divide a target's input: PEFT would take others, or none."""
    for name, linear in matched(model, common["target_modules"]):
        if _in(linear) % (size or number):
            flag = f"--{size_flag} {size}" if size else f"--{number_flag} {number}"
            raise UserError(
                f"{flag} does not divide the {_in(linear)} inputs of {name}; choose a number that does, or other "
                f"--lora_target_modules"
            )


def _in(linear: nn.Module) -> int:
    # GPT-2's Conv1D keeps (in, out).
    return linear.in_features if isinstance(linear, nn.Linear) else linear.weight.shape[0]  # pyrefly: ignore


def _out(linear: nn.Module) -> int:
    return linear.out_features if isinstance(linear, nn.Linear) else linear.weight.shape[1]  # pyrefly: ignore

"""The names of `--sft_type`: each leads to a settings class (torch-free) and, when used, to the tuner itself."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from swiftlite.config.errors import UserError
from swiftlite.config.options import closest
from swiftlite.tuners.adalora.config import AdaloraOptions
from swiftlite.tuners.lora.config import LoraOptions
from swiftlite.tuners.more_peft.config import (
    BoftOptions,
    FourierftOptions,
    Ia3Options,
    MissOptions,
    OftOptions,
    VeraOptions,
)
from swiftlite.tuners.support import Refusal, find_refusal

if TYPE_CHECKING:
    from swiftlite.tuners.tuner import Tuner


@dataclasses.dataclass(frozen=True)
class TunerEntry:
    """One tuner.

    Attributes:
        name: the value of `--sft_type`.
        target: `module:Class` of the Tuner.
        options: its settings class, or None; several tuners may share one.
        reads: settings outside that class which it follows too.
        refuses: what it cannot go with.
    """

    name: str
    target: str
    options: type | None = None
    reads: tuple[str, ...] = ()
    refuses: tuple[Refusal, ...] = ()


_TUNERS: dict[str, TunerEntry] = {}


def register_tuner(entry: TunerEntry) -> None:
    """Adds a tuner; its settings become flags of every training command."""
    _TUNERS[entry.name] = entry


def tuner_parts() -> dict[str, type]:
    """Settings classes of all tuners, by the name of their part."""
    return {e.options.__name__.removesuffix("Options").lower(): e.options for e in _TUNERS.values() if e.options}


def check_tuner_name(name: str) -> None:
    """Raises a UserError when no tuner has that name."""
    if name not in _TUNERS:
        near = closest(name, list(_TUNERS))
        raise UserError(f"--sft_type: '{name}' is none of {', '.join(_TUNERS)}{near}")


def tuner_entries() -> list[TunerEntry]:
    """Every tuner, in order of registration."""
    return list(_TUNERS.values())


def refusal_of(name: str, feature: str, settings: Mapping[str, Any]) -> Refusal | None:
    """Why the tuner of that name cannot go with a feature under these settings, or None where it does."""
    return find_refusal(_TUNERS[name].refuses, feature, settings)


def settings_read(name: str) -> set[str]:
    """The settings of tuners that the one of that name follows."""
    entry = _TUNERS[name]
    own = {f.name for f in dataclasses.fields(entry.options)} if entry.options else set()
    return own | set(entry.reads)


def make_tuner(name: str, config: Any) -> "Tuner":
    """The tuner of that name for a command's settings (which hold its part)."""
    check_tuner_name(name)
    entry = _TUNERS[name]
    module, cls = entry.target.split(":")
    return getattr(importlib.import_module(module), cls)(config)


_PEFT_READS = ("lora_target_modules", "target_regex", "lora_modules_to_save", "lora_dtype")
_MORE = "swiftlite.tuners.more_peft.tuners:"
_TRAINS_BASE = tuple(
    Refusal(
        feature,
        "stores frozen weights and --sft_type full trains them",
        "use an adapter (--sft_type lora), or leave it away",
    )
    for feature in ("fp8", "bnb")
)
_READS_WEIGHTS = "stores weights as codes, and --miss_variant bat multiplies by the weights themselves"
_BAT_READS_WEIGHTS = tuple(
    Refusal(feature, _READS_WEIGHTS, "use --miss_variant balance, or leave it away", {"miss_variant": "bat"})
    for feature in ("fp8", "bnb")
)
_DORA_IN_FP8 = Refusal(
    "fp8",
    "computes layers under plain LoRA, and DoRA needs their weights as they are",
    "use --quant_method bnb, or leave --use_dora away",
    {"use_dora": True},
)

register_tuner(TunerEntry("lora", "swiftlite.tuners.lora.tuner:LoraTuner", LoraOptions, refuses=(_DORA_IN_FP8,)))
register_tuner(
    TunerEntry(
        "full",
        "swiftlite.tuners.full.tuner:FullTuner",
        reads=(
            "freeze_parameters_ratio",
            "freeze_parameters",
            "freeze_parameters_regex",
            "trainable_parameters",
        ),
        refuses=_TRAINS_BASE,
    )
)
register_tuner(
    TunerEntry(
        "adalora",
        "swiftlite.tuners.adalora.tuner:AdaloraTuner",
        AdaloraOptions,
        (*_PEFT_READS, "lora_alpha", "lora_dropout"),
    )
)
register_tuner(TunerEntry("ia3", _MORE + "Ia3Tuner", Ia3Options, _PEFT_READS))
register_tuner(TunerEntry("vera", _MORE + "VeraTuner", VeraOptions, _PEFT_READS))
register_tuner(TunerEntry("boft", _MORE + "BoftTuner", BoftOptions, _PEFT_READS))
register_tuner(TunerEntry("oft", _MORE + "OftTuner", OftOptions, _PEFT_READS))
register_tuner(TunerEntry("fourierft", _MORE + "FourierftTuner", FourierftOptions, _PEFT_READS))
register_tuner(TunerEntry("miss", _MORE + "MissTuner", MissOptions, _PEFT_READS, _BAT_READS_WEIGHTS))

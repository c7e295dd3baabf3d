"""The names of `--sft_type`: each leads to a settings class (torch-free) and, when used, to the tuner itself."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from swiftlite.config.errors import UserError
from swiftlite.config.options import closest
from swiftlite.tuners.adalora.config import AdaloraOptions
from swiftlite.tuners.bottleneck.config import AdapterOptions
from swiftlite.tuners.lisa.config import LisaOptions, settle_lisa
from swiftlite.tuners.llamapro.config import LlamaproOptions
from swiftlite.tuners.longlora.config import settle_longlora
from swiftlite.tuners.lora.config import LoraOptions
from swiftlite.tuners.loreft.config import LoreftOptions, settle_loreft
from swiftlite.tuners.more_peft.config import (
    BoftOptions,
    FourierftOptions,
    Ia3Options,
    MissOptions,
    OftOptions,
    VeraOptions,
)
from swiftlite.tuners.prompt.config import PromptOptions, settle_prompt
from swiftlite.tuners.support import Refusal, find_refusal

if TYPE_CHECKING:
    from swiftlite.tuners.tuner import Tuner


@dataclasses.dataclass(frozen=True)
class TunerEntry:
    """One tuner.

    Attributes:
        name: the value of `--sft_type`.
        target: `module:Class` of the Tuner, or a function that makes it.
        options: its settings class, or None; several tuners may share one.
        whole: it trains or saves whole weights.
        reads: settings outside that class which it follows too.
        refuses: what it cannot go with.
        settle: called with a training command's settings before anything is loaded: sets what the tuner brings along,
            and raises a UserError for what else cannot go together with it.
    """

    name: str
    target: str
    options: type | None = None
    _: dataclasses.KW_ONLY
    whole: bool = False
    reads: tuple[str, ...] = ()
    refuses: tuple[Refusal, ...] = ()
    settle: Callable[[Any], None] | None = None


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


def find_tuner(name: str) -> TunerEntry:
    """The tuner of that name.

    Raises:
        UserError: there is none.
    """
    check_tuner_name(name)
    return _TUNERS[name]


def refusal_of(name: str, feature: str, settings: Mapping[str, Any]) -> Refusal | None:
    """Why the tuner of that name cannot go with a feature under these settings, or None where it does."""
    return find_refusal(_TUNERS[name].refuses, feature, settings)


def settings_read(name: str) -> set[str]:
    """The settings of tuners that the one of that name follows."""
    entry = _TUNERS[name]
    own = {f.name for f in dataclasses.fields(entry.options)} if entry.options else set()
    return own | set(entry.reads)


def settle_tuner(config: Any) -> None:
    """Lets the tuner of a training command's settings complete them.

    Raises:
        UserError: no tuner has that name, or it cannot work with these settings.
    """
    settle = find_tuner(config.tuner.sft_type).settle
    if settle is not None:
        settle(config)


def make_tuner(name: str, config: Any) -> "Tuner":
    """The tuner of that name for a command's settings (which hold its part)."""
    entry = find_tuner(name)
    module, cls = entry.target.split(":")
    return getattr(importlib.import_module(module), cls)(config)


def _few_bits(why: str, instead: str, when: Mapping[str, Any] | None = None) -> tuple[Refusal, ...]:
    return tuple(Refusal(feature, why, instead, when or {}) for feature in ("fp8", "bnb"))


_PEFT_READS = ("lora_target_modules", "target_regex", "lora_modules_to_save", "lora_dtype")
_FULL_READS = (
    "freeze_parameters_ratio",
    "freeze_parameters",
    "freeze_parameters_regex",
    "trainable_parameters",
    "trainable_parameters_regex",
)
_MORE = "swiftlite.tuners.more_peft.tuners:"
_NO_WHOLE = "use an adapter (--sft_type lora), or leave it away"
_BAT_READS_WEIGHTS = _few_bits(
    "stores weights as codes, and --miss_variant bat multiplies by the weights themselves",
    "use --miss_variant balance, or leave it away",
    {"miss_variant": "bat"},
)
_SHARED_ROWS = Refusal(
    "packing",
    "joins documents, which would share the learned tokens in front of their row",
    "pass --packing false",
)
_IN_A_CACHE = (
    Refusal("checkpointing", "computes layers twice, and the learned keys and values would fill their cache twice"),
    Refusal("compile", "makes graphs that take no cache, and the learned keys and values are in one"),
)

register_tuner(TunerEntry("lora", "swiftlite.tuners.lora.tuner:LoraTuner", LoraOptions))
register_tuner(
    TunerEntry(
        "full",
        "swiftlite.tuners.lisa.tuner:full_tuner",
        LisaOptions,
        whole=True,
        reads=_FULL_READS,
        refuses=_few_bits("stores frozen weights and --sft_type full trains them", _NO_WHOLE),
        settle=settle_lisa,
    )
)
register_tuner(TunerEntry("adapter", "swiftlite.tuners.bottleneck.tuner:AdapterTuner", AdapterOptions))
register_tuner(
    TunerEntry(
        "llamapro",
        "swiftlite.tuners.llamapro.tuner:LlamaproTuner",
        LlamaproOptions,
        whole=True,
        refuses=_few_bits("stores frozen weights in few bits and --sft_type llamapro saves whole ones", _NO_WHOLE),
    )
)
register_tuner(
    TunerEntry(
        "adalora",
        "swiftlite.tuners.adalora.tuner:AdaloraTuner",
        AdaloraOptions,
        reads=(*_PEFT_READS, "lora_alpha", "lora_dropout"),
    )
)
register_tuner(TunerEntry("ia3", _MORE + "Ia3Tuner", Ia3Options, reads=_PEFT_READS))
register_tuner(TunerEntry("vera", _MORE + "VeraTuner", VeraOptions, reads=_PEFT_READS))
register_tuner(TunerEntry("boft", _MORE + "BoftTuner", BoftOptions, reads=_PEFT_READS))
register_tuner(TunerEntry("oft", _MORE + "OftTuner", OftOptions, reads=_PEFT_READS))
register_tuner(TunerEntry("fourierft", _MORE + "FourierftTuner", FourierftOptions, reads=_PEFT_READS))
register_tuner(TunerEntry("miss", _MORE + "MissTuner", MissOptions, reads=_PEFT_READS, refuses=_BAT_READS_WEIGHTS))
register_tuner(
    TunerEntry("longlora", "swiftlite.tuners.longlora.tuner:LongLoraTuner", LoraOptions, settle=settle_longlora)
)
register_tuner(TunerEntry("loreft", "swiftlite.tuners.loreft.tuner:LoreftTuner", LoreftOptions, settle=settle_loreft))
for _name, _class, _more in (
    ("prompt_tuning", "PromptTuner", ()),
    ("prefix_tuning", "PrefixTuner", _IN_A_CACHE),
    ("p_tuning", "PTuner", ()),
):
    register_tuner(
        TunerEntry(
            _name,
            f"swiftlite.tuners.prompt.tuner:{_class}",
            PromptOptions,
            refuses=(_SHARED_ROWS, *_more),
            settle=settle_prompt,
        )
    )

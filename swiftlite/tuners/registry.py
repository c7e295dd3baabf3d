"""The names of `--sft_type`: each leads to a settings class (torch-free) and, when used, to the tuner itself."""

import dataclasses
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from swiftlite.config.errors import UserError
from swiftlite.config.options import closest
from swiftlite.tuners.longlora.config import settle_longlora
from swiftlite.tuners.lora.config import LoraOptions
from swiftlite.tuners.loreft.config import LoreftOptions, settle_loreft
from swiftlite.tuners.prompt.config import PromptOptions, settle_prefix, settle_prompt

if TYPE_CHECKING:
    from swiftlite.tuners.tuner import Tuner


@dataclasses.dataclass(frozen=True)
class TunerEntry:
    """One tuner.

    Attributes:
        name: the value of `--sft_type`.
        target: `module:Class` of the Tuner.
        options: its settings class, or None; several tuners may share one.
        settle: called with a training command's settings before anything is loaded: sets what the tuner brings along,
            and raises a UserError for what cannot go together with it.
    """

    name: str
    target: str
    options: type | None = None
    settle: Callable[[Any], None] | None = None


_TUNERS: dict[str, TunerEntry] = {}


def register_tuner(entry: TunerEntry) -> None:
    """Adds a tuner; its settings become flags of every training command."""
    _TUNERS[entry.name] = entry


def tuner_parts() -> dict[str, type]:
    """Settings classes of all tuners, by the name of their part."""
    return {e.options.__name__.removesuffix("Options").lower(): e.options for e in _TUNERS.values() if e.options}


def idle_parts(name: str) -> set[str]:
    """Parts of other tuners' settings, which this one does not read."""
    parts = tuner_parts()
    return {part for part, options in parts.items() if options is not _TUNERS[name].options}


def check_tuner_name(name: str) -> None:
    """Raises a UserError when no tuner has that name."""
    if name not in _TUNERS:
        near = closest(name, list(_TUNERS))
        raise UserError(f"--sft_type: '{name}' is none of {', '.join(_TUNERS)}{near}")


def settle_tuner(config: Any) -> None:
    """Lets the tuner of a training command's settings complete them.

    Raises:
        UserError: no tuner has that name, or it cannot work with these settings.
    """
    check_tuner_name(config.tuner.sft_type)
    settle = _TUNERS[config.tuner.sft_type].settle
    if settle is not None:
        settle(config)


def make_tuner(name: str, config: Any) -> "Tuner":
    """The tuner of that name for a command's settings (which hold its part)."""
    check_tuner_name(name)
    entry = _TUNERS[name]
    module, cls = entry.target.split(":")
    return getattr(importlib.import_module(module), cls)(config)


register_tuner(TunerEntry("lora", "swiftlite.tuners.lora.tuner:LoraTuner", LoraOptions))
register_tuner(TunerEntry("full", "swiftlite.tuners.full.tuner:FullTuner"))
register_tuner(TunerEntry("longlora", "swiftlite.tuners.longlora.tuner:LongLoraTuner", LoraOptions, settle_longlora))
register_tuner(TunerEntry("loreft", "swiftlite.tuners.loreft.tuner:LoreftTuner", LoreftOptions, settle_loreft))
register_tuner(TunerEntry("prompt_tuning", "swiftlite.tuners.prompt.tuner:PromptTuner", PromptOptions, settle_prompt))
register_tuner(TunerEntry("prefix_tuning", "swiftlite.tuners.prompt.tuner:PrefixTuner", PromptOptions, settle_prefix))
register_tuner(TunerEntry("p_tuning", "swiftlite.tuners.prompt.tuner:PTuner", PromptOptions, settle_prompt))

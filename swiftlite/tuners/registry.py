"""The names of `--sft_type`: each leads to a settings class (torch-free) and, when used, to the tuner itself."""

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any

from swiftlite.config.errors import UserError
from swiftlite.config.options import closest
from swiftlite.tuners.bottleneck.config import AdapterOptions
from swiftlite.tuners.lisa.config import LisaOptions
from swiftlite.tuners.llamapro.config import LlamaproOptions
from swiftlite.tuners.lora.config import LoraOptions

if TYPE_CHECKING:
    from swiftlite.tuners.tuner import Tuner


@dataclasses.dataclass(frozen=True)
class TunerEntry:
    """One tuner.

    Attributes:
        name: the value of `--sft_type`.
        target: `module:Class` of the Tuner, or a function that makes it.
        options: its settings class, or None; several tuners may share one.
        whole: it saves whole weights, which a quantised base does not have.
    """

    name: str
    target: str
    options: type | None = None
    whole: bool = False


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


def find_tuner(name: str) -> TunerEntry:
    """The tuner of that name.

    Raises:
        UserError: there is none.
    """
    check_tuner_name(name)
    return _TUNERS[name]


def make_tuner(name: str, config: Any) -> "Tuner":
    """The tuner of that name for a command's settings (which hold its part)."""
    entry = find_tuner(name)
    module, cls = entry.target.split(":")
    return getattr(importlib.import_module(module), cls)(config)


register_tuner(TunerEntry("lora", "swiftlite.tuners.lora.tuner:LoraTuner", LoraOptions))
register_tuner(TunerEntry("full", "swiftlite.tuners.lisa.tuner:full_tuner", LisaOptions, whole=True))
register_tuner(TunerEntry("adapter", "swiftlite.tuners.bottleneck.tuner:AdapterTuner", AdapterOptions))
register_tuner(TunerEntry("llamapro", "swiftlite.tuners.llamapro.tuner:LlamaproTuner", LlamaproOptions, whole=True))

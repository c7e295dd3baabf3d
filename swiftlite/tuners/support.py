"""What a tuner may be asked to go with (packing, fp8, ...), and what it refuses, with the reason."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Feature -> how a table heads it, and what a user passes (in tests: how a run is asked for it).
FEATURES: dict[str, tuple[str, dict[str, Any]]] = {
    "packing": ("packing", {"packing": True}),
    "compile": ("compile", {"torch_compile": True}),
    "fp8": ("fp8 base", {"quant_method": "fp8"}),
    "bnb": ("4-bit base", {"quant_method": "bnb"}),
    "checkpointing": ("checkpointing", {"gradient_checkpointing": "full"}),
    "ddp": ("several GPUs", {}),
}


@dataclass(frozen=True)
class Refusal:
    """A feature that a tuner cannot have.

    Attributes:
        feature: of FEATURES.
        why: ends the sentence `--flag value ...`.
        instead: what to do.
        when: settings that this is true for; none: always.
    """

    feature: str
    why: str
    instead: str = "leave it away"
    when: Mapping[str, Any] = field(default_factory=dict)

    def sentence(self) -> str:
        """What the user is told."""
        flags = " ".join(f"--{flag} {_word(value)}" for flag, value in FEATURES[self.feature][1].items())
        return f"{flags or 'several processes:'} {self.why}; {self.instead}"


def find_refusal(refusals: tuple[Refusal, ...], feature: str, settings: Mapping[str, Any]) -> Refusal | None:
    """The refusal of that feature under these settings, or None where the tuner works with it."""
    return next(
        (r for r in refusals if r.feature == feature and all(settings.get(k) == v for k, v in r.when.items())), None
    )


def features_asked(settings: Mapping[str, Any], world_size: int = 1) -> list[str]:
    """The features that these settings ask for by name."""
    asked = [
        name for name, (_, flags) in FEATURES.items() if flags and all(settings.get(k) == v for k, v in flags.items())
    ]
    return asked + ["ddp"] * (world_size > 1)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

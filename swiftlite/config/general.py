"""Settings that every command has."""

from dataclasses import dataclass
from typing import Literal

from swiftlite.config.errors import UserError
from swiftlite.config.options import option


@dataclass
class GeneralConfig:
    preset: Literal["modern", "seed"] = option(
        "modern", "defaults: today's good practice, or those of ms-swift's old benchmark tables"
    )
    plugin: list[str] = option([], "Python files that register your own models, templates, datasets or tuners")
    seed: int = option(42, "seed of everything random")

    def check(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise UserError(f"--seed: {self.seed} is not between 0 and {2**32 - 1}")

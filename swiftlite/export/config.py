"""Settings of `swiftlite export`: what is made of a checkpoint, and where it goes."""

from dataclasses import dataclass
from typing import ClassVar

from swiftlite.config.command import CommandConfig
from swiftlite.config.errors import UserError
from swiftlite.config.general import GeneralConfig
from swiftlite.config.options import option
from swiftlite.models.config import ModelConfig


@dataclass
class ExportOptions:
    merge_lora: bool = option(False, "fold the adapter into its base and write the whole model")
    output_dir: str | None = option(None, "folder for what is written; none: the checkpoint's, with -merged behind it")

    def check(self) -> None:
        if not self.merge_lora:
            raise UserError("nothing to export: pass --merge_lora true to fold an adapter into its base")


class ExportConfig(CommandConfig):
    """Settings of `swiftlite export`."""

    command: ClassVar[str] = "export"
    parts: ClassVar[dict[str, type]] = {"general": GeneralConfig, "model": ModelConfig, "export": ExportOptions}

    general: GeneralConfig
    model: ModelConfig
    export: ExportOptions

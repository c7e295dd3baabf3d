"""Settings of `swiftlite doctor`."""

from typing import ClassVar

from swiftlite.config.command import CommandConfig
from swiftlite.config.general import GeneralConfig


class DoctorConfig(CommandConfig):
    """`swiftlite doctor` looks at the machine; there is nothing to set."""

    command: ClassVar[str] = "doctor"
    parts: ClassVar[dict[str, type]] = {"general": GeneralConfig}

    general: GeneralConfig

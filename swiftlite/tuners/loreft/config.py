"""Settings of LoReFT, and how positions are written."""

import re
from dataclasses import dataclass
from typing import Any

from swiftlite.config.errors import UserError
from swiftlite.config.options import option

_POSITIONS = re.compile(r"f(\d+)(?:\+l(\d+))?|l(\d+)")


@dataclass
class LoreftOptions:
    reft_rank: int = option(4, "loreft: dimensions that an edit acts in", rare=True)
    reft_layers: list[int] = option([], "loreft: layers whose output is edited, from 0; none: all", rare=True)
    reft_positions: str = option(
        "f7+l7",
        "loreft: the tokens that are edited: all, or of each prompt the first N and the last M as fN+lM, fN or lM",
        rare=True,
    )

    def check(self) -> None:
        if self.reft_rank < 1:
            raise UserError(f"--reft_rank: {self.reft_rank} is not a rank; expected 1 or more, usually 4 to 32")
        read_positions(self.reft_positions)


def read_positions(text: str) -> tuple[int, int] | None:
    """(first, last) tokens of a prompt; None: all tokens.

    Raises:
        UserError: it is written in no known way.
    """
    if text == "all":
        return None
    match = _POSITIONS.fullmatch(text)
    first, last = (int(match[1] or 0), int(match[2] or match[3] or 0)) if match else (0, 0)
    if first + last == 0:
        raise UserError(f"--reft_positions: '{text}' is neither all nor of the form f7+l7, f7 or l7")
    return first, last


def settle_loreft(config: Any) -> None:
    """Raises a UserError where prompts are to be edited and there are none."""
    if config.command == "pt" and config.loreft.reft_positions != "all":
        raise UserError(
            f"--reft_positions {config.loreft.reft_positions} edits prompts, and texts have none; pass "
            f"--reft_positions all"
        )

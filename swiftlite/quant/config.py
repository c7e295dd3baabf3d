"""Settings: how frozen weights are stored."""

from dataclasses import dataclass
from typing import Literal

from swiftlite.config.errors import UserError
from swiftlite.config.options import option


@dataclass
class QuantOptions:
    quant_method: Literal["none", "fp8", "bnb"] = option(
        "none",
        "storage of the frozen weights of the layers. fp8: 8-bit floats, whose products run at twice the speed of bf16 "
        "(changes the numbers a little; compute capability 8.9 and above); bnb: 4-bit nf4 of bitsandbytes",
    )
    fp8_copies: int = option(
        1, "fp8: 2 keeps the transposed weights too, instead of transposing in each backward pass", rare=True
    )
    fp8_from_layer: int = option(
        0,
        "fp8: decoder layers before this one, counted from 0, stay as they are; 1 leaves out the first, to which the "
        "loss is the most sensitive",
        rare=True,
    )

    def check(self) -> None:
        if self.fp8_copies not in (1, 2):
            raise UserError(f"--fp8_copies {self.fp8_copies}: expected 1, or 2 to keep the transposed weights too")
        if self.fp8_copies == 2 and self.quant_method != "fp8":
            raise UserError(f"--fp8_copies 2 is for --quant_method fp8, not {self.quant_method}; leave it away")
        if self.fp8_from_layer < 0:
            raise UserError(
                f"--fp8_from_layer {self.fp8_from_layer}: expected the number of a decoder layer, from 0 up"
            )
        if self.fp8_from_layer and self.quant_method != "fp8":
            raise UserError(
                f"--fp8_from_layer {self.fp8_from_layer} is for --quant_method fp8, not {self.quant_method}; leave it "
                "away"
            )

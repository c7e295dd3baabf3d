"""Settings of IA3, VeRA, BOFT, OFT, FourierFT and MiSS; targets are those of --lora_target_modules."""

from dataclasses import dataclass
from typing import Literal

from swiftlite.config.errors import UserError
from swiftlite.config.options import option


@dataclass
class Ia3Options:
    ia3_feedforward_modules: list[str] = option(
        [], "ia3: targets whose input is scaled instead of their output; none: the MLPs' last layers", rare=True
    )

    def check(self) -> None:
        """Which modules there are is known once the model is."""


@dataclass
class VeraOptions:
    vera_rank: int = option(256, "vera: rank of the two random matrices that all layers share", rare=True)
    vera_dropout: float = option(0.0, "vera: dropout on the adapter's input", rare=True)
    vera_d_initial: float = option(0.1, "vera: where the trained vector d starts", rare=True)
    vera_projection_prng_key: int = option(0, "vera: seed of the random matrices", rare=True)

    def check(self) -> None:
        _above_zero("vera_rank", self.vera_rank)
        _share("vera_dropout", self.vera_dropout)


@dataclass
class BoftOptions:
    boft_block_size: int = option(4, "boft: size of the orthogonal blocks; 0: given by --boft_block_num", rare=True)
    boft_block_num: int = option(0, "boft: blocks a layer; 0: given by --boft_block_size", rare=True)
    boft_dropout: float = option(0.0, "boft: share of blocks left out at random", rare=True)

    def check(self) -> None:
        _one_of("boft_block_size", self.boft_block_size, "boft_block_num", self.boft_block_num)
        _share("boft_dropout", self.boft_dropout)


@dataclass
class OftOptions:
    oft_block_size: int = option(32, "oft: size of the orthogonal blocks; 0: given by --oft_block_num", rare=True)
    oft_block_num: int = option(0, "oft: blocks a layer; 0: given by --oft_block_size", rare=True)
    oft_dropout: float = option(0.0, "oft: share of blocks left out at random", rare=True)

    def check(self) -> None:
        _one_of("oft_block_size", self.oft_block_size, "oft_block_num", self.oft_block_num)
        _share("oft_dropout", self.oft_dropout)


@dataclass
class FourierftOptions:
    fourier_n_frequency: int = option(2000, "fourierft: trained entries of each layer's spectrum", rare=True)
    fourier_scaling: float = option(300.0, "fourierft: factor of the update", rare=True)

    def check(self) -> None:
        _above_zero("fourier_n_frequency", self.fourier_n_frequency)
        _above_zero("fourier_scaling", self.fourier_scaling)


@dataclass
class MissOptions:
    miss_rank: int = option(64, "miss: rows of the one trained matrix, which the input is summed up to", rare=True)
    miss_dropout: float = option(0.0, "miss: dropout on the adapter's input", rare=True)
    miss_variant: Literal["balance", "bat"] = option(
        "balance", "miss: bat multiplies the trained blocks by the weights too (slower)", rare=True
    )

    def check(self) -> None:
        _above_zero("miss_rank", self.miss_rank)
        _share("miss_dropout", self.miss_dropout)
        if self.miss_dropout and self.miss_variant == "bat":
            raise UserError("--miss_dropout: --miss_variant bat has no input of its own to drop; leave it away")


def _above_zero(flag: str, value: float) -> None:
    if value <= 0:
        raise UserError(f"--{flag}: {value} must be above 0")


def _share(flag: str, value: float) -> None:
    if not 0 <= value < 1:
        raise UserError(f"--{flag}: {value} is not between 0 and 1")


def _one_of(first: str, one: int, second: str, other: int) -> None:
    if min(one, other) < 0 or (one == 0) == (other == 0):
        raise UserError(
            f"--{first} {one} --{second} {other}: a layer's width is their product; give one, and 0 for the other"
        )

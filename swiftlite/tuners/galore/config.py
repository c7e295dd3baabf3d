"""Settings of GaLore (arXiv 2403.03507) and Q-GaLore (arXiv 2407.08296)."""

from dataclasses import dataclass
from typing import Literal

from swiftlite.config.errors import UserError
from swiftlite.config.options import option


@dataclass
class GaloreOptions:
    use_galore: bool = option(
        False, "full: AdamW sees the gradients of linear layers in few dimensions (GaLore), so its states are small"
    )
    galore_rank: int = option(128, "GaLore: dimensions a gradient is projected to")
    galore_update_proj_gap: int = option(
        200, "GaLore: steps between new projections; on a GPU a 7B model's take some seconds", rare=True
    )
    galore_scale: float = option(1.0, "GaLore: factor of the projected updates", rare=True)
    galore_proj_type: Literal["std", "reverse_std", "right", "left", "full"] = option(
        "std",
        "GaLore: which side of a gradient is projected: the shorter (std: smallest bases), the longer (reverse_std), "
        "the columns' (right), the rows' (left) or both (full)",
        rare=True,
    )
    galore_with_embedding: bool = option(
        False, "GaLore: project the token embedding's gradient too, not those of linear layers alone", rare=True
    )
    galore_quantization: bool = option(
        False,
        "Q-GaLore: states in 8 bits, and a matrix whose projection hardly changes gets new ones less often",
        rare=True,
    )
    galore_proj_quant: bool = option(True, "Q-GaLore: keep projections in galore_proj_bits", rare=True)
    galore_proj_bits: int = option(4, "Q-GaLore: bits of an element of a projection: 4 or 8", rare=True)
    galore_cos_threshold: float = option(
        0.4,
        "Q-GaLore: first directions of two projections with at least this cosine count as hardly changed",
        rare=True,
    )
    galore_gamma_proj: float = option(2.0, "Q-GaLore: factor of the gap of such a matrix", rare=True)
    galore_queue_size: int = option(5, "Q-GaLore: projections over which the cosine is averaged", rare=True)

    def check(self) -> None:
        for name in ("galore_rank", "galore_update_proj_gap", "galore_queue_size"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name}: {getattr(self, name)} must be 1 or more")
        if self.galore_scale <= 0:
            raise UserError(f"--galore_scale: {self.galore_scale} must be above 0 (the paper uses 0.25 to 2)")
        if self.galore_proj_bits not in (4, 8):
            raise UserError(f"--galore_proj_bits: {self.galore_proj_bits} is neither 4 nor 8")
        if not 0 <= self.galore_cos_threshold <= 1:
            raise UserError(f"--galore_cos_threshold: {self.galore_cos_threshold} is not between 0 and 1")
        if self.galore_gamma_proj < 1:
            raise UserError(f"--galore_gamma_proj: {self.galore_gamma_proj} must be 1 or more: gaps only grow")

"""Which weights GaLore projects, on which side, and what that leaves to keep."""

from collections.abc import Sequence

from torch import nn
from transformers.pytorch_utils import Conv1D

from swiftlite.config.errors import UserError
from swiftlite.quant.blockwise import BLOCK
from swiftlite.tuners.galore.config import GaloreOptions


def projected_weights(model: nn.Module, rank: int, *, with_embedding: bool = False) -> list[nn.Parameter]:
    """The trained matrices of linear layers but the head, with the token embedding's if wanted; none twice.

    A matrix with a side no longer than the rank has nothing to gain and is left out.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()  # pyrefly: ignore
    modules = [m for m in model.modules() if isinstance(m, (nn.Linear, Conv1D)) and m is not head]
    if with_embedding:
        modules.append(embedding)
    inside = {id(m.weight) for m in modules} - (set() if with_embedding else {id(embedding.weight)})
    return [p for p in model.parameters() if id(p) in inside and p.requires_grad and min(p.shape) > rank]


def projected_sides(shape: Sequence[int], kind: str) -> list[str]:
    """The sides of a (rows, columns) gradient that `--galore_proj_type` projects: `left` its rows, `right` its columns.

    As in the authors' package: std makes the shorter side's bases, right for a square; reverse_std the other.
    """
    rows, columns = shape
    tall = rows >= columns
    return {
        "std": ["right"] if tall else ["left"],
        "reverse_std": ["left"] if tall else ["right"],
        "right": ["right"],
        "left": ["left"],
        "full": ["left", "right"],
    }[kind]


def projected_state_bytes(weight: nn.Parameter, options: GaloreOptions, *, small_states: bool) -> int:
    """Bytes that GaloreAdamW keeps for a weight from its first step on."""
    sides = projected_sides(weight.shape, options.galore_proj_type)
    rank = options.galore_rank
    left, right = (length if side not in sides else rank for side, length in zip(("left", "right"), weight.shape))
    blocks = -(-left * right // BLOCK)
    moments = 2 * blocks * (BLOCK + 4) if small_states or options.galore_quantization else 8 * left * right
    bases = 0
    for side, length in zip(("left", "right"), weight.shape):
        if side in sides and options.galore_quantization and options.galore_proj_quant:
            bases += -(-length * rank // BLOCK) * (BLOCK * options.galore_proj_bits // 8 + 8)
        elif side in sides:
            bases += length * rank * weight.element_size()
    return moments + bases


def describe_galore(model: nn.Module, options: GaloreOptions) -> str:
    """A line for the header.

    Raises:
        UserError: no weight can be projected.
    """
    weights = projected_weights(model, options.galore_rank, with_embedding=options.galore_with_embedding)
    if not weights:
        largest = max((min(p.shape) for p in model.parameters() if p.requires_grad and p.dim() == 2), default=0)
        raise UserError(
            f"--galore_rank {options.galore_rank}: no trained linear layer has both sides above that rank; give less "
            f"than {largest}, or leave --use_galore away"
        )
    elements, trained = sum(w.numel() for w in weights), sum(p.numel() for p in model.parameters() if p.requires_grad)
    name = "Q-GaLore" if options.galore_quantization else "GaLore"
    return (
        f"{name}: {len(weights)} matrices with {elements / trained:.0%} of what is trained in {options.galore_rank} "
        f"dimensions, found anew every {options.galore_update_proj_gap} steps; AdamW sees the rest whole"
    )

"""LoReFT on a model: the edits, and where they act."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from swiftlite.config.errors import UserError
from swiftlite.models.layers import find_layers
from swiftlite.speed.documents import document_of

_NAME = "loreft"


class Positions:
    """Which tokens of the batch in hand are edited: the first and the last so many of each prompt.

    In training a prompt is what stands before a document's first trained token, and the loss tells where that is. A
    forward pass without the loss takes all it is given for the prompt, and with a filled cache nothing: so `generate`
    edits the prompt and then reads what that left in the cache.
    """

    def __init__(self, first: int, last: int):
        self.first = first
        self.last = last
        # (batch, seq), true where an edit acts; None: nowhere.
        self.chosen: Tensor | None = None
        self._told: Tensor | None = None

    def watch(self, borders: Tensor, labels: Tensor) -> None:
        """Finds the prompts of the batch that comes next: (documents + 1,) borders, (batch, seq) shifted labels."""
        tokens = labels.numel()
        places = torch.arange(tokens, device=labels.device)
        document = document_of(borders, tokens)
        starts = borders[:-1].long()
        # The label at a place is the token after it: the first trained one stands behind the last of its prompt.
        trained = torch.where(labels.flatten() >= 0, places, tokens)
        ends = torch.full_like(starts, tokens).scatter_reduce(0, document, trained, "amin")
        self._told = self._choose(places - starts[document], ends[document] - places).view(labels.shape)

    def before_decoder(self, decoder: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        """A forward pre-hook of the decoder, with keyword arguments."""
        self.chosen, self._told = self._told, None
        if self.chosen is not None:
            return
        inputs = next(x for x in (given.get("input_ids"), given.get("inputs_embeds"), *args) if x is not None)
        real = torch.ones(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
        cache = given.get("past_key_values")
        if cache is not None and cache.get_seq_length() > 0:
            return
        mask = given.get("attention_mask")
        if isinstance(mask, Tensor) and mask.dim() == 2:
            real = mask.bool()
        from_start = real.cumsum(1) - 1
        self.chosen = self._choose(from_start, real.sum(1, keepdim=True) - 1 - from_start) & real

    def _choose(self, from_start: Tensor, to_end: Tensor) -> Tensor:
        """True for the first and last places of a prompt, by the distance to its first and last token."""
        return (to_end >= 0) & ((from_start < self.first) | (to_end < self.last))


class Intervention(nn.Module):
    """h + Rᵀ(Wh + b − Rh), with orthonormal rows of R (Wu et al., arXiv 2404.03592, equation 2).

    R is the `rotation` with its rows made orthonormal (Gram-Schmidt by Cholesky's factor), so any optimizer can train
    it. It starts at random and W equal to it with b zero: the edit starts as none. Weights are fp32.

    Args:
        positions: which tokens are edited; None: all.
    """

    def __init__(self, width: int, rank: int, positions: Positions | None, device: torch.device):
        super().__init__()
        self.rotation = nn.Parameter(torch.empty(rank, width, device=device))
        self.weight = nn.Parameter(torch.empty(rank, width, device=device))
        self.bias = nn.Parameter(torch.zeros(rank, device=device))
        self.positions = positions
        with torch.no_grad():
            nn.init.orthogonal_(self.rotation)
            self.weight.copy_(self.rotation)

    def rows(self) -> Tensor:
        """R, (rank, width) fp32: rows of length 1, at right angles to each other."""
        with torch.autocast(self.rotation.device.type, enabled=False):
            # Without its check for errors, for which the host would wait.
            factor = torch.linalg.cholesky_ex(self.rotation @ self.rotation.T).L
            return torch.linalg.solve_triangular(factor, self.rotation, upper=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """The edited states, (batch, seq, width) in their own precision."""
        chosen = None if self.positions is None else self.positions.chosen
        if self.positions is not None and chosen is None:
            return hidden
        rows = self.rows()
        # In fp32, as W and R start equal.
        difference = (self.weight - rows).to(hidden.dtype)
        edit = F.linear(F.linear(hidden, difference, self.bias.to(hidden.dtype)), rows.T.to(hidden.dtype))
        edit = edit.to(hidden.dtype)
        return hidden + (edit if chosen is None else edit * chosen[..., None])


def add_interventions(model: PreTrainedModel, rank: int, layers: list[int], positions: tuple[int, int] | None) -> None:
    """Puts an intervention behind each of these layers (none named: all).

    Raises:
        UserError: a layer that is not there, or a rank above the model's width.
    """
    found = find_layers(model)
    width = model.config.get_text_config().hidden_size
    if found is None:
        raise UserError(f"--sft_type loreft: {type(model).__name__} has no list of decoder layers")
    wrong = [n for n in layers if not 0 <= n < len(found)]
    if wrong:
        raise UserError(f"--reft_layers: {wrong[0]} is no layer of this model; it has 0 to {len(found) - 1}")
    if rank > width:
        raise UserError(f"--reft_rank: {rank} is more than the width of this model's states, {width}")
    where = None if positions is None else Positions(*positions)
    for number in layers or range(len(found)):
        layer = found[number]
        layer.add_module(_NAME, Intervention(width, rank, where, next(layer.parameters()).device))
        layer.register_forward_hook(_intervene)
    if where is not None:
        model.base_model.register_forward_pre_hook(where.before_decoder, with_kwargs=True)


def _intervene(layer: nn.Module, args: Any, output: Any) -> Any:
    """One function for all layers, so that compiled ones share a graph."""
    intervention = cast(Intervention, layer.get_submodule(_NAME))
    if isinstance(output, tuple):
        return (intervention(output[0]), *output[1:])
    return intervention(output)

"""NEFTune: noise on the embeddings, in training only, as large as each document's length allows."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from swiftlite.config.errors import UserError
from swiftlite.speed.documents import document_of
from swiftlite.speed.loss import LossModule


class EmbeddingNoise:
    """Uniform noise within ±alpha / sqrt(L · d) (Jain et al., arXiv 2310.05914, algorithm 1).

    L is the number of real tokens of the document that a token is in, d the width of its embedding. The noise is drawn
    from the device's global generator, whose state is in every checkpoint: a resumed run draws on.

    Args:
        alpha: usually 5 to 15.
    """

    def __init__(self, alpha: float):
        self.alpha = alpha
        self._borders: Tensor | None = None

    def watch(self, borders: Tensor, labels: Tensor) -> None:
        """Notes the (documents + 1,) borders of the batch that the embedding sees next."""
        self._borders = borders

    def __call__(self, embedding: nn.Module, inputs: tuple[Tensor, ...], embedded: Tensor) -> Tensor:
        """A forward hook of the embedding, whose output is (batch, seq, d)."""
        borders, self._borders = self._borders, None
        if not embedding.training:
            return embedded
        batch, seq, width = embedded.shape
        if borders is None:
            # Called without its loss: each row is a document.
            lengths = torch.full((batch, 1), seq, device=embedded.device)
        else:
            lengths = borders.diff()[document_of(borders, batch * seq)].view(batch, seq)
        largest = (self.alpha / (lengths.float() * width).sqrt()).to(embedded.dtype)
        return embedded + torch.empty_like(embedded).uniform_(-1, 1) * largest[..., None]


def add_noise(loss: LossModule, alpha: float | None) -> None:
    """Puts the noise of `--neftune_noise_alpha` on the embedding of the loss's model; none or 0: no noise.

    To be called when the tuner is on the model: it may have put a layer of its own in the embedding's place.

    Raises:
        UserError: the model has no embedding that is a layer of its own.
    """
    if not alpha:
        return
    model: PreTrainedModel = loss.model  # pyrefly: ignore
    embedding = model.get_input_embeddings()
    if not isinstance(embedding, nn.Module):
        raise UserError(f"--neftune_noise_alpha {alpha}: {type(model).__name__} has no embedding to put noise on")
    noise = EmbeddingNoise(alpha)
    embedding.register_forward_hook(noise)
    loss.watchers.append(noise.watch)

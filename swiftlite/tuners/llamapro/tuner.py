"""LLaMA-Pro: a deeper model whose new layers alone are trained."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from swiftlite.config.errors import UserError
from swiftlite.models.layers import find_layers
from swiftlite.tuners.llamapro.expansion import expand
from swiftlite.tuners.tuner import Tuner, refuse_new_tokens

# In the config.json of an expanded model: the numbers of its new layers. Other tools pass over it.
NEW_LAYERS = "llamapro_new_layers"


class LlamaproTuner(Tuner):
    """Progressive LLaMA with block expansion (Wu et al., "LLaMA Pro", arXiv 2401.02415).

    What is saved is a whole model with more layers, which transformers opens as any other.
    """

    def apply(self, model: PreTrainedModel, new_tokens: Sequence[int] = ()) -> nn.Module:
        """Adds the new layers and freezes the rest; a model expanded earlier goes on with the new layers it has.

        Raises:
            UserError: the model cannot be expanded so, or tokens are new while the embedding is frozen.
        """
        refuse_new_tokens("llamapro", new_tokens)
        o = self.config.llamapro
        numbers = getattr(model.config, NEW_LAYERS, None)
        if numbers is None:
            numbers = expand(model, o.llamapro_num_new_blocks, o.llamapro_num_groups or o.llamapro_num_new_blocks)
            setattr(model.config, NEW_LAYERS, numbers)
            words = "added, silent at first; the model computes what it did"
        else:
            words = "there from an earlier run, are trained further; none are added"
        self.notes.append(f"llamapro: layers {', '.join(map(str, numbers))} {words}")
        layers = find_layers(model)
        assert layers is not None
        model.requires_grad_(False)
        for number in numbers:
            layers[number].requires_grad_(True)
        return model

    def load(self, model: PreTrainedModel, folder: Path) -> nn.Module:
        raise UserError(
            f"--sft_type llamapro cannot train on top of the adapter {folder}; continue it with the tuner it was made "
            "by, or merge it first"
        )

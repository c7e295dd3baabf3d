"""The training loss: next-token cross-entropy weighted by token; after the model, or fused with its head."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.adalora import AdaLoraModel
from peft.tuners.tuners_utils import BaseTuner
from peft.utils.other import ModulesToSaveWrapper, TrainableTokensWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel

from swiftlite.data.collate import IGNORED, Batch
from swiftlite.models.modes import in_mode
from swiftlite.models.native.baichuan import NormHead
from swiftlite.speed.autocast import product_dtype
from swiftlite.speed.documents import document_borders
from swiftlite.speed.linear_cross_entropy import (
    finish_logits,
    linear_cross_entropy,
    tokens_per_chunk,
)
from swiftlite.speed.unique_rows import take_unique_rows
from swiftlite.speed.varlen import forward_inputs

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
# Relative differences that rounding stays under.
_ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 2e-2}
# Largest logit of the probe: caps of 30 to 50 bend such logits, but leave the small ones of a new model alone.
_PROBE_LOGIT = 60.0
_PROBE_SHAPE = (2, 16)


@dataclass(frozen=True)
class Finish:
    """What a model does to its logits after the head; see `finish_logits`."""

    softcap: float | None = None
    scale: float = 1.0


class LossModule(nn.Module):
    """A model with its loss behind it: what DDP wraps, so that its hooks run in either path.

    Args:
        model: a transformers causal LM, bare or in PEFT.
        finish: what follows the head in the fused path; None for the plain path. `choose_loss` knows.

    Attributes:
        watchers: called with each batch's document borders and labels before the model sees it, for what acts by
            document inside the model (noise on embeddings, interventions on prompts).
    """

    def __init__(self, model: nn.Module, finish: Finish | None = None):
        super().__init__()
        self.model = model
        self.finish = finish
        self.watchers: list[Callable[[Tensor, Tensor], None]] = []

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        labels: Tensor,
        weights: Tensor,
        cu_seqlens: Tensor | None = None,
        max_seqlen: int | None = None,
        trained_positions: Tensor | None = None,
        row_lengths: Tensor | None = None,
    ) -> Tensor:
        """The sum of weighted next-token losses, in nats (0-d float32); `loss_inputs` names the fields of a `Batch`.

        The caller divides by the sum of the weights of *all* micro-batches of the step on all processes, so the
        result does not depend on how rows are spread over micro-batches and devices. Where `trained_positions` are
        given, the fused path multiplies the head by them alone.
        """
        if self.watchers:
            borders = document_borders(input_ids, cu_seqlens, row_lengths)
            for watcher in self.watchers:
                watcher(borders, labels)
        given = forward_inputs(self.model, input_ids, attention_mask, position_ids, cu_seqlens, max_seqlen, row_lengths)
        if self.finish is None:
            # Learned tokens of PEFT's stand in front of each row; nobody predicts what follows them.
            logits = self.model(**given, use_cache=False).logits[:, -input_ids.shape[1] :]
            losses = F.cross_entropy(
                logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
            )
            return (losses * weights.flatten()).sum()
        causal = _causal_model(self.model)
        hidden = causal.base_model(**given, use_cache=False).last_hidden_state
        weight, bias = _head_weight(causal.get_output_embeddings())  # pyrefly: ignore
        rows = [hidden.flatten(0, 1), labels.flatten(), weights.flatten()]
        if trained_positions is not None:
            rows = [take_unique_rows(each, trained_positions) for each in rows]
        return linear_cross_entropy(
            rows[0],
            weight,
            bias,
            rows[1],
            rows[2],
            softcap=self.finish.softcap,
            scale=self.finish.scale,
            chunk_tokens=tokens_per_chunk(weight.shape[0], product_dtype(hidden), hidden.device.type),
        )


def loss_inputs(batch: Batch) -> dict[str, Any]:
    """What of a batch a `LossModule`, bare or in DDP, is called with."""
    names = ("input_ids", "attention_mask", "position_ids", "labels", "weights")
    names += ("cu_seqlens", "max_seqlen", "trained_positions", "row_lengths")
    return {name: getattr(batch, name) for name in names}


def choose_loss(model: nn.Module, wanted: str, notes: list[str]) -> LossModule:
    """The loss for `--loss_impl` (auto, fused, plain); `notes` gets which it is and why, for the header.

    `auto` is fused on CUDA and plain elsewhere. A model that the fused loss cannot compute exactly gets the plain
    one: by what is known of its head, and by a probe in which both compute the same small batch. To be called in
    the autocast of the training.
    """
    device = next(model.parameters()).device
    module = LossModule(model)
    if wanted == "plain":
        obstacle = "asked for"
    elif wanted == "auto" and device.type != "cuda":
        obstacle = f"auto is fused on CUDA only, and this is {device.type}"
    else:
        obstacle = _obstacle(model)
    if obstacle is None:
        module.finish = _finish(_causal_model(model))
        obstacle = _disagreement(module, device)
    if obstacle is None:
        notes.append("loss: fused with the head (equal to plain on a probe)")
        return module
    notes.append(f"loss: plain ({obstacle})")
    return LossModule(model)


def _causal_model(model: nn.Module) -> PreTrainedModel:
    """The transformers model itself; its modules hold what PEFT has put into it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model  # pyrefly: ignore


def _head_weight(head: nn.Module | None) -> tuple[Tensor, Tensor | None] | None:
    """The (vocabulary, hidden) weight and the bias that `head` multiplies by, or None for a head not known here."""
    if isinstance(head, ModulesToSaveWrapper):
        trained = [head.modules_to_save[name] for name in head.active_adapters if name in head.modules_to_save]
        head = trained[0] if trained and not head.disable_adapters else head.original_module
    if isinstance(head, TrainableTokensWrapper) and type(head.original_module) is nn.Linear:
        tokens = head.token_adapter
        if not (tokens.disable_adapters or tokens.merged) and tokens.active_adapters:
            # With rows of its own, PEFT's layer leaves the bias out.
            return tokens.get_merged_weights(tokens.active_adapters), None
        head = head.original_module
    if isinstance(head, NormHead):
        return head.normalized_weight(), None
    return (head.weight, head.bias) if type(head) is nn.Linear else None


def _finish(causal: PreTrainedModel) -> Finish:
    """What the model's settings say of its logits: Gemma's cap, Granite's divisor, Cohere's factor."""
    config = causal.config.get_text_config()
    scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
    return Finish(getattr(config, "final_logit_softcapping", None), scale)


def _obstacle(model: nn.Module) -> str | None:
    """Why head and decoder cannot be called apart from each other, or the head's product not be taken over."""
    if isinstance(model, PeftModel):
        tuner = model.base_model
        if model.active_peft_config.is_prompt_learning:
            return "learned tokens stand in front of each row"
        # AdaLora's adds to a loss that the model itself computes, which is not asked for here.
        if not isinstance(tuner, BaseTuner) or type(tuner).forward not in (BaseTuner.forward, AdaLoraModel.forward):
            return f"{type(tuner).__name__} does more than call the model"
        if any(getattr(config, "alora_invocation_tokens", None) for config in model.peft_config.values()):
            return "an aLoRA adapter depends on where its invocation is"
    causal = _causal_model(model)
    if not isinstance(causal, PreTrainedModel) or causal.base_model is causal:
        return f"{type(causal).__name__} has no decoder to be called alone"
    head = causal.get_output_embeddings()
    known = _head_weight(head)
    if head is None or known is None:
        return f"its head is a {type(head).__module__}.{type(head).__name__}, not a plain linear layer"
    if head._forward_hooks or head._forward_pre_hooks:
        return "its head has hooks"
    if known[0].dtype not in _FLOATS or type(known[0]) not in (Tensor, nn.Parameter):
        return f"its head's weights are stored as {type(known[0]).__name__} of {known[0].dtype}"
    return None


def _disagreement(module: LossModule, device: torch.device) -> str | None:
    """Where fused and plain differ on a small batch, in eval mode; None when they agree."""
    try:
        # Layers compiled already need no graphs for a batch that never comes again.
        with in_mode(module, training=False), torch.no_grad(), torch.compiler.set_stance("force_eager"):
            return _compare(module, device)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        return f"a probe failed: {' '.join(str(error).split())[:200]}"


def _compare(module: LossModule, device: torch.device) -> str | None:
    assert module.finish is not None
    causal = _causal_model(module.model)
    head = causal.get_output_embeddings()
    weight, bias = _head_weight(head)  # pyrefly: ignore
    vocabulary = min(weight.shape[0], causal.config.get_text_config().vocab_size)
    # Its own generator: the run's random state stays as it was.
    generator = torch.Generator().manual_seed(0)
    ids, labels = torch.randint(vocabulary, (2, *_PROBE_SHAPE), generator=generator).to(device)
    mask, weights = torch.ones_like(ids), torch.rand(_PROBE_SHAPE, generator=generator).to(device)
    mask[1, -4:], labels[1, -5:], labels[0, 0] = 0, IGNORED, IGNORED
    fused = module(ids, mask, None, labels, weights)
    plain = LossModule(module.model)(ids, mask, None, labels, weights)

    # A cap is nearly a straight line for the small logits of a new model, and a mask on a few tokens hardly shows in
    # a loss. So the logits themselves are compared too, made large by the same factor on what enters the head.
    hidden = causal.base_model(input_ids=ids, use_cache=False).last_hidden_state
    logits = F.linear(hidden, weight, bias)
    factor = _PROBE_LOGIT / logits.float().abs().max()
    ours = finish_logits(F.linear(hidden * factor, weight, bias), module.finish.softcap, module.finish.scale)
    hook = head.register_forward_pre_hook(lambda _, inputs: (inputs[0] * factor, *inputs[1:]))  # pyrefly: ignore
    try:
        theirs = module.model(input_ids=ids, use_cache=False).logits.float()
    finally:
        hook.remove()

    rounding = _ROUNDING[logits.dtype]
    # As a quotient: where a model sets logits to -inf it is NaN, which is not below anything.
    if not (ours - theirs).norm() / theirs.norm() <= rounding:
        return f"{type(causal).__name__} changes its logits in a way not known here"
    if not (fused - plain).abs() <= rounding * plain.abs():
        return f"a probe's losses differ: {fused.item():.6g} fused, {plain.item():.6g} plain"
    return None

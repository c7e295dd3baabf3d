"""Folds an adapter into the weights it stands on, and measures whether the model still says the same."""

import dataclasses
import math
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from swiftlite.config.errors import UserError
from swiftlite.models.modes import in_mode

# In float32 a merge rounds sums anew and nothing else; logits of size 1 then differ in the sixth digit.
_FP32_TOLERANCE = 1e-4
# Nats. Half precision moves a trained model's distributions by some thousandths; a wrong merge, by far more.
_MOST_KL = 0.05
# Of the adapter's own effect.
_LARGE_SHARE = 0.1
# Prose, numbers, code and other scripts, for many kinds of tokens. What it says does not matter.
_PROBE = """The harbour was quiet that morning, and the ferry left 20 minutes late with 143 passengers on board.
User: What is 17 times 6? Assistant: 17 x 6 = 102, because 17 x 5 is 85 and 17 more makes 102.
def mean(values: list[float]) -> float:
    return sum(values) / len(values)  # fails for no values
Der Zug fährt um 8:30 Uhr ab. La reunión empieza mañana. 今天的天气很好，我们去公园散步吧。"""


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How near two models are to each other, on the same tokens.

    Attributes:
        largest: largest difference of two logits; size: the largest logit.
        kl: mean Kullback-Leibler divergence of the second's next-token distributions from the first's, in nats.
        top1: share of the tokens after which both find the same next token likeliest.
        tokens: how many tokens.
    """

    largest: float
    size: float
    kl: float
    top1: float
    tokens: int

    def describe(self) -> str:
        return (
            f"max |logits difference| {self.largest:.1e}, KL {self.kl:.1e} nats, "
            f"the same likeliest token at {self.top1:.1%} of {self.tokens}"
        )


def probe_ids(tokenizer: PreTrainedTokenizerBase, device: torch.device, longest: int | None = None) -> Tensor:
    """Token ids of a fixed text, (1, tokens), about 150 of them and at most `longest`."""
    return torch.tensor([tokenizer(_PROBE, add_special_tokens=False)["input_ids"][:longest]], device=device)


@torch.no_grad()
def logits_of(model: Any, ids: Tensor) -> Tensor:
    """float32 logits in evaluation mode, (tokens, vocabulary), on the host."""
    with in_mode(model, training=False):
        return model(input_ids=ids, use_cache=False).logits[0].float().cpu()


def compare(first: Tensor, second: Tensor) -> Agreement:
    """How near the second model's logits are to the first's; (tokens, vocabulary) both."""
    p, q = first.double().log_softmax(-1), second.double().log_softmax(-1)
    return Agreement(
        largest=(second - first).abs().max().item(),
        size=first.abs().max().item(),
        kl=(p.exp() * (p - q)).sum(-1).mean().item(),
        top1=(first.argmax(-1) == second.argmax(-1)).double().mean().item(),
        tokens=len(first),
    )


@dataclasses.dataclass(frozen=True)
class Merged:
    """A model with its adapter folded in.

    Attributes:
        agreement: with the same model before. before: its logits there, (tokens, vocabulary).
        effect: KL divergence of the model with its adapter from its base, in nats.
    """

    model: PreTrainedModel
    agreement: Agreement
    before: Tensor
    effect: float

    def lines(self) -> list[str]:
        """What a command should say of it."""
        said = [f"merged: {self.agreement.describe()} (the adapter itself: KL {self.effect:.1e})"]
        if self.agreement.kl > _LARGE_SHARE * self.effect and self.model.dtype != torch.float32:
            said.append(
                f"warning: rounding to {str(self.model.dtype).removeprefix('torch.')} changed the model by more than a "
                "tenth of what the adapter does; keep the adapter apart, or merge with --dtype fp32"
            )
        return said


def merge_adapter(model: PeftModel | PreTrainedModel, ids: Tensor) -> Merged:
    """Folds the active adapter in, once the merged model is seen to answer as before on `ids`, (1, tokens).

    Raises:
        UserError: this kind of adapter cannot be folded into weights, or the merged model is another: in float32 a
            logit differs by more than 1e-4 of the largest one (of 1 where all are smaller), in half precision the
            KL divergence is above 0.05 nats.
    """
    if not isinstance(model, PeftModel):
        raise UserError("--merge_lora: this adapter is modules beside the weights; leave the flag away")
    kind: Any = model.active_peft_config
    if kind.is_prompt_learning or not hasattr(model, "merge_and_unload"):
        raise _not_mergeable(kind)
    before = logits_of(model, ids)
    with model.disable_adapter():
        effect = compare(before, logits_of(model, ids)).kl
    try:
        merged: Any = model.merge_and_unload(safe_merge=True)  # pyrefly: ignore
    except (NotImplementedError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise _not_mergeable(kind, " ".join(str(error).split())[:200]) from error
    agreement = compare(before, logits_of(merged, ids))
    _check(agreement, merged.dtype)
    return Merged(merged, agreement, before, effect)


def _check(agreement: Agreement, dtype: torch.dtype) -> None:
    if dtype == torch.float32:
        limit = _FP32_TOLERANCE * max(agreement.size, 1.0)
        right = agreement.largest <= limit
    else:
        limit, right = _MOST_KL, agreement.kl <= _MOST_KL
    if not right or not math.isfinite(agreement.largest):
        kind = "difference" if dtype == torch.float32 else "KL divergence"
        raise UserError(
            f"--merge_lora: the merged model is not the same ({agreement.describe()}; allowed is a {kind} of "
            f"{limit:.1e}); nothing was written. Use the adapter unmerged, or merge with --dtype fp32"
        )


def _not_mergeable(kind: Any, reason: str = "") -> UserError:
    because = f" ({reason})" if reason else ""
    return UserError(
        f"--merge_lora: the adapter is a {type(kind).__name__}, which cannot be folded into weights{because}; leave "
        "the flag away"
    )

"""Which attention implementation runs, and why: one decision, shown in the run's header."""

import importlib.util

import torch
from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from swiftlite.config.errors import UserError


def choose_attention(
    wanted: str, device: torch.device, dtype: str, model: PretrainedConfig | None = None
) -> tuple[str, str]:
    """(transformers' attn_implementation, the reason in a few words) for `--attn_impl`.

    Without `model`, for models in general.

    Raises:
        UserError: a kernel package was asked for by name and cannot run here.
    """
    installed = importlib.util.find_spec("flash_attn") is not None
    usable = installed and device.type == "cuda" and dtype != "fp32"
    if wanted.startswith("flash_attention"):
        if not usable:
            why = "flash-attn is not installed" if not installed else f"it runs on neither {device.type} nor {dtype}"
            raise UserError(f"--attn_impl {wanted}: {why}; use --attn_impl auto")
        return wanted, "asked for"
    if wanted == "flash" and usable:
        return "flash_attention_2", "flash-attn is installed"
    if wanted in ("auto", "flash") and not _has_sdpa(model):
        return "eager", "transformers has no fused attention for this architecture"
    if wanted == "flash":
        return (
            "sdpa",
            "PyTorch's own flash kernel" if device.type == "cuda" else f"no flash kernel on {device.type}",
        )
    if wanted == "auto":
        return "sdpa", "PyTorch picks the kernel"
    return wanted, "asked for"


def _has_sdpa(model: PretrainedConfig | None) -> bool:
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(model), None) if model is not None else None
    return bool(getattr(model_class, "_supports_sdpa", True))

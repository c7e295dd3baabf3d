"""Which attention implementation runs, and why: one decision, shown in the run's header, proven on the model."""

from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available, is_flash_attn_4_available

from swiftlite.config.errors import UserError
from swiftlite.models.device import DTYPES
from swiftlite.speed.varlen import NAME, forward_inputs, head_fits, varlen_obstacle

# attn_implementation -> the package it runs on (flash-attn's own names of its generations), and whether it is there.
_PACKAGES = {
    "flash_attention_2": ("flash-attn", is_flash_attn_2_available),
    "flash_attention_3": ("flash-attn-3", is_flash_attn_3_available),
    "flash_attention_4": ("flash-attn-4", is_flash_attn_4_available),
}
# PyTorch prefers cuDNN above this version, on the devices of these major compute capabilities (its sdp_utils.cpp).
_CUDNN_WITH_ALL_LENGTHS = 91500
_CUDNN_CAPABILITIES = (9, 10)
# Up to here it has all sizes of heads in all versions, backward too.
_CUDNN_HEAD = 128
# Shares of the logits that rounding stays well under.
_ROUNDING = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def choose_attention(
    wanted: str, device: torch.device, dtype: str, model: PretrainedConfig | None = None, *, joined: bool = True
) -> tuple[str, str]:
    """(transformers' attn_implementation, the reason in a few words) for `--attn_impl`.

    Args:
        model: None: for models in general.
        joined: whether a row may hold several documents, as in training.

    Raises:
        UserError: what was asked for by name cannot run here, or not with this model.
    """
    if wanted in _PACKAGES:
        package, available = _PACKAGES[wanted]
        if device.type != "cuda" or dtype == "fp32":
            raise UserError(f"--attn_impl {wanted}: it runs on neither {device.type} nor {dtype}; use --attn_impl auto")
        if not available():
            raise UserError(f"--attn_impl {wanted}: {package} is not installed; use --attn_impl auto")
        return wanted, "asked for"
    if wanted == "flash" and device.type == "cuda" and dtype != "fp32" and is_flash_attn_2_available():
        return "flash_attention_2", "flash-attn is installed"
    obstacles = {"sdpa": _sdpa_obstacle(model), NAME: _sdpa_obstacle(model) or _joining_obstacle(model), "eager": None}
    if wanted in obstacles:
        if obstacles[wanted] is not None:
            raise UserError(f"--attn_impl {wanted}: {obstacles[wanted]}; use --attn_impl auto")
        return wanted, "asked for"
    without = f"no flash kernel on {device.type}; " if wanted == "flash" and device.type != "cuda" else ""
    if obstacles["sdpa"] is not None:
        return "eager", without + obstacles["sdpa"]
    if joined and obstacles[NAME] is None:
        return NAME, without + describe_kernels(device, dtype, model)
    why = f"; {obstacles[NAME]}" if joined else ""
    return "sdpa", f"{without}{_equal_rows_kernel(device, dtype, model)}{why}"


def describe_kernels(device: torch.device, dtype: str, model: PretrainedConfig | None = None) -> str:
    """Which kernel of ours runs for rows of several documents, which for rows of one, and why."""
    obstacle = varlen_obstacle(device, DTYPES[dtype]) or _kernel_obstacle(model)
    if obstacle is None:
        joined = "PyTorch's flash attention for many lengths"
    elif device.type == "cpu":
        joined = "each alone"
    else:
        joined = f"SDPA with a mask, as {obstacle}"
    return f"joined documents: {joined}; rows of one document: {_equal_rows_kernel(device, dtype, model)}"


def settle_attention(model: PreTrainedModel, notes: list[str]) -> str:
    """Proves on the loaded model what `choose_attention` concluded from its class; returns what it runs with now.

    A model that does not get right with our attention what plain transformers gets right, gets transformers' own, and
    `notes` says so.
    """
    implementation: Any = model.config._attn_implementation
    if implementation == NAME and not (_reads_rows_right(model, joined=False) and keeps_documents_apart(model)):
        implementation = "sdpa" if model._supports_sdpa else "eager"
        model.set_attn_implementation(implementation)
        name = type(model).__name__
        notes.append(f"attention: {implementation} after all (a probe of {name} gave other logits with ours)")
    return implementation


def keeps_documents_apart(model: PreTrainedModel) -> bool:
    """Whether documents joined into one row, called as in training, get the logits of each alone."""
    return _reads_rows_right(model, joined=True)


@torch.no_grad()
def _reads_rows_right(model: PreTrainedModel, *, joined: bool) -> bool:
    """Whether short documents in rows of their own, or joined into one, get the logits of each alone."""
    model.eval()
    documents = torch.arange(16, device=model.device).view(2, 8)
    rows = forward_inputs(model, documents)
    if joined:
        positions = torch.arange(8, device=model.device).repeat(2)[None]
        borders = torch.tensor([0, 8, 16, 16], dtype=torch.int32, device=model.device)
        rows = forward_inputs(model, documents.view(1, 16), None, positions, borders, 8)
    try:
        alone = torch.cat([model(one[None], use_cache=False).logits.float() for one in documents])
        logits = model(**rows, use_cache=False).logits.float().view_as(alone)
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
        return False
    # Not `>`: NaN is far from everything.
    return bool((logits - alone).norm() <= _ROUNDING[model.dtype] * alone.norm())


def _equal_rows_kernel(device: torch.device, dtype: str, model: PretrainedConfig | None) -> str:
    """PyTorch's pick for `is_causal` without a mask, as its sdp_utils.cpp has it from 2.11 on."""
    if device.type != "cuda":
        return f"PyTorch's SDPA on {device.type}"
    if dtype == "fp32":
        return "PyTorch's memory-efficient SDPA, as flash kernels have no fp32"
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        return f"PyTorch's memory-efficient SDPA, as flash kernels need compute capability 8.0 (here {major}.{minor})"
    cudnn = torch.backends.cudnn.version() or 0
    if major not in _CUDNN_CAPABILITIES or cudnn <= _CUDNN_WITH_ALL_LENGTHS:
        return "PyTorch's flash attention"
    if torch.are_deterministic_algorithms_enabled():
        return "PyTorch's flash attention, as cuDNN's is not deterministic"
    size = _head_size(model)
    return (
        "cuDNN" if size is None or size <= _CUDNN_HEAD else f"cuDNN where it has heads of {size}, else flash attention"
    )


def _kernel_obstacle(model: PretrainedConfig | None) -> str | None:
    """What of this model the kernel for many lengths cannot do on any device; `attention` goes another way then."""
    config: Any = model.get_text_config() if model is not None else None
    dropout = next((getattr(config, n) for n in ("attention_dropout", "attn_pdrop") if getattr(config, n, None)), 0)
    if dropout:
        return f"the kernel for many lengths has no dropout, and this model's attention trains with {dropout}"
    size = _head_size(model)
    if size is not None and not head_fits(size):
        return f"the kernel for many lengths has no heads of {size} channels"
    return None


def _head_size(model: PretrainedConfig | None) -> int | None:
    config: Any = model.get_text_config() if model is not None else None
    heads, width = getattr(config, "num_attention_heads", None), getattr(config, "hidden_size", None)
    return getattr(config, "head_dim", None) or (width // heads if width and heads else None)


def _sdpa_obstacle(model: PretrainedConfig | None) -> str | None:
    if not getattr(_causal_class(model), "_supports_sdpa", True):
        return "transformers has no fused attention for this architecture"
    # Not every transformers refuses: 5.17 leaves the cap away.
    if model is not None and getattr(model.get_text_config(), "attn_logit_softcapping", None) is not None:
        return "fused attention does not cap scores, as this model does"
    return None


def _joining_obstacle(model: PretrainedConfig | None) -> str | None:
    """Why this model cannot tell our attention where documents end and how far a token sees."""
    kind = _causal_class(model)
    # Flash attention reads both from keyword arguments, as ours does, and no mask: a pattern that a model puts into
    # the mask alone (Llama-4's chunks) would be lost.
    if not (getattr(kind, "_supports_attention_backend", True) and getattr(kind, "_supports_flash_attn", True)):
        return "borders of documents reach this architecture's attention by mask only"
    if getattr(model, "has_alibi", False):
        return "ALiBi is a bias on the scores, which goes in by mask"
    return None


def _causal_class(model: PretrainedConfig | None) -> Any:
    return MODEL_FOR_CAUSAL_LM_MAPPING.get(type(model), None) if model is not None else None

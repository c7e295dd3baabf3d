"""The maths of Qwen-1, ChatGLM3 and Baichuan2 in plain torch, one row, one head, one query at a time."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.models.native_originals import DIM, FFN, GROUPS, HEADS, LAYERS


def reference(kind: str, weights: dict[str, Tensor], ids: Tensor, **options: float | bool) -> Tensor:
    """Logits (seq, vocabulary) of one row of ids (seq,), from the papers' formulas and the original layout.

    Args:
        options: `ntk_alpha` and `logn_from` for Qwen-1's long rows, `base` for another rotary base.
    """
    names = _NAMES[kind.split("-")[0]]
    eps = 1e-5 if kind == "chatglm" else 1e-6
    x = weights[names["embedding"]][ids]
    for i in range(LAYERS):

        def w(part: str, layer: int = i) -> Tensor:
            return weights[names["layer"].format(layer) + names[part]]

        y = _rms(x, w("norm1"), eps)
        fused = y @ w("qkv").T
        if "bias" in names:
            fused = fused + w("bias")
        x = x + _attention(kind, fused, **options) @ w("out").T
        y = _rms(x, w("norm2"), eps)
        x = x + _swiglu(kind, y, w) @ w("down").T
    x = _rms(x, weights[names["norm"]], eps)
    head = weights[names["head"]]
    if kind.startswith("baichuan"):
        head = head / head.square().sum(1, keepdim=True).sqrt()
    return x @ head.T


_NAMES = {
    "qwen": {
        "embedding": "transformer.wte.weight",
        "layer": "transformer.h.{}.",
        "norm1": "ln_1.weight",
        "qkv": "attn.c_attn.weight",
        "bias": "attn.c_attn.bias",
        "out": "attn.c_proj.weight",
        "norm2": "ln_2.weight",
        "value": "mlp.w1.weight",
        "gate": "mlp.w2.weight",
        "down": "mlp.c_proj.weight",
        "norm": "transformer.ln_f.weight",
        "head": "lm_head.weight",
    },
    "chatglm": {
        "embedding": "transformer.embedding.word_embeddings.weight",
        "layer": "transformer.encoder.layers.{}.",
        "norm1": "input_layernorm.weight",
        "qkv": "self_attention.query_key_value.weight",
        "bias": "self_attention.query_key_value.bias",
        "out": "self_attention.dense.weight",
        "norm2": "post_attention_layernorm.weight",
        "gate+value": "mlp.dense_h_to_4h.weight",
        "down": "mlp.dense_4h_to_h.weight",
        "norm": "transformer.encoder.final_layernorm.weight",
        "head": "transformer.output_layer.weight",
    },
    "baichuan": {
        "embedding": "model.embed_tokens.weight",
        "layer": "model.layers.{}.",
        "norm1": "input_layernorm.weight",
        "qkv": "self_attn.W_pack.weight",
        "out": "self_attn.o_proj.weight",
        "norm2": "post_attention_layernorm.weight",
        "value": "mlp.up_proj.weight",
        "gate": "mlp.gate_proj.weight",
        "down": "mlp.down_proj.weight",
        "norm": "model.norm.weight",
        "head": "lm_head.weight",
    },
}


def _rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


def _swiglu(kind: str, y: Tensor, w) -> Tensor:
    if kind == "chatglm":
        gate, value = (y @ w("gate+value").T)[:, :FFN], (y @ w("gate+value").T)[:, FFN:]
    else:
        gate, value = y @ w("gate").T, y @ w("value").T
    return gate / (1 + (-gate).exp()) * value


def _attention(kind: str, fused: Tensor, base: float = 10000.0, ntk_alpha: float = 1.0, logn_from: float = 0) -> Tensor:
    """What each token reads, (seq, HEADS * DIM): one head after the other, one query after the other."""
    seq, key_value_heads = len(fused), GROUPS if kind == "chatglm" else HEADS
    q = fused[:, : HEADS * DIM].view(seq, HEADS, DIM)
    k = fused[:, HEADS * DIM : (HEADS + key_value_heads) * DIM].view(seq, key_value_heads, DIM)
    v = fused[:, (HEADS + key_value_heads) * DIM :].view(seq, key_value_heads, DIM)
    if kind != "baichuan-13b":
        q, k = _turn(kind, q, base, ntk_alpha), _turn(kind, k, base, ntk_alpha)
    read = []
    for t in range(seq):
        heads = []
        for head in range(HEADS):
            kv = head * key_value_heads // HEADS
            scores = k[: t + 1, kv] @ q[t, head] / math.sqrt(DIM)
            if logn_from and t + 1 > logn_from:
                scores = scores * math.log(t + 1, logn_from)
            if kind == "baichuan-13b":
                scores = scores - SLOPES[head] * torch.arange(t, -1, -1)
            heads.append(F.softmax(scores, 0) @ v[: t + 1, kv])
        read.append(torch.cat(heads))
    return torch.stack(read)


# ALiBi's paper for 4 heads, then every second one of the 8-head series to fill up to 5.
SLOPES = [2**-2, 2**-4, 2**-6, 2**-8, 2**-1]


def _turn(kind: str, x: Tensor, base: float, ntk_alpha: float) -> Tensor:
    """Rotary positions as complex numbers, (seq, heads, DIM)."""
    channels = DIM // 2 if kind == "chatglm" else DIM
    base = base * ntk_alpha ** (channels / (channels - 2))
    angle = torch.arange(len(x))[:, None] * base ** (-torch.arange(channels // 2) * 2 / channels)
    phase = torch.polar(torch.ones_like(angle), angle)[:, None]
    if kind == "chatglm":
        pairs = torch.complex(x[..., 0:channels:2], x[..., 1:channels:2]) * phase
        return torch.cat([torch.view_as_real(pairs).flatten(-2), x[..., channels:]], -1)
    pairs = torch.complex(x[..., : DIM // 2], x[..., DIM // 2 :]) * phase
    return torch.cat([pairs.real, pairs.imag], -1)

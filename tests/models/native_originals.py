"""Tiny checkpoints of Qwen-1, ChatGLM3 and Baichuan2 as the original repositories lay them out."""

import json
from pathlib import Path

import torch
from torch import Tensor

VOCAB = 61
H, HEADS, DIM, FFN, LAYERS = 40, 5, 8, 24, 2
GROUPS = 1  # key-value heads of the tiny ChatGLM3

QWEN = {
    "architectures": ["QWenLMHeadModel"],
    "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"},
    "attn_dropout_prob": 0.0,
    "bf16": True,
    "emb_dropout_prob": 0.0,
    "fp16": False,
    "fp32": False,
    "hidden_size": H,
    "intermediate_size": 2 * FFN,
    "initializer_range": 0.02,
    "kv_channels": DIM,
    "layer_norm_epsilon": 1e-06,
    "max_position_embeddings": 64,
    "model_type": "qwen",
    "no_bias": True,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "onnx_safe": None,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "scale_attn_weights": True,
    "seq_length": 16,
    "tie_word_embeddings": False,
    "tokenizer_class": "QWenTokenizer",
    "transformers_version": "4.32.0",
    "use_cache": True,
    "use_dynamic_ntk": True,
    "use_flash_attn": "auto",
    "use_logn_attn": True,
    "vocab_size": VOCAB,
}
CHATGLM = {
    "model_type": "chatglm",
    "architectures": ["ChatGLMModel"],
    "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"},
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "apply_query_key_layer_scaling": True,
    "apply_residual_connection_post_layernorm": False,
    "attention_dropout": 0.0,
    "attention_softmax_in_fp32": True,
    "bias_dropout_fusion": True,
    "ffn_hidden_size": FFN,
    "fp32_residual_connection": False,
    "hidden_dropout": 0.0,
    "hidden_size": H,
    "kv_channels": DIM,
    "layernorm_epsilon": 1e-05,
    "rope_ratio": 50,
    "multi_query_attention": True,
    "multi_query_group_num": GROUPS,
    "num_attention_heads": HEADS,
    "num_layers": LAYERS,
    "original_rope": True,
    "padded_vocab_size": VOCAB,
    "post_layer_norm": True,
    "rmsnorm": True,
    "seq_length": 64,
    "use_cache": True,
    "torch_dtype": "float16",
    "transformers_version": "4.30.2",
    "tie_word_embeddings": False,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
BAICHUAN_13B = {
    "architectures": ["BaichuanForCausalLM"],
    "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"},
    "tokenizer_class": "BaichuanTokenizer",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "gradient_checkpointing": [False],
    "hidden_act": "silu",
    "hidden_size": H,
    "initializer_range": 0.02,
    "intermediate_size": FFN,
    "model_max_length": 64,
    "model_type": "baichuan",
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-06,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.29.2",
    "use_cache": True,
    "vocab_size": VOCAB,
}
BAICHUAN_7B = {k: v for k, v in BAICHUAN_13B.items() if k != "gradient_checkpointing"}
BAICHUAN_7B |= {"max_position_embeddings": 64, "_from_model_config": True}
CONFIGS = {"qwen": QWEN, "chatglm": CHATGLM, "baichuan-7b": BAICHUAN_7B, "baichuan-13b": BAICHUAN_13B}


def _shapes(kind: str) -> dict[str, tuple[int, ...]]:
    """Every parameter of the original checkpoint; `*` stands for each layer."""
    width = HEADS * DIM
    if kind == "qwen":
        return {
            "transformer.wte.weight": (VOCAB, H),
            "transformer.h.*.ln_1.weight": (H,),
            "transformer.h.*.attn.c_attn.weight": (3 * width, H),
            "transformer.h.*.attn.c_attn.bias": (3 * width,),
            "transformer.h.*.attn.c_proj.weight": (H, width),
            "transformer.h.*.ln_2.weight": (H,),
            "transformer.h.*.mlp.w1.weight": (FFN, H),
            "transformer.h.*.mlp.w2.weight": (FFN, H),
            "transformer.h.*.mlp.c_proj.weight": (H, FFN),
            "transformer.ln_f.weight": (H,),
            "lm_head.weight": (VOCAB, H),
        }
    if kind == "chatglm":
        layer, fused = "transformer.encoder.layers.*", width + 2 * GROUPS * DIM
        return {
            "transformer.embedding.word_embeddings.weight": (VOCAB, H),
            f"{layer}.input_layernorm.weight": (H,),
            f"{layer}.self_attention.query_key_value.weight": (fused, H),
            f"{layer}.self_attention.query_key_value.bias": (fused,),
            f"{layer}.self_attention.dense.weight": (H, width),
            f"{layer}.post_attention_layernorm.weight": (H,),
            f"{layer}.mlp.dense_h_to_4h.weight": (2 * FFN, H),
            f"{layer}.mlp.dense_4h_to_h.weight": (H, FFN),
            "transformer.encoder.final_layernorm.weight": (H,),
            "transformer.output_layer.weight": (VOCAB, H),
        }
    return {
        "model.embed_tokens.weight": (VOCAB, H),
        "model.layers.*.self_attn.W_pack.weight": (3 * H, H),
        "model.layers.*.self_attn.o_proj.weight": (H, H),
        "model.layers.*.mlp.gate_proj.weight": (FFN, H),
        "model.layers.*.mlp.up_proj.weight": (FFN, H),
        "model.layers.*.mlp.down_proj.weight": (H, FFN),
        "model.layers.*.input_layernorm.weight": (H,),
        "model.layers.*.post_attention_layernorm.weight": (H,),
        "model.norm.weight": (H,),
        "lm_head.weight": (VOCAB, H),
    }


def random_weights(kind: str) -> dict[str, Tensor]:
    """Large enough that a swapped, dropped or wrongly turned piece shows in the logits."""
    generator = torch.Generator().manual_seed(sum(map(ord, kind)))
    weights = {}
    for pattern, shape in _shapes(kind).items():
        for name in [pattern.replace("*", str(i)) for i in range(LAYERS)] if "*" in pattern else [pattern]:
            drawn = torch.randn(shape, generator=generator)
            is_norm = len(shape) == 1 and not name.endswith("bias")
            weights[name] = 1 + 0.2 * drawn if is_norm else 0.3 * drawn
    return weights


# Buffers some releases carry beside their weights.
BUFFERS = {
    "qwen": {"transformer.h.0.attn.masked_bias": torch.tensor(-1e4), "transformer.rotary_emb.inv_freq": torch.ones(4)},
    "chatglm": {"transformer.rotary_pos_emb.inv_freq": torch.ones(2)},
    "baichuan-7b": {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)},
    "baichuan-13b": {},
}


def write_original(folder: Path, kind: str, **changes: object) -> Path:
    """A checkpoint folder as the hub has it, with code that leaves a file `ran` when somebody runs it."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIGS[kind] | changes))
    (folder / "code.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Config: ...\nclass Model: ...\n")
    save_file(random_weights(kind) | BUFFERS[kind], folder / "model.safetensors", {"format": "pt"})
    return folder

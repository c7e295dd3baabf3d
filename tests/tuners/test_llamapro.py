"""A model expanded by LLaMA-Pro computes what it did until its new layers, and they alone, are trained."""

import copy

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    PhiConfig,
    Qwen2Config,
    Qwen3MoeConfig,
)

from swiftlite.config.errors import UserError
from swiftlite.models.native import register_native
from swiftlite.models.native.chatglm import ChatGLMConfig
from swiftlite.models.native.qwen import QWenConfig
from swiftlite.train.config import SftConfig
from swiftlite.tuners.registry import make_tuner

LAYERS = 4
SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
}
CONFIGS = {
    "llama with biases": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    "qwen2 sliding": Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=4, max_window_layers=2),
    "gemma": GemmaConfig(**SIZES, head_dim=8),
    "gpt2": GPT2Config(
        vocab_size=64, n_embd=16, n_layer=LAYERS, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2
    ),
    "phi": PhiConfig(**SIZES),
    "mixtral": MixtralConfig(**SIZES, num_local_experts=2),
    "qwen3 moe": Qwen3MoeConfig(**SIZES, head_dim=8, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=8),
    "qwen-1": QWenConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        seq_length=64,
    ),
    "chatglm": ChatGLMConfig(
        padded_vocab_size=64,
        hidden_size=16,
        ffn_hidden_size=24,
        kv_channels=8,
        num_layers=LAYERS,
        num_attention_heads=2,
        multi_query_group_num=1,
        seq_length=64,
    ),
}
IDS = torch.arange(2, 22).view(2, 10)


def model_of(name: str) -> nn.Module:
    register_native()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[name])).eval()
    for parameter in model.parameters():
        # Biases too, which start as zeros.
        nn.init.normal_(parameter, std=0.2)
    return model


def expanded(model: nn.Module, **settings):
    config = SftConfig(model="nano", dataset="demo", sft_type="llamapro", **settings)
    tuner = make_tuner("llamapro", config)
    return tuner, tuner.apply(model)


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_of_the_expanded_model_are_the_bases(name):
    model = model_of(name)
    expected = model(IDS).logits
    _, deeper = expanded(model, llamapro_num_new_blocks=2)
    assert deeper.config.num_hidden_layers == LAYERS + 2
    assert torch.equal(deeper.eval()(IDS).logits, expected)


@pytest.mark.parametrize(
    ("blocks", "groups", "expected"),
    [(2, None, [2, 5]), (4, 2, [2, 3, 6, 7]), (4, None, [1, 3, 5, 7]), (3, 1, [4, 5, 6])],
)
def test_new_layers_stand_behind_their_groups_as_copies_and_alone_are_trained(blocks, groups, expected):
    model = model_of("llama with biases")
    olds = list(model.model.layers)
    _, deeper = expanded(model, llamapro_num_new_blocks=blocks, llamapro_num_groups=groups)
    layers = list(deeper.model.layers)
    assert [n for n, layer in enumerate(layers) if layer not in olds] == expected
    assert [layer for layer in layers if layer in olds] == olds
    assert [layer.self_attn.layer_idx for layer in layers] == list(range(LAYERS + blocks))
    trained = {n for n, p in deeper.named_parameters() if p.requires_grad}
    assert trained == {
        n for n, _ in deeper.named_parameters() if n.startswith(tuple(f"model.layers.{e}." for e in expected))
    }
    copied = layers[expected[0]].self_attn.q_proj.weight
    assert torch.equal(copied, layers[expected[0] - 1].self_attn.q_proj.weight)
    assert not any(layers[e].self_attn.o_proj.weight.any() or layers[e].mlp.down_proj.weight.any() for e in expected)


def test_a_trained_expansion_opens_in_plain_transformers(tmp_path):
    tuner, deeper = expanded(model_of("qwen2 sliding"), llamapro_num_new_blocks=2)
    before = {n: p.detach().clone() for n, p in deeper.named_parameters()}
    optimizer = torch.optim.AdamW(tuner.parameter_groups(deeper, 1e-2, 0.0))
    # The projections into the stream learn first, what they read from in the second step.
    for _ in range(2):
        deeper(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    changed = {n for n, p in deeper.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {n for n, p in deeper.named_parameters() if p.requires_grad}
    tuner.save(deeper, tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.config.layer_types == ["full_attention"] * 3 + ["sliding_attention"] * 3
    assert torch.equal(again(IDS).logits, deeper.eval()(IDS).logits)
    # A later run goes on with the layers there are.
    _, further = expanded(again)
    assert {n for n, p in further.named_parameters() if p.requires_grad} == changed


def test_generation_with_a_cache_is_that_of_the_base():
    model = model_of("llama with biases")
    settings = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    expected = model.generate(IDS, **settings)
    _, deeper = expanded(model)
    assert torch.equal(deeper.eval().generate(IDS, **settings), expected)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"llamapro_num_new_blocks": 3}, "give 1 or 2 or 4"),
        ({"llamapro_num_new_blocks": 4, "llamapro_num_groups": 3}, "divides 4"),
        ({"llamapro_num_new_blocks": 0}, "4 is usual"),
        ({"quant_method": "bnb"}, "saves whole ones"),
    ],
)
def test_what_cannot_be_is_refused(settings, words):
    with pytest.raises(UserError, match=words):
        expanded(model_of("llama with biases"), **settings)


def test_a_model_that_could_not_be_opened_again_is_refused():
    """Every second layer has experts; behind a new layer it would be the other ones."""
    config = Qwen3MoeConfig(
        **SIZES, head_dim=8, num_experts=2, num_experts_per_tok=1, decoder_sparse_step=2, moe_intermediate_size=8
    )
    with pytest.raises(UserError, match="could not be opened again"):
        expanded(AutoModelForCausalLM.from_config(config), llamapro_num_new_blocks=4)


def test_a_model_whose_copies_are_not_silent_is_refused():
    model = model_of("llama with biases")
    for layer in model.model.layers:
        layer.self_attn.output = layer.self_attn.o_proj
        del layer.self_attn.o_proj
        layer.self_attn.__class__ = type("Renamed", (type(layer.self_attn),), {"o_proj": property(lambda a: a.output)})
    with pytest.raises(UserError, match="do not stay silent"):
        expanded(model)

"""The FLOP formula against torch's own counter on a tiny model, and against hand-computed numbers."""

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, Qwen2Config, Qwen3MoeConfig

from swiftlite.measure.flops import AttentionLayer, ModelFlops, flops_per_token, model_flops, train_flops

BATCH, LENGTH = 2, 24
TINY = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 160,
    "vocab_size": 96,
    "tie_word_embeddings": False,
}
BLOCK = 64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 160
HEAD = 64 * 96


def tiny(**changes):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(Qwen2Config(**TINY | changes), attn_implementation="eager")


def counted(model, *operators):
    """torch's count of these operators in one training step."""
    ids = torch.randint(0, 96, (BATCH, LENGTH))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    counts = counter.get_flop_counts()["Global"]
    return sum(counts.get(operator, 0) for operator in operators)


def counted_matmuls(model):
    """Products with a weight; attention's products of activations are `bmm`."""
    return counted(model, torch.ops.aten.mm, torch.ops.aten.addmm)


def our_matmuls(model):
    return train_flops(model_flops(model), BATCH * LENGTH, 0)


def test_full_training_equals_torchs_counter():
    model = tiny()
    assert our_matmuls(model) == counted_matmuls(model) == 6 * (3 * BLOCK + HEAD) * BATCH * LENGTH


def test_tied_head_is_counted_and_the_lookup_is_not():
    model = tiny(tie_word_embeddings=True)
    assert our_matmuls(model) == counted_matmuls(model)


def test_causal_attention_is_half_of_torchs_full_matrix():
    model = tiny()
    causal = train_flops(model_flops(model), 0, BATCH * LENGTH**2)
    # Some versions compute the rotary angles by a tiny bmm too.
    assert 2 * causal == pytest.approx(counted(model, torch.ops.aten.bmm), rel=1e-3)


def test_lora_equals_torchs_counter():
    model = tiny()
    # The gradient then reaches the first layer's inputs too, as with gradient checkpointing.
    model.enable_input_require_grads()
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    adapter = 3 * 4 * ((64 + 64) + (160 + 64))
    expected = (4 * (3 * BLOCK + HEAD) + 6 * adapter) * BATCH * LENGTH
    assert our_matmuls(adapted) == counted_matmuls(adapted) == expected


def test_lora_overstates_by_the_lowest_input_gradients_alone():
    adapted = get_peft_model(tiny(), LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    lowest_inputs = 64 * 64 + 2 * 64 * 32 + 4 * 64
    assert our_matmuls(adapted) - counted_matmuls(adapted) == 2 * lowest_inputs * BATCH * LENGTH


def test_layers_below_the_first_trained_one_are_forward_only():
    model = tiny().requires_grad_(False)
    model.model.layers[2].requires_grad_(True)
    assert our_matmuls(model) == counted_matmuls(model)
    assert model_flops(model).forward_only == 2 * BLOCK
    assert [layer.backward for layer in model_flops(model).attention] == [False, False, True]


def test_soft_prompts_send_the_gradient_through_every_layer():
    prompted = get_peft_model(tiny(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    flops = model_flops(prompted)
    assert (flops.trained, flops.frozen, flops.forward_only) == (0, 3 * BLOCK + HEAD, 0)


def test_modules_to_save_are_counted_once():
    config = LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"])
    flops = model_flops(get_peft_model(tiny(), config))
    assert flops.frozen == 3 * BLOCK
    assert flops.trained == 3 * 4 * 128 + HEAD


def test_packed_weights_count_by_their_logical_size():
    model = tiny()
    layer = model.model.layers[0].mlp.gate_proj
    layer.weight = torch.nn.Parameter(torch.zeros(64 * 160 // 2, 1, dtype=torch.uint8), requires_grad=False)
    assert model_flops(model).frozen == 64 * 160


def test_gpt2_conv1d_weights_are_found():
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=96))
    assert model_flops(model).trained == 2 * 12 * 64 * 64 + HEAD


def test_only_the_visited_experts_count():
    config = Qwen3MoeConfig(**TINY, moe_intermediate_size=32, num_experts=8, num_experts_per_tok=2, head_dim=16)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    attention, router, expert = 64 * 64 + 2 * 64 * 32 + 64 * 64, 64 * 8, 3 * 64 * 32
    assert model_flops(model).trained == 3 * (attention + router + 2 * expert) + HEAD


def test_sliding_layers_carry_their_window():
    config = Gemma2Config(**TINY | {"num_hidden_layers": 2}, head_dim=16, sliding_window=8)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert model_flops(model).attention == (AttentionLayer(64, 8), AttentionLayer(64, None))


def test_a_config_without_attention_shape_gives_none():
    assert model_flops(torch.nn.Linear(2, 2)) is None


def test_attention_is_6ldt_per_token():
    assert flops_per_token(0, layers=3, attention_dim=64, seq_length=100) == 6 * 3 * 64 * 100


@pytest.mark.parametrize(
    ("frozen_share", "adapter", "expected"), [(0, 0, 6000), (1, 0, 4000), (1, 50, 4300), (0.5, 0, 5000)]
)
def test_matmuls_cost_6_trained_and_4_frozen(frozen_share, adapter, expected):
    flops = flops_per_token(1000, 0, 0, 1, frozen_share=frozen_share, adapter_parameters=adapter)
    assert flops == expected


def test_unequal_documents_use_the_sum_of_squares():
    model = ModelFlops(0, 0, 0, (AttentionLayer(64),))
    together = train_flops(model, 10 + 30, 10**2 + 30**2)
    assert together == train_flops(model, 10, 10**2) + train_flops(model, 30, 30**2)


def test_a_window_bounds_the_pairs():
    model = ModelFlops(0, 0, 0, (AttentionLayer(1, window=10),))
    assert train_flops(model, 1000, 1000**2) == 12 * 10 * 1000


def test_qwen_7b_lora_by_hand():
    """7B: N = 32 blocks of 202,375,168 matmul weights + head 622,329,856; LoRA 17,891,328; T = 2048."""
    n = 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008) + 151936 * 4096
    assert n == 7_098_335_232
    expected = 4 * 7_098_335_232 + 6 * 17_891_328 + 6 * 32 * 4096 * 2048
    assert flops_per_token(n, 32, 4096, 2048, frozen_share=1, adapter_parameters=17_891_328) == expected

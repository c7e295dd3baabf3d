"""Models from random weights: sizes that add up, transformers' own initialisation, and what is refused."""

import copy
import math

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from swiftlite.config.errors import UserError
from swiftlite.measure.parameters import count_parameters
from swiftlite.models.config import ScratchOptions
from swiftlite.models.dummy import build_dummy
from swiftlite.models.families.nano import FOLDER as NANO
from swiftlite.models.load import load_config
from swiftlite.models.registry import find_model, model_names
from swiftlite.models.scratch import build_scratch, scratch_config
from swiftlite.models.source import ModelSource
from swiftlite.models.tokenizer_training import train_tokenizer

CPU, META = torch.device("cpu"), torch.device("meta")
SIZES = {"hidden_size": 64, "num_layers": 2, "num_heads": 4}


@pytest.fixture(scope="module")
def nano():
    """4096 entries, with an end of its own: eos and pad differ."""
    return AutoTokenizer.from_pretrained(NANO, eos_token="<|im_end|>")


@pytest.fixture(scope="module")
def letters():
    """28 entries; its end of text also pads."""
    return train_tokenizer(["abcdefghijklmnopqrstuvwxyz"], "char")


def registered(name):
    return load_config(ModelSource(name, find_model(name), dummy_seed=0))


def shape(tokenizer, base=None, notes=None, **sizes):
    options = ScratchOptions(from_scratch=True, **sizes)
    options.check()
    return scratch_config(options, base, tokenizer, [] if notes is None else notes)


def draw(config, seed=0, device=CPU):
    return build_scratch(config, torch.float32, device, "sdpa", seed)


def total(config):
    return count_parameters(draw(config, device=META)).total


# Sizes


def gpt2_total(vocab, context, width, layers):
    """Radford et al. 2019: tied head; biases everywhere; a block has 12 width^2 weights."""
    block = 12 * width * width + 13 * width
    return vocab * width + context * width + layers * block + 2 * width


def llama_total(vocab, width, layers, heads, kv_heads, ffn):
    """Touvron et al. 2023: no biases, RMSNorm, SwiGLU, a head of its own."""
    attention = 2 * width * width + 2 * width * kv_heads * (width // heads)
    return 2 * vocab * width + layers * (attention + 3 * width * ffn + 2 * width) + width


def test_the_124m_gpt2_from_its_sizes(nano):
    sizes = {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "vocab_size": 50257}
    assert total(shape(nano, architecture="gpt2", **sizes)) == gpt2_total(50257, 1024, 768, 12) == 124_439_808


def test_the_124m_gpt2_from_its_name(nano):
    assert total(shape(nano, registered("gpt2"))) == 124_439_808


def test_nanogpts_character_model(letters):
    sizes = {"hidden_size": 384, "num_layers": 6, "num_heads": 6, "context_length": 256, "vocab_size": 65}
    assert total(shape(letters, architecture="gpt2", **sizes)) == gpt2_total(65, 256, 384, 6)


def test_llama_is_the_default_and_has_the_given_sizes(nano):
    config = shape(nano, num_kv_heads=2, ffn_size=160, **SIZES)
    assert total(config) == llama_total(4096, 64, 2, 4, 2, 160)


@pytest.mark.parametrize(
    ("architecture", "expected"),
    # 8/3 * 64 = 170.7, the next multiple of 32 is 192; SwiGLU and GeGLU are gated, the others are not.
    [("llama", 192), ("qwen3", 192), ("phi3", 192), ("gemma", 192), ("gpt2", 256), ("gpt_neox", 256), ("phi", 256)],
)
def test_default_width_of_the_feed_forward_layer(letters, architecture, expected):
    config = shape(letters, architecture=architecture, **SIZES)
    assert (config.n_inner if architecture == "gpt2" else config.intermediate_size) == expected


def test_heads_share_the_width_unless_their_size_is_given(nano):
    """Qwen3's config class says 128 whatever the width."""
    assert shape(nano, architecture="qwen3", **SIZES).head_dim == 16
    assert shape(nano, architecture="qwen3", head_dim=32, **SIZES).head_dim == 32


def test_key_value_heads_are_as_many_as_heads_by_default(nano):
    assert shape(nano, architecture="qwen3", **SIZES).num_key_value_heads == 4


def test_context_is_1024_by_default(nano):
    assert shape(nano, **SIZES).max_position_embeddings == 1024
    assert shape(nano, architecture="gpt2", context_length=77, **SIZES).n_positions == 77


def test_the_embedding_is_rounded_up_and_a_note_says_so(letters):
    notes = []
    assert shape(letters, notes=notes, **SIZES).vocab_size == 64
    assert any("64 rows" in note and "28 entries" in note for note in notes)


def test_a_tokenizer_that_fits_needs_no_rounding(nano):
    notes = []
    assert shape(nano, notes=notes, **SIZES).vocab_size == 4096
    assert notes == []


def test_tying_is_the_architectures_unless_given(nano):
    assert not shape(nano, **SIZES).tie_word_embeddings
    assert shape(nano, architecture="gpt2", **SIZES).tie_word_embeddings
    assert total(shape(nano, tie_embeddings=True, **SIZES)) == total(shape(nano, **SIZES)) - 4096 * 64


# A base's shape


@pytest.mark.parametrize("name", model_names())
def test_a_registered_shape_keeps_its_parameters(letters, name):
    expected = count_parameters(build_dummy(registered(name), torch.float32, META, "eager", 0)).total
    config = shape(letters, registered(name))
    assert count_parameters(build_scratch(config, torch.float32, META, "eager", 0)).total == expected


def test_given_sizes_override_a_shape_which_itself_stays(nano):
    base = registered("qwen3-0.6b")
    before = copy.deepcopy(base.to_dict())
    config = shape(nano, base, num_layers=3, vocab_size=4096)
    width, inner, kv = 1024, 16 * 128, 8 * 128
    block = 2 * width * inner + 2 * width * kv + 3 * width * 3072 + 2 * width + 2 * 128
    assert total(config) == 4096 * width + 3 * block + width
    assert base.to_dict() == before


def test_heads_of_a_shape_that_followed_its_width_follow_the_new_one(nano):
    """Llama 2 7B: 32 heads of 4096 / 32, as many key-value heads."""
    config = shape(nano, registered("llama2-7b"), hidden_size=512, num_heads=8, ffn_size=1024, num_layers=2)
    assert (config.head_dim, config.num_key_value_heads) == (64, 8)


def test_lists_of_layers_fit_the_new_number_of_layers(nano):
    """SmolLM3: rotary positions in three layers of four. Gemma 3: every sixth layer sees everything."""
    assert shape(nano, registered("smollm3-3b"), num_layers=6).no_rope_layers == [1, 1, 1, 0, 1, 1]
    kinds = shape(nano, registered("gemma-3-1b-it"), num_layers=7).layer_types
    assert kinds == ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"]


def test_sliding_windows_are_off_when_no_sliding_layer_is_left(nano):
    base = AutoConfig.for_model("qwen2", num_hidden_layers=8, use_sliding_window=True, max_window_layers=6)
    assert base.layer_types.count("sliding_attention") == 2
    config = shape(nano, base, num_layers=4)
    assert config.layer_types == ["full_attention"] * 4
    assert (config.use_sliding_window, config.sliding_window) == (False, None)


def test_rope_scaling_of_a_shape_ends_with_a_context_of_its_own(nano):
    notes = []
    config = shape(nano, registered("llama3.2-1b-instruct"), notes, context_length=2048)
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 5e5}
    assert any("llama3" in note for note in notes)
    assert shape(nano, registered("llama3.2-1b-instruct")).rope_parameters["rope_type"] == "llama3"


def test_a_trained_tokenizer_decides_the_rows_of_a_shape(letters):
    options = ScratchOptions(from_scratch=True, train_tokenizer=True, tokenizer_kind="char")
    assert scratch_config(options, registered("gpt2"), letters, []).vocab_size == 64


def test_what_told_of_the_bases_files_is_gone(nano):
    base = registered("llama2-7b")
    base.quantization_config = {"quant_method": "awq"}
    base.auto_map = {"AutoConfig": "evil.Config"}
    made = shape(nano, base).to_dict()
    assert "quantization_config" not in made and "auto_map" not in made


# Dropout and special ids


@pytest.mark.parametrize("architecture", ["gpt2", "opt", "gpt_neox"])
def test_nothing_is_dropped(nano, architecture):
    """Two forward passes in training mode agree; transformers' default for GPT-2 and OPT is 0.1."""
    model = draw(shape(nano, architecture=architecture, **SIZES)).train()
    ids = torch.arange(32)[None]
    assert all(m.p == 0 for m in model.modules() if isinstance(m, torch.nn.Dropout))
    assert torch.equal(model(ids).logits, model(ids).logits)


def test_dropout_that_was_on_is_noted(nano):
    notes = []
    shape(nano, architecture="gpt2", notes=notes, **SIZES)
    assert any("resid_pdrop" in note for note in notes)


def test_special_ids_are_the_tokenizers(nano, letters):
    config = shape(nano, architecture="gpt2", **SIZES)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (None, 2, 0)
    config = shape(letters, **SIZES)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (None, 0, None)


def test_the_end_of_text_is_trained_though_it_pads(letters):
    """Llama's embedding never gives the row of `config.pad_token_id` a gradient."""
    model = draw(shape(letters, **SIZES))
    end = letters.eos_token_id
    ids = torch.tensor([[5, end, 6, 7]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert letters.pad_token_id == end
    assert model.get_input_embeddings().weight.grad[end].abs().sum() > 0


def test_an_encoder_does_not_see_what_it_predicts(letters):
    """BERT with a language-model head looks both ways unless its config says otherwise."""
    model = draw(shape(letters, architecture="bert", **SIZES)).eval()
    ids = torch.arange(8)[None]
    other = torch.cat([ids[:, :-1], torch.tensor([[20]])], 1)
    assert torch.allclose(model(ids).logits[:, :-1], model(other).logits[:, :-1], atol=1e-6)


# Weights


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2"])
def test_the_first_loss_is_that_of_a_guess(nano, architecture):
    model = draw(shape(nano, architecture=architecture, **SIZES))
    ids = torch.randint(4096, (8, 128), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        loss = model(input_ids=ids, labels=ids).loss
    assert abs(loss.item() - math.log(4096)) < 0.1


def test_gpt2_scales_what_enters_the_residual_stream(nano):
    """Radford et al. 2019, section 2.3: by 1 / sqrt(N) for N residual layers, two a block."""
    model = draw(shape(nano, architecture="gpt2", hidden_size=256, num_layers=8, num_heads=4))
    block = model.transformer.h[3]
    assert block.attn.c_attn.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert block.mlp.c_proj.weight.std().item() == pytest.approx(0.02 / math.sqrt(16), rel=0.02)


def test_weights_repeat_by_seed_and_differ_between_seeds(letters):
    config = shape(letters, **SIZES)
    one, again, other = (draw(config, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])


def test_the_global_random_state_neither_matters_nor_changes(letters):
    config = shape(letters, **SIZES)
    torch.manual_seed(3)
    first = draw(config).lm_head.weight
    torch.manual_seed(4)
    before = torch.get_rng_state()
    assert torch.equal(draw(config).lm_head.weight, first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2"])
def test_a_saved_model_loads_to_the_same_logits(letters, architecture, tmp_path):
    model = draw(shape(letters, architecture=architecture, tie_embeddings=True, **SIZES)).eval()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.arange(12)[None]
    assert loaded.get_input_embeddings().weight is loaded.get_output_embeddings().weight
    assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_dtype_and_attention_are_those_asked_for(letters):
    model = build_scratch(shape(letters, **SIZES), torch.bfloat16, CPU, "eager", 0)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.config._attn_implementation == "eager"


# What is refused


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"hidden_size": 64}, "--hidden_size.*--from_scratch"),
        ({"architecture": "llama"}, "--architecture.*--from_scratch"),
        ({"vocab_size": 300}, "--vocab_size.*--from_scratch or --train_tokenizer"),
        ({"from_scratch": True, "num_layers": 0}, "--num_layers: 0"),
        ({"from_scratch": True, "hidden_size": 10, "num_heads": 4}, "--hidden_size 10 .* --num_heads 4"),
        ({"from_scratch": True, "num_heads": 6, "num_kv_heads": 4}, "--num_heads 6 .* --num_kv_heads 4"),
        ({"from_scratch": True, "special_tokens": ["<a>"]}, "--special_tokens .*--train_tokenizer"),
        ({"tokenizer_kind": "char"}, "--tokenizer_kind .*--train_tokenizer"),
        ({"train_tokenizer": True}, "--train_tokenizer needs --vocab_size"),
        ({"train_tokenizer": True, "tokenizer_kind": "char", "vocab_size": 9}, "--vocab_size 9.*char"),
        ({"train_tokenizer": True, "vocab_size": 300, "special_tokens": ["a", "a"]}, "--special_tokens"),
    ],
)
def test_settings_that_cannot_be_right(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        ScratchOptions(**settings).check()


def test_settings_that_can_be_right():
    ScratchOptions().check()
    ScratchOptions(train_tokenizer=True, vocab_size=300).check()
    ScratchOptions(from_scratch=True, hidden_size=10, num_heads=4, head_dim=4).check()


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"hidden_size": 64}, "--num_layers, --num_heads"),
        ({**SIZES, "architecture": "lama"}, "did you mean llama"),
        ({**SIZES, "architecture": "vit"}, "'vit' is no causal language model"),
        ({**SIZES, "architecture": "t5gemma"}, "'t5gemma' is no causal language model"),
        ({**SIZES, "architecture": "bart"}, "bart has an encoder"),
        ({**SIZES, "architecture": "mamba"}, "--num_heads: mamba has no such size"),
        ({**SIZES, "architecture": "gpt2", "num_kv_heads": 2}, "--num_kv_heads: gpt2 has no such size"),
        ({**SIZES, "vocab_size": 20}, "--vocab_size 20: the tokenizer has 28 entries"),
        ({**SIZES, "hidden_size": 60}, "heads of 15; rotary"),
        ({**SIZES, "hidden_size": 66, "head_dim": 16}, "llama model of these sizes: .*not a multiple"),
    ],
)
def test_sizes_an_architecture_cannot_have(letters, sizes, sentence):
    with pytest.raises(UserError, match=sentence):
        shape(letters, **sizes)


def test_sizes_that_do_not_fit_the_shape_they_override(letters):
    with pytest.raises(UserError, match="--num_heads 12 is no multiple of --num_kv_heads 8"):
        shape(letters, registered("qwen3-0.6b"), num_heads=12)
    with pytest.raises(UserError, match=r"--architecture gpt2: .*qwen3"):
        shape(letters, registered("qwen3-0.6b"), architecture="gpt2")

"""Frozen linear layers computed in groups equal PEFT's own: losses, gradients, files, and where they step aside."""

import copy
import functools
import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import nn
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from swiftlite.models.load import load_config, load_model
from swiftlite.models.source import ModelSource
from swiftlite.speed.checkpointing import apply_checkpointing
from swiftlite.speed.compile import compile_layers
from swiftlite.speed.linears import FastLinear, FastLoraLinear, Group, speed_up_linears
from tests.models.native_originals import write_original

VOCABULARY, LAYERS = 61, 2
ALL = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "qwen": ["c_attn", "attn.c_proj", "w1", "w2", "mlp.c_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
}
ALL["qwen2"] = ALL["llama"]


@pytest.fixture(scope="module")
def qwen_folder(tmp_path_factory):
    return write_original(tmp_path_factory.mktemp("qwen"), "qwen", seq_length=64)


@pytest.fixture(scope="module")
def bare(qwen_folder):
    """Makes small models in float32 by name, with biases that are not zero."""

    def make(name: str) -> nn.Module:
        torch.manual_seed(0)
        sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": LAYERS}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
        if name == "llama":
            return LlamaForCausalLM(LlamaConfig(**sizes, **heads))
        if name == "gpt2":
            off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 1, "eos_token_id": 2}
            return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=LAYERS, n_head=4, **off))
        if name == "qwen":
            source = ModelSource("m", path=qwen_folder)
            return load_model(source, load_config(source), torch.float32, torch.device("cpu"), "sdpa")
        model = Qwen2ForCausalLM(Qwen2Config(**sizes, **heads))
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("bias"):
                nn.init.normal_(parameter, std=0.5)
        return model

    return make


def adapted(model: nn.Module, targets: list[str], **settings) -> PeftModel:
    """LoRA whose B is not zero, in training mode."""
    config = LoraConfig(r=4, lora_alpha=12, target_modules=targets, task_type="CAUSAL_LM", **settings)
    wrapped = get_peft_model(model, config)
    fill(wrapped)
    return wrapped.train()


def fill(model: nn.Module) -> None:
    """Gives every B values, as training would."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)


def both(model: nn.Module) -> tuple[nn.Module, nn.Module, list[str]]:
    """The model as PEFT has it, the same in groups, and what the header says of those."""
    fast = copy.deepcopy(model)
    return model, fast, speed_up_linears(fast)


def loss_of(model: nn.Module, seed: int = 0) -> torch.Tensor:
    ids = torch.randint(3, VOCABULARY, (2, 13), generator=torch.Generator().manual_seed(seed))
    return model(input_ids=ids, labels=ids, use_cache=False).loss


def gradients(model: nn.Module, *seeds: int) -> tuple[float, dict[str, torch.Tensor]]:
    """The summed loss of one batch a seed, and the gradients by name."""
    model.zero_grad()
    total = 0.0
    for seed in seeds or (0,):
        loss = loss_of(model, seed)
        loss.backward()
        total += loss.item()
    return total, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def check_equal(model: nn.Module, fast: nn.Module, *seeds: int) -> None:
    torch.manual_seed(2)
    expected, references = gradients(model, *seeds)
    torch.manual_seed(2)
    loss, found = gradients(fast, *seeds)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert found.keys() == references.keys() and references
    # Scores of a small random model are all alike, and the gradients of its q and k are differences of near equals.
    floor = 1e-7 * max(reference.norm() for reference in references.values())
    for name, reference in references.items():
        assert (found[name] - reference).norm() <= 1e-5 * reference.norm() + floor, name


def groups_of(model: nn.Module) -> list[set[str]]:
    """The last names of each group's members."""
    names = {id(module): name.rsplit(".", 1)[-1] for name, module in model.named_modules()}
    groups = {id(m.group): m.group for m in model.modules() if isinstance(getattr(m, "group", None), Group)}
    return [{names[id(member)] for member in group.members} for group in groups.values()]


@pytest.mark.parametrize(
    ("name", "targets", "settings"),
    [
        ("llama", "all", {}),
        ("llama", ["v_proj"], {}),
        ("llama", ["k_proj", "up_proj", "down_proj"], {"use_rslora": True}),
        ("llama", ["q_proj", "v_proj", "gate_proj"], {"rank_pattern": {"v_proj": 3}, "alpha_pattern": {"v_proj": 5}}),
        ("qwen2", "all", {}),
        ("qwen2", ["q_proj", "o_proj"], {}),
        ("qwen", "all", {}),
        ("qwen", ["c_attn"], {}),
        ("gpt2", "all", {"fan_in_fan_out": True}),
    ],
)
def test_losses_and_gradients_are_those_of_peft(bare, name, targets, settings):
    targets = ALL[name] if targets == "all" else targets
    model, fast, _ = both(adapted(bare(name), targets, **settings))
    check_equal(model, fast)


def test_layers_that_train_are_left_alone(bare):
    model, fast, notes = both(bare("llama").train())
    assert notes == [] and not groups_of(fast)
    check_equal(model, fast)


def test_gradients_reach_what_is_trained_below_frozen_layers(bare):
    model = bare("llama").train().requires_grad_(False)
    model.model.embed_tokens.requires_grad_(True)
    model.model.layers[0].input_layernorm.requires_grad_(True)
    model, fast, notes = both(model)
    assert "14 frozen ones" in notes[0]
    check_equal(model, fast)


@pytest.mark.parametrize("targets", ["all", ["q_proj"]])
def test_the_readers_of_one_input_form_groups(bare, targets):
    _, fast, notes = both(adapted(bare("llama"), ALL["llama"] if targets == "all" else targets))
    expected = [{"q_proj", "k_proj", "v_proj"}, {"o_proj"}, {"gate_proj", "up_proj"}, {"down_proj"}] * LAYERS
    assert groups_of(fast) == expected
    assert notes[0] == "linears: 14 frozen ones, computed in 8 groups that read the same input"


def test_the_groups_of_qwen_1_are_w1_with_w2(bare):
    _, fast, _ = both(adapted(bare("qwen"), ALL["qwen"]))
    assert groups_of(fast) == [{"c_attn"}, {"c_proj"}, {"w1", "w2"}, {"c_proj"}] * LAYERS


def test_models_of_conv1d_have_no_groups(bare):
    _, fast, notes = both(adapted(bare("gpt2"), ALL["gpt2"], fan_in_fan_out=True))
    assert notes == [] and not groups_of(fast)


def test_each_group_multiplies_once_a_pass(bare, monkeypatch):
    # With an adapter on each layer of it, the MLP would be computed as one (test_half_mlp.py).
    _, fast, _ = both(adapted(bare("llama"), ["q_proj", "up_proj"]))
    computed = []
    compute = Group.compute
    monkeypatch.setattr(Group, "compute", lambda group, x: computed.append(group) or compute(group, x))
    loss_of(fast)
    assert len(computed) == len(set(computed)) == 4 * LAYERS


def test_names_and_saved_files_are_those_of_peft(bare, tmp_path):
    model, fast, _ = both(adapted(bare("qwen2"), ALL["qwen2"]))
    assert list(fast.state_dict()) == list(model.state_dict())
    assert [n for n, _ in fast.named_modules()] == [n for n, _ in model.named_modules()]
    for folder, one in (("plain", model), ("fast", fast)):
        one.save_pretrained(tmp_path / folder, save_embedding_layers=False)
    weights = [(tmp_path / f / "adapter_model.safetensors").read_bytes() for f in ("plain", "fast")]
    assert weights[0] == weights[1]
    plain, other = (json.loads((tmp_path / f / "adapter_config.json").read_text()) for f in ("plain", "fast"))
    # A set, whose order is none.
    assert set(plain.pop("target_modules")) == set(other.pop("target_modules"))
    assert plain == other


def test_without_its_adapter_a_model_is_its_base(bare):
    base = bare("qwen2").eval()
    expected = loss_of(base)
    _, fast, _ = both(adapted(copy.deepcopy(base), ALL["qwen2"]))
    with fast.disable_adapter():
        assert loss_of(fast).item() == pytest.approx(expected.item(), rel=1e-6)
    assert loss_of(fast).item() != pytest.approx(expected.item(), rel=1e-3)


def test_merged_and_unmerged_adapters_count_once(bare):
    model, fast, _ = both(adapted(bare("llama"), ALL["llama"]))
    fast.merge_adapter()
    assert loss_of(fast).item() == pytest.approx(loss_of(model).item(), rel=1e-5)
    fast.unmerge_adapter()
    assert loss_of(fast).item() == pytest.approx(loss_of(model).item(), rel=1e-5)
    merged = fast.merge_and_unload()
    assert loss_of(merged).item() == pytest.approx(loss_of(model).item(), rel=1e-5)


def test_one_merged_layer_of_a_group_counts_once(bare):
    model, fast, _ = both(adapted(bare("llama"), ALL["llama"]))
    for layer in fast.get_base_model().model.layers:
        layer.self_attn.k_proj.merge()
        layer.mlp.gate_proj.merge()
    assert loss_of(fast).item() == pytest.approx(loss_of(model).item(), rel=1e-5)


def test_dropout_draws_as_peft_does_and_only_in_training(bare):
    model, fast, notes = both(adapted(bare("llama"), ALL["llama"], lora_dropout=0.5))
    assert notes
    check_equal(model, fast)
    check_equal(model.eval(), fast.eval())


def test_adapters_with_biases_and_trained_biases_stay_with_peft(bare):
    for settings in ({"lora_bias": True}, {"bias": "all"}, {"bias": "lora_only"}):
        model, fast, _ = both(adapted(bare("qwen2"), ["q_proj", "k_proj"], **settings))
        assert all({"q_proj", "k_proj"}.isdisjoint(group) for group in groups_of(fast))
        check_equal(model, fast)


def test_modules_trained_in_full_beside_the_adapter_stay_as_they_are(bare):
    settings = {"modules_to_save": ["up_proj", "lm_head"]}
    model, fast, _ = both(adapted(bare("llama"), ["q_proj", "gate_proj"], **settings))
    check_equal(model, fast)


def test_several_adapters_are_those_of_peft(bare):
    model = adapted(bare("llama"), ["q_proj", "v_proj"])
    model.add_adapter("second", LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "up_proj"]))
    fill(model)
    model, fast, _ = both(model)
    for active in ("second", "default"):
        for one in (model, fast):
            one.set_adapter(active)
        check_equal(model, fast)
    for one in (model, fast):
        one.base_model.set_adapter(["default", "second"])
    check_equal(model, fast)


def test_an_adapter_added_later_is_that_of_peft(bare):
    model, fast, _ = both(adapted(bare("llama"), ["q_proj", "v_proj"]))
    for one in (model, fast):
        one.add_adapter("later", LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "k_proj"]))
        one.set_adapter("later")
        fill(one)
    fast.load_state_dict(model.state_dict())
    check_equal(model, fast)


def test_gradients_accumulate(bare):
    model, fast, _ = both(adapted(bare("llama"), ALL["llama"]))
    check_equal(model, fast, 0, 1, 2)


@pytest.mark.parametrize("mode", ["full", "selective"])
def test_checkpointed_layers_have_the_same_gradients(bare, mode):
    model, fast, _ = both(adapted(bare("llama"), ALL["llama"]))
    apply_checkpointing(fast, mode)
    check_equal(model, fast)


@pytest.mark.parametrize(("name", "checkpointing"), [("llama", "off"), ("qwen", "off"), ("llama", "full")])
def test_compiled_layers_share_two_whole_graphs_with_the_same_gradients(bare, monkeypatch, name, checkpointing):
    """The first layer's input needs no gradient, those of the others do."""
    torch._dynamo.reset()
    counters.clear()
    # Graphs that cannot be whole raise, and are not turned into machine code, which takes most of the time.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager", fullgraph=True))
    model, fast, _ = both(adapted(bare(name), ALL[name]))
    apply_checkpointing(fast, checkpointing)
    assert "compiled for all lengths" in compile_layers(fast, dynamic=True)
    check_equal(model, fast)
    # Two of the layers, one of the norm behind them.
    assert counters["stats"]["unique_graphs"] == 3
    torch._dynamo.reset()


class FloatCasts(TorchDispatchMode):
    """Notes the shapes of all float32 tensors that operations make out of none, or out of others."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[str, torch.Size]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, (list, tuple)) else [out]:
            if isinstance(one, torch.Tensor) and one.dtype == torch.float32:
                self.made.append((str(func), one.shape))
        return out


def full_size_casts(model: nn.Module) -> int:
    """float32 tensors of (tokens, in) or (tokens, out) that a linear layer with adapters makes under autocast."""
    x = torch.randn(2, 13, 32, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16), FloatCasts() as casts:
        attention = model.get_base_model().model.layers[0].self_attn
        q, k, v = attention.q_proj(x), attention.k_proj(x), attention.v_proj(x)
    with casts:
        torch.autograd.backward([q, k, v], [torch.ones_like(one) for one in (q, k, v)])
    return sum(shape.numel() >= 26 * v.shape[-1] for _, shape in casts.made)


def bf16_with_fp32_adapters(model: nn.Module) -> nn.Module:
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            parameter.data = parameter.data.bfloat16()
    return model


def test_in_bf16_no_input_is_cast_up_to_the_adapters_float32(bare):
    model, fast, _ = both(bf16_with_fp32_adapters(adapted(bare("llama"), ALL["llama"])))
    assert full_size_casts(model) > 0
    assert full_size_casts(fast) == 0


def test_in_bf16_adapters_learn_less_than_a_rounding_step_of_bf16(bare):
    fast = bf16_with_fp32_adapters(adapted(bare("llama"), ALL["llama"]))
    speed_up_linears(fast)
    trained = {n: p for n, p in fast.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    before = {n: p.detach().clone() for n, p in trained.items()}
    with torch.autocast("cpu", torch.bfloat16):
        loss_of(fast).backward()
    # AdamW's first step has the size of its learning rate: under half a bf16 step of nearly all B, std 0.1.
    torch.optim.AdamW(trained.values(), lr=1e-6, weight_decay=0.0).step()
    for name, parameter in trained.items():
        moved = parameter.detach() - before[name]
        assert parameter.grad.dtype == torch.float32
        assert (moved != 0).float().mean() > 0.9, name
        if "lora_B" in name:
            same = parameter.detach().bfloat16() == before[name].bfloat16()
            assert same.float().mean() > 0.9, name


def test_in_bf16_gradients_are_as_close_to_float64_as_those_of_peft(bare):
    model, fast, _ = both(bf16_with_fp32_adapters(adapted(bare("qwen2"), ALL["qwen2"])))
    _, exact = gradients(copy.deepcopy(model).double())
    with torch.autocast("cpu", torch.bfloat16):
        _, plain = gradients(model)
        _, found = gradients(fast)
    errors, plain_errors = (
        [(one[n].double() - e).norm() / e.norm() for n, e in exact.items()] for one in (found, plain)
    )
    assert sum(errors) <= 1.05 * sum(plain_errors)


def test_the_classes_are_still_those_that_others_look_for(bare):
    _, fast, _ = both(adapted(bare("llama"), ["q_proj"]))
    attention = fast.get_base_model().model.layers[0].self_attn
    assert isinstance(attention.q_proj, FastLoraLinear) and isinstance(attention.q_proj, LoraLinear)
    assert isinstance(attention.k_proj, FastLinear) and isinstance(attention.k_proj, nn.Linear)

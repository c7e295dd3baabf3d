"""Layers in fp8: the rounding is e4m3's, errors are those a quantised product must have, what cannot be is refused."""

import copy
import math

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from swiftlite.config.errors import UserError
from swiftlite.parallel.launch import World
from swiftlite.quant import fp8
from swiftlite.speed.checkpointing import apply_checkpointing
from swiftlite.speed.fp8_linears import Fp8Layers, fp8_linears
from swiftlite.speed.linears import speed_up_linears
from swiftlite.train.config import SftConfig
from swiftlite.train.decide import decide
from tests.children import run_sft_in_child

# Three bits behind the point: an error spread evenly over one step of 1/8, against mantissas whose logarithms are.
ROUNDING = (1 / 8 / math.sqrt(12)) / math.sqrt(1.5 / math.log(2))
PRODUCT = math.sqrt(2) * ROUNDING
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


def e4m3_values() -> np.ndarray:
    """All finite values from 0 on: exponent bias 7, no infinities, S.1111.111 is NaN (arXiv 2209.05433, table 1)."""
    bits = np.arange(0x7F)
    exponent, mantissa = bits >> 3, bits & 7
    return np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent.astype(float) - 7))


def round_to_e4m3(x: np.ndarray) -> np.ndarray:
    """To the nearest value, of two equally near ones to the one with an even last bit, and at most to the largest."""
    values, size = e4m3_values(), np.minimum(np.abs(x.astype(np.float64)), e4m3_values()[-1])
    above = np.searchsorted(values, size)
    below = np.maximum(above - 1, 0)
    up, down = values[above] - size, size - values[below]
    takes_upper = (up < down) | ((up == down) & (above % 2 == 0))
    return np.sign(x) * np.where(takes_upper, values[above], values[below])


def relative(found: torch.Tensor, exact: torch.Tensor) -> float:
    return ((found.double() - exact).norm() / exact.norm()).item()


def layer(columns: int, rows: int, bias: bool = False, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(columns, rows, bias=bias).requires_grad_(False)


def llama(**lora) -> nn.Module:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **SIZES, **HEADS))
    if lora:
        model = get_peft_model(model, LoraConfig(r=4, task_type="CAUSAL_LM", init_lora_weights=False, **lora))
    return model.train()


def test_the_largest_value_is_that_of_the_paper():
    assert e4m3_values()[-1] == 448 == fp8.LARGEST
    assert e4m3_values()[1] == 2.0**-9


def test_rows_are_rounded_to_the_nearest_value_of_the_paper():
    values = e4m3_values()
    halves = (values[1:] + values[:-1]) / 2
    special = np.concatenate([values, halves, halves * (1 + 1e-6), halves * (1 - 1e-6), [448.0]])
    row = torch.tensor(np.concatenate([special, -special]), dtype=torch.float32)
    torch.manual_seed(0)
    rows = torch.stack([row, torch.randn(len(row)), 1e-12 * torch.randn(len(row)), torch.randn(len(row)) ** 9])
    quantised, scale = fp8.quantise_rows(rows)
    assert quantised.dtype == torch.float8_e4m3fn
    assert scale[0] == 1 and torch.equal(scale[:, 0], (rows.abs().amax(1) / 448))
    expected = round_to_e4m3((rows / scale).numpy())
    assert np.array_equal(quantised.float().numpy(), expected)


def test_a_row_of_zeros_stays_one_and_a_broken_row_is_not_hidden():
    quantised, scale = fp8.quantise_rows(torch.tensor([[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]]))
    back = quantised.float() * scale
    assert back[0].tolist() == [0, 0]
    assert back[1].isnan().any() and back[2].isnan().any()


def test_weights_lose_what_rounding_takes():
    one, other = layer(256, 64), layer(256, 32, seed=1)
    one.weight.data, other.weight.data = torch.randn(64, 256), torch.randn(32, 256)
    exact = [one.weight.double(), other.weight.double()]
    stored = fp8.to_fp8([one, other])
    assert stored.rows.shape == (96, 256) and stored.rows.dtype == torch.float8_e4m3fn
    for linear, reference in zip((one, other), exact):
        back = fp8.dequantise(linear.weight, linear.scale, torch.float32)
        assert relative(back, reference) == pytest.approx(ROUNDING, rel=0.1)


def test_rows_of_like_size_share_one_scale_and_others_keep_their_own():
    alike = layer(64, 32)
    stored = fp8.to_fp8([alike])
    assert stored.scale.unique().numel() == 1
    assert torch.equal(stored.back_scale, stored.scale[0].expand(64))
    for apart in (2.0**7, 2.0**20):
        unlike = layer(64, 32)
        unlike.weight.data = torch.randn(32, 64)
        unlike.weight.data[5:] /= apart
        reference = unlike.weight.double()
        stored = fp8.to_fp8([unlike])
        assert stored.back_scale is None
        assert torch.equal(stored.scale, reference.float().abs().amax(1) / 448)
        back = fp8.dequantise(stored.rows, stored.scale, torch.float32)
        errors = (back.double() - reference).norm(dim=1) / reference.norm(dim=1)
        assert errors.max() < 1.5 * ROUNDING


def parts(seed: int, apart: float = 1.0, bias: bool = True):
    """x, two layers of one input, and an adapter on the first, in float32."""
    torch.manual_seed(seed)
    x = torch.randn(3, 40, 256)
    linears = [layer(256, 128, bias=bias), layer(256, 64, bias=bias, seed=1)]
    for linear in linears:
        linear.weight.data = torch.randn_like(linear.weight) / 16
        linear.weight.data[7:] /= apart
    a, b = torch.randn(8, 256) / 16, 0.05 * torch.randn(128, 8)
    return x, linears, a.requires_grad_(), b.requires_grad_()


def group(stored: fp8.Fp8Rows, a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None) -> Fp8Layers:
    """What `parts` makes, with s = 3."""
    factors = [3.0, 1.0]
    return Fp8Layers(stored, [128, 64], bias, [a, None], [b, None], factors, [], [], torch.float32)


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("apart", [1.0, 2.0**8])
def test_a_group_has_the_error_of_a_quantised_product_and_adapters_none(apart, copies):
    x, linears, a, b = parts(2, apart)
    exact_x, exact_a, exact_b = (t.detach().double().requires_grad_() for t in (x, a, b))
    weights = [linear.weight.double() for linear in linears]
    first = exact_x @ weights[0].T + linears[0].bias + 3 * (exact_x @ exact_a.T) @ exact_b.T
    exact = [first, exact_x @ weights[1].T + linears[1].bias]
    incoming = [torch.randn_like(y) for y in exact]
    torch.autograd.backward(exact, incoming)
    x.requires_grad_()
    bias = torch.cat([linear.bias for linear in linears])
    stored = fp8.to_fp8(linears, spare=128, copies=copies)
    found = fp8_linears(x, group(stored, a, b, bias))
    torch.autograd.backward(found, [g.float() for g in incoming])
    for output, reference in zip(found, exact):
        assert relative(output, reference) < 1.1 * PRODUCT
    assert 0.5 * PRODUCT < relative(x.grad, exact_x.grad) < 1.1 * PRODUCT
    # What an adapter reads, and what comes to it, is not quantised.
    assert relative(a.grad, exact_a.grad) < 1e-5 and relative(b.grad, exact_b.grad) < 1e-5


def test_the_kept_transposed_copy_is_the_transposed_one():
    stored = fp8.to_fp8([layer(64, 32), layer(64, 16, seed=1)], spare=128, copies=2)
    assert torch.equal(stored.turned.float(), stored.rows.float().T)


def test_spare_columns_start_empty_and_change_no_result():
    results = []
    for spare in (0, 128):
        x, linears, a, b = parts(3)
        x.requires_grad_()
        stored = fp8.to_fp8(linears, spare=spare)
        assert stored.rows.stride(0) == 256 + spare
        behind = fp8.whole_rows(stored.rows)[:, 256:]
        assert not behind.float().any()
        behind.view(torch.int8).fill_(0x7E)  # 448: what an adapter of another step may have left there
        found = fp8_linears(x, group(stored, a, b))
        torch.autograd.backward(found, [torch.ones_like(y) for y in found])
        results.append([*found, x.grad, a.grad, b.grad])
    assert all(torch.equal(one, other) for one, other in zip(*results))


@pytest.mark.parametrize(("ranks", "columns"), [(0, 0), (8, 128), (42, 128), (43, 256), (85, 256), (86, 0)])
def test_three_columns_a_rank_are_kept_in_whole_cache_lines_or_not_at_all(ranks, columns):
    assert fp8.spare_columns(ranks) == columns


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 64, (2, 24), generator=torch.Generator().manual_seed(0))
    model.zero_grad()
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_a_checkpointed_model_and_one_with_dropout_off_have_the_same_gradients():
    model = llama(target_modules=["q_proj", "down_proj"], lora_dropout=0.5)
    speed_up_linears(model, quant_method="fp8")
    model.eval()
    expected = gradients(model)
    again = copy.deepcopy(model).train()
    for module in again.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    apply_checkpointing(again, "full")
    # Sums in another order tip a few values over to the next one of e4m3.
    for name, gradient in gradients(again).items():
        assert relative(gradient, expected[name].double()) < 1e-2, name


def test_names_and_files_are_those_of_peft(tmp_path):
    model = llama(target_modules=["q_proj", "down_proj"])
    names = list(model.state_dict())
    plain, kept = copy.deepcopy(model), speed_up_linears(model, quant_method="fp8")
    assert kept and list(model.state_dict()) == names
    for folder, one in (("plain", plain), ("fp8", model)):
        one.save_pretrained(tmp_path / folder, save_embedding_layers=False)
    files = [(tmp_path / folder / "adapter_model.safetensors").read_bytes() for folder in ("plain", "fp8")]
    assert files[0] == files[1]


def test_without_its_adapter_a_model_is_its_base_in_fp8():
    bare, wrapped = llama(), llama(target_modules=["q_proj", "down_proj"])
    bare.requires_grad_(False)
    for model in (bare, wrapped):
        speed_up_linears(model, quant_method="fp8")
    ids = torch.arange(20)[None]
    with wrapped.disable_adapter(), torch.no_grad():
        assert relative(wrapped(ids).logits, bare(ids).logits.double()) < 1e-6


def test_another_active_adapter_counts_and_the_first_does_not():
    targets = ["q_proj", "gate_proj", "down_proj"]
    model = llama(target_modules=targets)
    model.add_adapter("second", LoraConfig(r=2, target_modules=targets, init_lora_weights=False))
    model.set_adapter("second")
    switched = copy.deepcopy(model)
    speed_up_linears(model, quant_method="fp8")
    switched.set_adapter("default")
    speed_up_linears(switched, quant_method="fp8")
    switched.set_adapter("second")
    expected, found = gradients(model), gradients(switched)
    assert found.keys() == expected.keys()
    assert all(relative(found[name], gradient.double()) < 2e-2 for name, gradient in expected.items())


def test_a_frozen_weight_takes_one_byte_and_the_header_counts_them():
    model = llama(target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])
    notes = speed_up_linears(model, quant_method="fp8")
    h, f, kv = SIZES["hidden_size"], SIZES["intermediate_size"], 16
    weights = SIZES["num_hidden_layers"] * (2 * h * h + 2 * h * kv + 3 * h * f)
    stored = [p for n, p in model.named_parameters() if n.endswith("base_layer.weight")]
    assert sum(p.nbytes for p in stored) == weights
    assert f"fp8: {weights / 1e6:.1f} of {weights / 1e6:.1f} million frozen weights of the layers" in notes[1]
    assert not any("not in fp8" in note for note in notes)


def test_layers_that_fp8_does_not_suit_stay_as_they_are_and_are_named():
    model = llama(target_modules=["q_proj", "up_proj"], lora_bias=True)
    plain = copy.deepcopy(model)
    notes = speed_up_linears(model, quant_method="fp8")
    assert (
        "fp8: 0.0 of 0.0 million" in notes[1]
        and "not in fp8" in notes[2]
        and notes[2].endswith("q_proj (2), up_proj (2)")
    )
    for name, parameter in model.named_parameters():
        if "base_layer" in name:
            assert torch.equal(parameter, plain.get_parameter(name))
    errors = [relative(g, gradients(plain)[n].double()) for n, g in gradients(model).items()]
    assert 0 < max(errors) < 0.5


def test_sizes_that_are_no_multiples_of_16_stay_as_they_are_and_are_named():
    torch.manual_seed(0)
    odd = LlamaForCausalLM(LlamaConfig(vocab_size=64, **(SIZES | {"intermediate_size": 50}), **HEADS))
    notes = speed_up_linears(odd.requires_grad_(False), quant_method="fp8")
    assert notes[2].endswith("down_proj (2), gate_proj (2), up_proj (2)")
    assert odd.model.layers[0].mlp.up_proj.weight.dtype == torch.float32
    assert odd.model.layers[0].self_attn.q_proj.weight.dtype == torch.float8_e4m3fn


def test_the_first_layers_stay_as_they_are_when_asked_for():
    model = llama(target_modules=["q_proj", "down_proj"])
    plain = copy.deepcopy(model)
    notes = speed_up_linears(model, quant_method="fp8", first=1)
    for name, parameter in plain.named_parameters():
        if ".layers.0." in name:
            assert torch.equal(model.get_parameter(name), parameter)
    layers = model.get_base_model().model.layers
    stored = [
        sum(m.weight.numel() for m in layer.modules() if isinstance(m, nn.Linear) and m.weight.itemsize == 1)
        for layer in layers
    ]
    h, f, kv = SIZES["hidden_size"], SIZES["intermediate_size"], 16
    assert stored == [0, 2 * h * h + 2 * h * kv + 3 * h * f]
    assert notes[2] == "not in fp8: the first 1 of the decoder layers (--fp8_from_layer)"
    assert not any("multiples" in note for note in notes)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"quant_method": "fp8", "fp8_from_layer": -1}, "--fp8_from_layer -1: expected"),
        ({"fp8_from_layer": 1}, "--fp8_from_layer 1 is for --quant_method fp8, not none"),
    ],
)
def test_layers_to_leave_out_that_cannot_be_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        SftConfig(model="nano", dataset=["x"], **settings)


def test_a_model_in_which_nothing_fits_is_refused():
    off = {"bos_token_id": 1, "eos_token_id": 2}
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2, **off)).requires_grad_(False)
    with pytest.raises(UserError, match=r"--quant_method fp8: no frozen linear layer of this model fits"):
        speed_up_linears(gpt2, quant_method="fp8")


def settings(**more) -> SftConfig:
    return SftConfig(model="nano", dataset="demo", **more)


def test_full_training_has_nothing_frozen_to_store():
    with pytest.raises(UserError, match=r"--quant_method fp8 stores frozen weights and --sft_type full trains them"):
        settings(sft_type="full", quant_method="fp8")


def test_fp8_needs_the_groups_it_runs_in():
    for more in ({"group_linears": False}, {"speed": "off"}):
        with pytest.raises(UserError, match="--quant_method fp8 runs in grouped layers"):
            decide(settings(quant_method="fp8", device="cpu", **more), World())


@pytest.mark.parametrize(("capability", "takes_it"), [((7, 5), False), ((8, 0), False), ((8, 9), True), ((9, 0), True)])
def test_gpus_before_ada_are_refused_in_one_sentence(monkeypatch, capability, takes_it):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(torch.version, "hip", None)
    obstacle = fp8.fp8_obstacle(torch.device("cuda"))
    assert (obstacle is None) == takes_it
    if not takes_it:
        assert f"compute capability is {capability[0]}.{capability[1]}" in obstacle and "8.9" in obstacle


@pytest.fixture
def on_gpu(monkeypatch):
    """Decides as on a GPU of a compute capability, without one."""

    def arrange(capability: tuple[int, int], **more) -> SftConfig:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        monkeypatch.setattr(torch.version, "hip", None)
        for name, value in {"choose_device": torch.device("cuda"), "device_name": "a GPU"}.items():
            monkeypatch.setattr(f"swiftlite.train.decide.{name}", lambda *_, value=value: value)
        config = settings(**({"dtype": "bf16"} | more))
        decide(config, World())
        return config

    return arrange


@pytest.mark.parametrize(
    ("capability", "more", "chosen"),
    [
        ((9, 0), {}, "none"),
        ((9, 0), {"speed": "max"}, "fp8"),
        ((8, 9), {"speed": "max"}, "fp8"),
        ((8, 0), {"speed": "max"}, "none"),
        ((9, 0), {"speed": "max", "dtype": "fp32"}, "none"),
        ((9, 0), {"speed": "max", "sft_type": "full"}, "none"),
        ((9, 0), {"speed": "max", "quant_method": "none"}, "none"),
        ((9, 0), {"speed": "max", "quant_method": "bnb"}, "bnb"),
    ],
)
def test_on_a_gpu_max_takes_fp8_where_it_runs_and_auto_never(on_gpu, capability, more, chosen):
    assert on_gpu(capability, **more).quant.quant_method == chosen


def test_asked_for_where_it_does_not_run_it_is_refused(on_gpu):
    with pytest.raises(UserError, match=r"--quant_method fp8: this GPU's compute capability is 8.0.*; use --quant_"):
        on_gpu((8, 0), quant_method="fp8")
    with pytest.raises(
        UserError, match="--quant_method fp8: its products are made in bf16 on GPUs, and this is float32"
    ):
        on_gpu((9, 0), quant_method="fp8", dtype="fp32")


@pytest.mark.parametrize("kind", ["mps", "rocm"])
def test_other_accelerators_are_refused(monkeypatch, kind):
    monkeypatch.setattr(torch.version, "hip", "7.0" if kind == "rocm" else None)
    assert "NVIDIA" in fp8.fp8_obstacle(torch.device("mps" if kind == "mps" else "cuda"))


@pytest.mark.parametrize(("speed", "sft_type"), [("auto", "lora"), ("max", "full"), ("max", "lora")])
def test_fp8_is_never_chosen_on_a_cpu_nor_by_auto(speed, sft_type):
    config = settings(speed=speed, sft_type=sft_type, device="cpu")
    decide(config, World())
    assert config.quant.quant_method == "none"


def test_a_run_in_fp8_says_so_and_saves_a_plain_adapter(tiny_model, tiny_data, tmp_path):
    given = {"model": tiny_model, "dataset": tiny_data, "output_dir": tmp_path, "run_name": "r", "max_steps": 3}
    ended = run_sft_in_child(given | {"quant_method": "fp8", "device": "cpu", "batch_size": 2})
    assert ended.code == 0, ended.output
    assert "frozen weights of the layers (asked for: numbers change a little)" in ended.output
    assert (tmp_path / "tiny-llama" / "r" / "final" / "adapter_model.safetensors").is_file()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("apart", [1.0, 2.0**8])
@pytest.mark.parametrize("ranks", [8, 64])
def test_on_cuda_a_model_in_fp8_has_the_errors_of_its_emulation(ranks, apart, copies):
    """8 ranks ride in spare columns; 64 of each of three layers have products of their own."""
    found = {}
    for device in ("cpu", "cuda"):
        model = llama(target_modules=["q_proj", "k_proj", "v_proj", "down_proj"], rank_pattern={".*": ranks})
        for layer_ in model.get_base_model().model.layers:
            layer_.self_attn.q_proj.base_layer.weight.data[3:] /= apart
        exact = gradients(copy.deepcopy(model).double())
        trained = {n for n, p in model.named_parameters() if p.requires_grad}
        for name, parameter in model.named_parameters():
            parameter.data = parameter.data.to(device, torch.float32 if name in trained else torch.bfloat16)
        with torch.autocast(device, torch.bfloat16):
            speed_up_linears(model, quant_method="fp8", copies=copies)
            ids = torch.randint(3, 64, (2, 24), generator=torch.Generator().manual_seed(0)).to(device)
            model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        found[device] = [relative(p.grad.cpu(), exact[n]) for n, p in model.named_parameters() if p.grad is not None]
    assert sum(found["cuda"]) <= 1.3 * sum(found["cpu"])

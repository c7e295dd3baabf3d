"""Compiled layers compute what uncompiled ones do, share their graphs, and give up cleanly where nothing compiles."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch._dynamo.utils import counters
from torch._inductor.fx_passes import pad_mm
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from swiftlite.data.collate import Batch, Layout, collate_bins
from swiftlite.models.layers import find_layers
from swiftlite.speed.compile import compile_layers
from swiftlite.speed.loss import LossModule, choose_loss, loss_inputs

VOCABULARY = 128


def make(name: str, lora: bool = False, checkpointing: bool = False) -> nn.Module:
    """A small model without dropout, in training mode."""
    torch.manual_seed(0)
    if name == "gpt2":
        off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 1, "eos_token_id": 2}
        model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, **off))
    else:
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **sizes, **heads))
    base = model
    if lora:
        targets = ["c_attn" if name == "gpt2" else "q_proj"]
        config = LoraConfig(r=2, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM")
        model = get_peft_model(model, config)
    if checkpointing:
        kind = "activation" if hasattr(base, "activation_checkpointing_enable") else "gradient"
        getattr(base, f"{kind}_checkpointing_enable")({"use_reentrant": False})
    return model.train()


def step(model: nn.Module, rows: int, tokens: int, masked: bool = False) -> tuple[float, dict[str, torch.Tensor]]:
    """A loss whose every logit matters, and the gradients by name."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(tokens)
    ids = torch.randint(VOCABULARY, (rows, tokens), generator=generator).to(device)
    mask = torch.ones_like(ids)
    mask[0, -3:] = 0
    model.zero_grad()
    logits = model(input_ids=ids, attention_mask=mask if masked else None, use_cache=False).logits
    loss = logits.float().square().mean()
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def trial_of(model: nn.Module, rows: int, tokens: int) -> Callable[[], torch.Tensor]:
    """Of that shape, through the model as `step` calls it."""
    ids = torch.zeros(rows, tokens, dtype=torch.int64, device=next(model.parameters()).device)
    return lambda: model(input_ids=ids, use_cache=False).logits.float().sum()


def graphs() -> int:
    """Of the layers: the norm behind them has one of its own."""
    return counters["stats"]["unique_graphs"] - 1


def check_parity(name: str, lora: bool, checkpointing: bool) -> None:
    expected, references = step(make(name, lora, checkpointing), 3, 21)
    model = make(name, lora, checkpointing)
    names = list(model.state_dict())
    assert "compiled for all lengths" in compile_layers(model, dynamic=True)
    loss, gradients = step(model, 3, 21)
    assert list(model.state_dict()) == names
    assert loss == pytest.approx(expected, rel=1e-5)
    assert gradients.keys() == references.keys() and references
    for key, reference in references.items():
        assert (gradients[key] - reference).norm() <= 1e-5 * reference.norm() + 1e-7, key


@pytest.mark.parametrize(("lora", "checkpointing"), [(False, False), (True, True)])
def test_graphs_compute_the_same_loss_and_gradients(traced, lora, checkpointing):
    check_parity("llama", lora, checkpointing)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "lora", "checkpointing"), [("llama", False, False), ("gpt2", False, False), ("llama", True, True)]
)
def test_machine_code_computes_the_same_loss_and_gradients(fresh, name, lora, checkpointing):
    check_parity(name, lora, checkpointing)


def test_all_layers_and_lengths_share_one_graph(traced):
    model = make("llama")
    compile_layers(model, dynamic=True)
    assert graphs() == 1
    for rows, tokens in ((2, 16), (4, 33), (3, 100)):
        step(model, rows, tokens)
    assert graphs() == 1


def test_with_lora_the_first_layer_has_a_graph_of_its_own_and_the_trial_makes_both(traced):
    """Nothing before it is trained, so what enters it needs no gradient."""
    model = make("llama", lora=True)
    compile_layers(model, dynamic=False)
    assert graphs() == 2
    step(model, 2, 16)
    assert graphs() == 2


@pytest.mark.slow
def test_an_odd_rank_needs_no_graph_for_another_number_of_tokens(monkeypatch, fresh):
    """On a GPU, PyTorch thinks of padding its products, and asks whether there are more tokens than channels."""
    monkeypatch.setattr(pad_mm, "check_device", lambda *_: True)
    monkeypatch.setattr(pad_mm, "has_triton", lambda: True)
    monkeypatch.setattr(pad_mm, "is_mm_compute_bound", lambda m, k, n, _: bool(k > m and k > n) and False)
    model = make("llama", lora=True, checkpointing=True)
    compile_layers(model, dynamic=True)
    with torch.compiler.set_stance("fail_on_recompile"):
        step(model, 3, 64)


def test_a_mask_is_one_more_graph_and_a_small_limit_is_raised(traced):
    torch._dynamo.config.recompile_limit = 1
    model = make("llama")
    compile_layers(model, dynamic=False)
    step(model, 2, 16, masked=True)
    step(model, 2, 16, masked=True)
    assert graphs() == 2


def test_fixed_shapes_are_compiled_once_when_the_trial_has_them(traced):
    model = make("llama")
    compile_layers(model, dynamic=False, trial=trial_of(model, 2, 24))
    step(model, 2, 24)
    assert graphs() == 1


def test_the_trial_leaves_gradients_modes_and_random_state_as_they_were(traced):
    model = make("llama", lora=True)
    for layer in model.get_base_model().model.layers:
        layer.self_attn.attention_dropout = 0.5
    model.get_base_model().model.norm.eval()
    modes = [m.training for m in model.modules()]
    seen: list[torch.Tensor] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(seen.append)
    state = torch.get_rng_state()
    compile_layers(model, dynamic=False)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert not seen and all(p.grad is None for p in model.parameters())


def test_the_probe_of_the_fused_loss_adds_no_graphs(traced):
    model = make("llama")
    compile_layers(model, dynamic=False)
    assert choose_loss(model, "fused", []).finish is not None
    assert graphs() == 1


@pytest.mark.parametrize("lora", [False, True])
def test_bins_through_graphs_and_fused_loss_are_as_without_and_need_one_set_of_graphs(traced, lora):
    """As a run has them: borders, and another number of trained positions in each batch."""
    layout = Layout(pad_token_id=0, rows=1, length=48, most_documents=4)
    ids, weights = np.arange(48, dtype=np.int32), np.arange(48) % 7 > 3
    model, reference = make("llama", lora), make("llama", lora)
    for one in (model, reference):
        one.set_attn_implementation("swiftlite")

    def bins(*lengths: int) -> Batch:
        return collate_bins([[(ids[:n], weights[:n]) for n in lengths]], layout)

    module, plain = choose_loss(model, "fused", []), LossModule(reference)
    compile_layers(model, dynamic=False, trial=lambda: module(**loss_inputs(bins(9, 38))))
    made = [graphs()]
    for lengths in ((20, 27), (5, 30, 2, 3), (48,)):
        batch = bins(*lengths)
        losses = [each(**loss_inputs(batch)) for each in (module, plain)]
        assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
        weighed = [[p for p in each.parameters() if p.requires_grad] for each in (module, plain)]
        for found, expected in zip(*map(torch.autograd.grad, losses, weighed), strict=True):
            assert (found - expected).norm() <= 1e-5 * expected.norm() + 1e-7
        made.append(graphs())
    # The trial made those with borders; the last bin is one row, which needs none.
    assert made[0] == made[1] == made[2]


def check_falls_back(model: nn.Module, reason: str) -> None:
    expected, references = step(make("llama"), 2, 16)
    with pytest.warns(UserWarning, match=f"LlamaDecoderLayer could not be compiled.*{reason}"):
        note = compile_layers(model, dynamic=True)
    assert note.startswith("layers: not compiled (") and reason in note
    loss, gradients = step(model, 2, 16)
    assert loss == expected
    assert all(torch.equal(gradients[n], references[n]) for n in references)


def test_a_machine_that_cannot_compile_runs_the_layers_as_they_are(monkeypatch, fresh):
    def no_compiler(_, **options):
        def fail(*args, **kwargs):
            raise RuntimeError("no C compiler found")

        return fail

    monkeypatch.setattr(torch, "compile", no_compiler)
    check_falls_back(make("llama"), "no C compiler found")


def test_a_backward_pass_that_does_not_compile_is_found_before_training(monkeypatch, fresh):
    from torch._dynamo.backends.common import aot_autograd

    def broken(graph, inputs):
        raise RuntimeError("no backward today")

    backend = aot_autograd(fw_compiler=lambda graph, inputs: graph, bw_compiler=broken)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    check_falls_back(make("llama"), "no backward today")


def test_the_layers_are_found_in_every_layout():
    gpt2 = make("gpt2")
    assert find_layers(gpt2) is gpt2.transformer.h
    wrapped = make("llama", lora=True)
    assert find_layers(wrapped) is wrapped.get_base_model().model.layers
    sizes = {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 1, "num_local_experts": 8}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    mixture = MixtralForCausalLM(MixtralConfig(vocab_size=64, **sizes, **heads))
    assert find_layers(mixture) is mixture.model.layers


def test_a_model_without_a_list_of_layers_is_left_alone():
    assert compile_layers(nn.Linear(2, 2), dynamic=True) == "layers: not compiled (this model has no list of layers)"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize(("lora", "checkpointing"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_on_cuda_in_bf16_compiled_is_as_close_to_float64_as_eager(fresh, name, lora, checkpointing):
    exact_loss, exact = step(make(name, lora, checkpointing).bfloat16().double(), 3, 64)
    eager = make(name, lora, checkpointing).bfloat16().cuda()
    compiled = make(name, lora, checkpointing).bfloat16().cuda()
    with torch.autocast("cuda", torch.bfloat16):
        eager_loss, eager_gradients = step(eager, 3, 64)
        assert "compiled for all lengths" in compile_layers(compiled, dynamic=True)
        # Its error says which guard asked for another graph.
        with torch.compiler.set_stance("fail_on_recompile"):
            loss, gradients = step(compiled, 3, 64)
    assert abs(loss - exact_loss) <= abs(eager_loss - exact_loss) + 5e-3 * exact_loss
    for key, reference in exact.items():
        error = (gradients[key].cpu().double() - reference).norm()
        eager_error = (eager_gradients[key].cpu().double() - reference).norm()
        assert error <= 1.2 * eager_error + 1e-2 * reference.norm() + 1e-7, (key, error, eager_error)

"""Checkpointing changes what is kept, never what is computed: gradients stay, and attention runs once in selective."""

import functools

import pytest
import torch
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

from swiftlite.config.errors import UserError
from swiftlite.speed.checkpointing import apply_checkpointing
from swiftlite.speed.compile import compile_layers
from swiftlite.speed.linears import speed_up_linears
from tests.speed.test_compile import make, step, trial_of

LAYERS = 2
calls: list[str] = []


@torch.library.custom_op("swiftlite::counted_attention_for_tests", mutates_args=())
def counted_attention(q: torch.Tensor) -> torch.Tensor:
    """Stands where attention does and counts; that gradients are right, other tests see."""
    calls.append("forward")
    return q * q


@counted_attention.register_fake
def _(q):
    return torch.empty_like(q)


counted_attention.register_autograd(
    lambda ctx, incoming: 2 * ctx.saved_tensors[0] * incoming,
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


def attend(module, query, key, value, mask, **kwargs):
    return counted_attention(query).transpose(1, 2).contiguous(), None


AttentionInterface.register("counted", attend)


def counted_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": LAYERS}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=128, attn_implementation="counted", **sizes, **heads)
    return LlamaForCausalLM(config).train()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_gradients_are_those_without_checkpointing(traced, name, compiled):
    loss, references = step(make(name, lora=True), 3, 21)
    for mode in ("full", "selective"):
        model = make(name, lora=True)
        apply_checkpointing(model, mode)
        if compiled:
            assert "compiled" in compile_layers(model, dynamic=True)
        again, gradients = step(model, 3, 21)
        assert again == pytest.approx(loss, rel=1e-6)
        assert gradients.keys() == references.keys() and references
        for key, reference in references.items():
            assert (gradients[key] - reference).norm() <= 1e-5 * reference.norm() + 1e-7, (mode, key)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("mode", "runs"), [("off", 1), ("selective", 1), ("full", 2)])
def test_attention_runs_once_unless_all_is_recomputed(traced, mode, runs, compiled):
    model = counted_model()
    apply_checkpointing(model, mode)
    if compiled:
        assert "compiled" in compile_layers(model, dynamic=True)
    calls.clear()
    step(model, 2, 16)
    assert len(calls) == runs * LAYERS


@pytest.mark.parametrize("compiled", [False, True])
def test_another_mode_replaces_the_one_before(traced, compiled):
    model = counted_model()
    if compiled:
        compile_layers(model, dynamic=True)
    for mode, runs in (("full", 2), ("selective", 1), ("full", 2), ("off", 1)):
        apply_checkpointing(model, mode)
        calls.clear()
        step(model, 2, 16)
        assert len(calls) == runs * LAYERS, mode


def saved_bytes(model: torch.nn.Module) -> int:
    """What autograd keeps between forward and backward, parameters not counted."""
    kept, weights = {}, {p.data_ptr() for p in model.parameters()}

    def keep(tensor):
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(input_ids=torch.zeros(2, 64, dtype=torch.int64), use_cache=False).logits
    assert logits.requires_grad
    return sum(t.nbytes for t in kept.values())


def test_compiled_the_modes_keep_less_and_less(traced):
    numbers = {}
    for mode in ("off", "selective", "full"):
        model = make("llama")
        apply_checkpointing(model, mode)
        compile_layers(model, dynamic=False, trial=trial_of(model, 2, 64))
        numbers[mode] = saved_bytes(model)
    assert numbers["full"] < numbers["selective"] < numbers["off"]


def test_dropout_is_drawn_the_same_again():
    gradients = []
    for mode in ("off", "full", "selective"):
        model = make("llama")
        for layer in model.model.layers:
            layer.self_attn.attention_dropout = 0.5
        apply_checkpointing(model, mode)
        torch.manual_seed(1)
        gradients.append(step(model, 2, 16)[1])
    for other in gradients[1:]:
        assert all(torch.equal(other[n], g) for n, g in gradients[0].items())


def test_a_model_without_layers_is_refused():
    with pytest.raises(UserError, match=r"--gradient_checkpointing full: Linear has no list of decoder layers"):
        apply_checkpointing(torch.nn.Linear(2, 2), "full")


@pytest.mark.parametrize("mode", ["full", "selective"])
def test_graphs_of_fp8_layers_keep_only_what_the_mode_says(monkeypatch, mode):
    """Functions with saved tensors of their own, as the fp8 groups are, are computed again too."""
    torch._dynamo.reset()
    # The partition that machine code gets, without making it.
    backend = "aot_eager_decomp_partition"
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    model, tokens = make("llama", lora=True), 64
    speed_up_linears(model, quant_method="fp8")
    apply_checkpointing(model, mode)
    compile_layers(model, dynamic=True, trial=trial_of(model, 2, tokens))
    frozen = {t.data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in frozen and tensor.dim() > 1 and tensor.numel() >= 2 * tokens * 8:
            kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    decoder = model.get_base_model().model
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        decoder(input_ids=torch.zeros(2, tokens, dtype=torch.int64), use_cache=False)
    hidden = 2 * tokens * decoder.config.hidden_size
    # The layers' inputs and the norm's behind them; in selective also what attention returned.
    expected = (LAYERS + 1) + (LAYERS if mode == "selective" else 0)
    assert sum(kept.values()) <= (expected + 1) * hidden
    torch._dynamo.reset()

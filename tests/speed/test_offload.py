"""Offloaded activations come back as they were, compiled or not, and nothing of a model stays behind."""

import gc

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from swiftlite.speed import offload
from swiftlite.speed.checkpointing import apply_checkpointing
from swiftlite.speed.compile import compile_layers
from swiftlite.speed.offload import offload_activations
from tests.speed.test_compile import make, step, trial_of


@pytest.fixture
def counted(monkeypatch):
    """How many tensors went out, how many were asked for, and how many were copied back for that."""
    seen = {"sent": 0, "brought": 0, "fetched": 0}
    send, bring, fetch = offload._Offload._send, offload._Offload._bring, offload._Offload._fetch

    def sending(self, tensor):
        kept = send(self, tensor)
        seen["sent"] += isinstance(kept, offload._Away)
        return kept

    def bringing(self, kept):
        seen["brought"] += isinstance(kept, offload._Away)
        return bring(self, kept)

    def fetching(self, away):
        seen["fetched"] += away.fetched is None
        fetch(self, away)

    monkeypatch.setattr(offload._Offload, "_send", sending)
    monkeypatch.setattr(offload._Offload, "_bring", bringing)
    monkeypatch.setattr(offload._Offload, "_fetch", fetching)
    return seen


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("mode", ["full", "selective"])
def test_gradients_are_those_of_activations_that_stay(traced, counted, mode, compiled):
    loss, references = step(make("llama", lora=True), 3, 21)
    model = make("llama", lora=True)
    apply_checkpointing(model, mode)
    offload_activations(model, smallest_bytes=512)
    if compiled:
        assert "compiled" in compile_layers(model, dynamic=True)
    counted.update(sent=0, brought=0, fetched=0)
    for _ in range(2):
        again, gradients = step(model, 3, 21)
        assert again == pytest.approx(loss, rel=1e-6)
        for key, reference in references.items():
            assert (gradients[key] - reference).norm() <= 1e-5 * reference.norm() + 1e-7, key
    assert counted["sent"] == counted["brought"] == counted["fetched"] >= 2 * 2


def test_full_checkpointing_sends_each_layers_input_and_no_weight(counted):
    model = make("llama")
    apply_checkpointing(model, "full")
    hidden_bytes = 2 * 64 * 32 * 4
    offload_activations(model, smallest_bytes=hidden_bytes)
    model.model.norm = torch.nn.Identity()
    step(model, 2, 64)
    assert counted == {"sent": 2, "brought": 2, "fetched": 2}


def test_evaluation_sends_nothing(counted):
    model = make("llama").eval()
    offload_activations(model, smallest_bytes=1)
    step(model, 2, 16)
    assert counted["sent"] == 0


def test_a_failed_forward_leaves_no_hooks_behind(counted):
    model = make("llama")
    offload_activations(model, smallest_bytes=1)

    def fail(*_):
        raise RuntimeError("no memory")

    handle = model.model.layers[1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="no memory"):
        step(model, 2, 16)
    handle.remove()
    counted["sent"] = 0
    (torch.ones(8, requires_grad=True) * torch.ones(8)).sum().backward()
    assert counted["sent"] == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("mode", ["full", "selective"])
def test_on_cuda_gradients_stay_and_memory_falls(fresh, mode, compiled):
    sizes = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 12, "num_attention_heads": 8}
    results = []
    for away in (False, True):
        # Graphs and checkpointed layers may hold on to the model before.
        torch._dynamo.reset()
        gc.collect()
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=512, max_position_embeddings=8192, **sizes))
        model = model.cuda().bfloat16().train()
        apply_checkpointing(model, mode)
        if away:
            offload_activations(model)
        if compiled:
            note = compile_layers(model, dynamic=False, trial=trial_of(model, 4, 8192))
            assert "compiled for each shape" in note, note
        ids = torch.arange(4 * 8192, device="cuda").view(4, 8192) % 512
        for _ in range(2):
            model.zero_grad(set_to_none=True)
            gc.collect()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
            # Not the square: that of normalised rows is always 1, and its gradients are nothing but rounding.
            hidden.float().pow(3).mean().backward()
        gradients = {n: p.grad.float().cpu() for n, p in model.named_parameters() if p.grad is not None}
        results.append((torch.cuda.max_memory_allocated() - before, gradients))
        del model, hidden
    (there, references), (away, gradients) = results
    distances = {n: ((gradients[n] - g).norm() / g.norm()).item() for n, g in references.items()}
    # What a kernel adds up in any order differs in the last of bf16's 8 bits.
    assert max(distances.values()) <= 1e-2, sorted(distances.items(), key=lambda d: -d[1])[:5]
    # 12 layer inputs of 32 MiB each, of which a few are on their way at a time.
    saved = (there - away) / 2**20
    assert saved > 6 * 32, f"{saved:.0f} MiB less than {there / 2**20:.0f} MiB"

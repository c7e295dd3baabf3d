"""LongLoRA: shifted sparse attention against dense masks written out, and what the tuner trains and refuses."""

import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch._dynamo.testing import CompileCounter
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from swiftlite.config.errors import UserError
from swiftlite.data.collate import Layout, collate, collate_bins
from swiftlite.measure.flops import model_flops, train_flops
from swiftlite.speed.loss import LossModule, loss_inputs
from swiftlite.speed.shifted_attention import shifted_attention, use_shifted_attention
from swiftlite.train.config import SftConfig
from swiftlite.tuners.registry import make_tuner

LENGTHS = (16, 1, 21, 6)


def shifted_mask(length: int, moved: bool) -> torch.Tensor:
    """(length, length): causal within groups of a quarter of the length, or those moved by half a group."""
    mask = torch.zeros(length, length, dtype=torch.bool)
    for query in range(length):
        for key in range(query + 1):
            # Both stand in the same quarter: between the same multiples of length / 4 (plus length / 8).
            borders = [length * (2 * n - (1 if moved else 0)) / 8 for n in range(6)]
            mask[query, key] = not any(key + 1 <= border < query + 1 for border in borders)
    return mask


def reference(query, key, value, lengths, scaling):
    """Softmax over dense masks, a document and a head at a time. All (tokens, heads, head_dim)."""
    heads, read, start = query.shape[1], [], 0
    for length in lengths:
        q, k, v = (x[start : start + length] for x in (query, key, value))
        of = [h * key.shape[1] // heads for h in range(heads)]
        outputs = []
        for head in range(heads):
            scores = q[:, head] @ k[:, of[head]].T * scaling
            scores = scores.masked_fill(~shifted_mask(length, head >= heads // 2), -torch.inf)
            outputs.append(scores.softmax(-1) @ v[:, of[head]])
        read.append(torch.stack(outputs, dim=1))
        start += length
    return torch.cat(read)


def test_groups_of_a_length_that_divides_are_the_papers():
    """Its figure 2: sixteen tokens, groups of four; moved by two, the first and last two stand alone."""
    plain, moved = shifted_mask(16, False), shifted_mask(16, True)
    groups = [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    moved_groups = [0] * 2 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 2
    for mask, of in ((plain, groups), (moved, moved_groups)):
        expected = [[of[q] == of[k] and k <= q for k in range(16)] for q in range(16)]
        assert mask.tolist() == expected


class Layer(nn.Module):
    def __init__(self, groups: int):
        super().__init__()
        self.num_key_value_groups, self.is_causal = groups, True


@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (4, 2), (4, 1), (5, 5), (6, 3)])
def test_each_document_is_attended_in_its_own_groups(heads, key_heads):
    torch.manual_seed(0)
    total = sum(LENGTHS)
    given = [torch.randn(1, h, total, 8, requires_grad=True) for h in (heads, key_heads, key_heads)]
    borders = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0).tolist(), total, total], dtype=torch.int32)
    read, _ = shifted_attention(
        Layer(heads // key_heads), *given, None, scaling=0.3, cu_seq_lens_q=borders, max_length_q=max(LENGTHS)
    )
    expected = reference(*(x[0].transpose(0, 1) for x in given), LENGTHS, 0.3)
    assert torch.allclose(read[0], expected, atol=1e-5)
    factors = torch.randn_like(expected)
    ours = torch.autograd.grad((read[0] * factors).sum(), given)
    theirs = torch.autograd.grad((expected * factors).sum(), given)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs))


def test_evaluation_is_plain_attention():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 4, 20, 8).unbind()
    layer = Layer(1).eval()
    borders = torch.tensor([0, 20], dtype=torch.int32)
    read, _ = shifted_attention(layer, query, key, value, None, scaling=0.3, cu_seq_lens_q=borders, max_length_q=20)
    expected = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.3)
    assert torch.allclose(read, expected.transpose(1, 2), atol=1e-6)


def test_the_flop_count_is_that_of_the_masks():
    length = 64
    pairs = [2 * sum((q - k == 0) * 0.5 + (k < q) for q, k in mask.nonzero().tolist()) for mask in masks(length)]
    model = small()
    sparse = train_flops(model_flops(model), 0, length**2)
    model.set_attn_implementation("swiftlite")
    assert sparse / train_flops(model_flops(model), 0, length**2) == sum(pairs) / 2 / length**2


def masks(length):
    return shifted_mask(length, False), shifted_mask(length, True)


def small() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM._from_config(config, attn_implementation="swiftlite").train()
    use_shifted_attention(model)
    return model


def rows(lengths=(9, 30, 17)):
    generator = torch.Generator().manual_seed(1)
    return [(torch.randint(50, (n,), generator=generator).int().numpy(), torch.ones(n).half().numpy()) for n in lengths]


@pytest.mark.parametrize(
    "batch",
    [
        collate(rows(), Layout(0, 3, 30)),
        collate(rows(), Layout(0, 3, 30, padding_free=True)),
        collate_bins([rows()[:2], rows()[2:]], Layout(0, 2, 48, most_documents=2)),
    ],
    ids=["padded", "joined", "packed"],
)
def test_the_layout_of_a_batch_does_not_matter(batch):
    """The loss of each row alone, in a batch of itself without any padding, adds up to that of the batch."""
    module = LossModule(small())
    alone = sum(module(**loss_inputs(collate([row], Layout(0, 1, 30, multiple=1)))) for row in rows())
    assert module(**loss_inputs(batch)).item() == pytest.approx(alone.item(), rel=1e-5)


def test_new_borders_are_no_new_graph():
    torch._dynamo.reset()
    model, counter = small(), CompileCounter()
    for layer in model.model.layers:
        layer.compile(backend=counter, fullgraph=True)
    for lengths in ((9, 30, 17), (20, 20, 16), (1, 5, 50)):
        batch = collate_bins([rows(lengths)], Layout(0, 1, 56, most_documents=3))
        loss = LossModule(model)(**loss_inputs(batch))
        assert counter.frame_count == 1
        with torch.compiler.set_stance("force_eager"):
            assert loss.item() == pytest.approx(LossModule(model)(**loss_inputs(batch)).item(), rel=1e-5)
    torch._dynamo.reset()


def tuned(tiny_model, implementation="swiftlite", **settings):
    config = SftConfig(model=str(tiny_model), dataset="demo", sft_type="longlora", **settings)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation=implementation)
    tuner = make_tuner("longlora", config)
    return tuner, tuner.apply(base)


def test_it_trains_the_adapter_the_embedding_and_the_norms(tiny_model, tmp_path):
    tuner, model = tuned(tiny_model, lora_rank=2)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {n for n, _ in model.named_parameters() if "lora_" in n or "modules_to_save" in n}
    whole = {n.split(".modules_to_save")[0].split(".")[-1] for n in trained if "modules_to_save" in n}
    assert whole == {"embed_tokens", "input_layernorm", "post_attention_layernorm", "norm"}
    tuner.save(model, tmp_path)
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as file:
        assert len(list(file.keys())) == len(trained)


@pytest.mark.parametrize(
    ("settings", "implementation", "words"),
    [
        ({"attn_impl": "sdpa"}, "sdpa", "--attn_impl sdpa: --sft_type longlora trains with its own"),
        ({"add_tokens": ["<x>"]}, "swiftlite", "--add_tokens: --sft_type longlora"),
        ({}, "eager", "LlamaForCausalLM runs with eager attention"),
    ],
)
def test_what_cannot_work_is_refused(tiny_model, settings, implementation, words):
    with pytest.raises(UserError, match=words):
        tuned(tiny_model, implementation, **settings)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("key_heads", [4, 2, 1])
def test_the_kernel_in_bf16_is_near_the_dense_mask_and_nothing_waits(key_heads):
    torch.manual_seed(0)
    lengths = (130, 1, 77, 48)
    total = sum(lengths)
    half = [torch.randn(1, h, total, 64, dtype=torch.bfloat16, device="cuda") for h in (4, key_heads, key_heads)]
    half = [each.requires_grad_() for each in half]
    borders = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist(), total], dtype=torch.int32, device="cuda")
    given = {"scaling": 0.125, "cu_seq_lens_q": borders, "max_length_q": max(lengths)}
    shifted_attention(Layer(4 // key_heads), *half, None, **given)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        read, _ = shifted_attention(Layer(4 // key_heads), *half, None, **given)
        factors = torch.ones_like(read)
        gradients = torch.autograd.grad((read * factors).sum(), half)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    plain = [each.detach().cpu().float().requires_grad_() for each in half]
    expected = reference(*(x[0].transpose(0, 1) for x in plain), lengths, 0.125)
    assert (read[0].cpu().float() - expected).norm() < 1e-2 * expected.norm()
    for one, other in zip(gradients, torch.autograd.grad(expected.sum(), plain)):
        assert (one.cpu().float() - other).norm() < 2e-2 * other.norm() + 1e-2

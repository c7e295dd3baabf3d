"""The head is multiplied by trained positions alone: the same loss and gradients, and fewer rows."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Gemma2Config, Gemma2ForCausalLM

from swiftlite.data.collate import Batch, Layout, collate, collate_bins
from swiftlite.speed import linear_cross_entropy
from swiftlite.speed.loss import LossModule, loss_inputs
from swiftlite.speed.unique_rows import take_unique_rows
from tests.speed.test_loss import SIZES, VOCABULARY, check_equal, fused, make, perturb, run

on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]
DEVICES = ["cpu", pytest.param("cuda", marks=on_gpu)]
LENGTHS, ANSWER = (40, 23, 31, 8, 37), 3


def rows():
    """Prompts with answers of three tokens, each weighted otherwise."""
    generator = torch.Generator().manual_seed(5)
    made = []
    for length in LENGTHS:
        weights = (torch.rand(length, generator=generator) + 0.5) * (torch.arange(length) >= length - ANSWER)
        made.append((torch.randint(VOCABULARY, (length,), generator=generator).int().numpy(), weights.half().numpy()))
    return made


def mostly_untrained(way: str = "padded", counts: bool = True) -> Batch:
    if way == "bins":
        layout = Layout(pad_token_id=0, rows=2, length=80, most_documents=3)
        given = collate_bins([rows()[:2], rows()[2:]], layout, counts)
    else:
        given = collate(rows(), Layout(0, rows=5, length=40, padding_free=way == "joined"), counts)
    assert len(given.trained_positions) == ANSWER * len(LENGTHS) * counts
    return given


def gemma2() -> nn.Module:
    """With Gemma-2's own cap of 30, and logits as a trained one has them, most of them bent by it."""
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(Gemma2Config(**SIZES, final_logit_softcapping=30.0, attn_implementation="eager"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        model.model.norm.weight.add_(30)
        hidden = model.model(torch.arange(20)[None]).last_hidden_state
    assert (hidden @ model.lm_head.weight.T).std() > 15
    return model


def lora() -> nn.Module:
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    return perturb(get_peft_model(make("llama"), config))


MODELS = {"llama": lambda: make("llama"), "tied": lambda: make("llama tied"), "gemma2": gemma2, "lora": lora}


@pytest.mark.parametrize("way", ["padded", "joined", "bins"])
@pytest.mark.parametrize("name", MODELS)
def test_fused_equals_plain_where_most_is_untrained(name, way):
    check_equal(MODELS[name](), mostly_untrained(way))


def distance(found, expected):
    return ((found.cpu().double() - expected.cpu()).norm() / expected.norm()).item()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["llama", "tied", "lora"])
def test_in_bf16_fused_is_within_a_thousandth_of_plain(name, device):
    model, given = MODELS[name]().bfloat16().to(device), mostly_untrained("bins").to(device)
    loss, gradients = run(fused(model), given)
    expected, references = run(LossModule(model), given)
    assert loss == pytest.approx(expected, rel=1e-3)
    # On a GPU one product of all rows is not tiled as one of few, and each sum is rounded to 8 bits.
    allowed = 1e-3 if device == "cpu" else 1e-2
    assert all(distance(gradients[key], reference.double()) < allowed for key, reference in references.items())


@pytest.mark.parametrize("device", DEVICES)
def test_in_bf16_the_fused_cap_is_nearer_to_float64_than_the_plain_one(device):
    """transformers caps in bf16, whose numbers near 30 are an eighth apart."""
    model, given = gemma2().bfloat16().to(device), mostly_untrained("bins").to(device)
    exact, references = run(LossModule(gemma2().bfloat16().double()), mostly_untrained("bins"))
    loss, gradients = run(fused(model), given)
    plain, others = run(LossModule(model), given)
    assert abs(loss - exact) <= abs(plain - exact) + 1e-3 * exact
    ours, theirs = ([distance(found[k], references[k]) for k in references] for found in (gradients, others))
    assert sum(ours) <= 1.05 * sum(theirs)


@pytest.mark.parametrize("trained", [True, False])
def test_the_logits_have_a_row_for_each_trained_position(monkeypatch, trained):
    seen, elementwise = [], linear_cross_entropy._elementwise

    def watched(logits, *more):
        seen.append(len(logits))
        return elementwise(logits, *more)

    module, given = fused(make("llama")), mostly_untrained()
    monkeypatch.setattr(linear_cross_entropy, "_elementwise", watched)
    with torch.set_grad_enabled(trained):
        module(**loss_inputs(given))
    assert sum(seen) == ANSWER * len(LENGTHS) < given.padded / 10


@pytest.mark.parametrize("name", MODELS)
def test_a_filler_costs_no_product_and_leaves_a_gradient_of_zeros_for_every_weight(name):
    """In DDP the other processes wait for each of them."""
    model = MODELS[name]()
    loss, gradients = run(fused(model), mostly_untrained("bins", counts=False))
    assert loss == 0
    assert gradients.keys() == {f"model.{key}" for key, p in model.named_parameters() if p.requires_grad}
    assert all(gradient.count_nonzero() == 0 for gradient in gradients.values())


@pytest.mark.parametrize("places", [[4, 0, 3], []], ids=["some", "none"])
def test_unique_rows_and_their_gradients_are_those_of_indexing(places):
    places = torch.tensor(places, dtype=torch.int64)
    rows = torch.randn(6, 5, requires_grad=True)
    factors = torch.randn(len(places), 5)
    taken = take_unique_rows(rows, places)
    assert torch.equal(taken, rows[places])
    (found,) = torch.autograd.grad((taken * factors).sum(), rows)
    (expected,) = torch.autograd.grad((rows[places] * factors).sum(), rows)
    assert torch.equal(found, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("counts", [True, False], ids=["batch", "filler"])
def test_on_cuda_the_host_never_waits(counts):
    """Not even for positions that are still on their way, or for none at all."""
    torch.manual_seed(0)
    model = make("llama").cuda().bfloat16()
    model.set_attn_implementation("swiftlite")
    module, given = fused(model), mostly_untrained("bins", counts).pin_memory()

    def run_once():
        module(**loss_inputs(given.to("cuda", non_blocking=True))).backward()

    run_once()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        run_once()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_cuda_rows_and_gradients_are_exact_and_deterministic_algorithms_take_them():
    rows, factors = torch.randn(512, 64, device="cuda", requires_grad=True), torch.randn(100, 64, device="cuda")
    places = torch.randperm(512, device="cuda")[:100]
    expected = torch.zeros_like(rows).index_copy(0, places, factors)
    for strict in (False, True):
        torch.use_deterministic_algorithms(strict)
        try:
            (found,) = torch.autograd.grad((take_unique_rows(rows, places) * factors).sum(), rows)
        finally:
            torch.use_deterministic_algorithms(False)
        assert torch.equal(found, expected)

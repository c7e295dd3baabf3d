"""NEFTune's noise: its size by document, its distribution, and that only training has it."""

import pytest
import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from swiftlite.config.errors import UserError
from swiftlite.data.collate import Layout, collate, collate_bins
from swiftlite.speed.loss import LossModule, loss_inputs
from swiftlite.train.config import SftConfig
from swiftlite.tuners.neftune import add_noise

WIDTH, ALPHA = 64, 5.0
LENGTHS = (9, 40, 23)


@pytest.fixture
def fresh_graphs():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def model(implementation: str = "swiftlite") -> LlamaForCausalLM:
    import swiftlite.speed.varlen  # noqa: F401

    config = LlamaConfig(
        vocab_size=50, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4
    )
    return LlamaForCausalLM._from_config(config, attn_implementation=implementation).train()


def rows(lengths=LENGTHS):
    return [((torch.arange(n) % 50).int().numpy(), torch.ones(n).half().numpy()) for n in lengths]


# Batches, and where their documents are: (row, first, length).
LAYOUTS = {
    "padded": (lambda: collate(rows(), Layout(0, 3, 40)), [(0, 0, 9), (1, 0, 40), (2, 0, 23)]),
    "joined": (lambda: collate(rows(), Layout(0, 3, 40, padding_free=True)), [(0, 0, 9), (0, 9, 40), (0, 49, 23)]),
    "packed": (
        lambda: collate_bins([rows()[:2], rows()[2:]], Layout(0, 2, 56, most_documents=2)),
        [(0, 0, 9), (0, 9, 40), (0, 56, 23)],
    ),
    # Rows of nearly one length have neither mask nor borders.
    "equal": (
        lambda: collate(rows((41, 41, 41)), Layout(0, 3, 41, padding_free=True)),
        [(0, 0, 41), (1, 0, 41), (2, 0, 41)],
    ),
}


def noise_of(module: LossModule, batch) -> torch.Tensor:
    """What the embedding's output differs by from its weight's rows: (batch, seq, width)."""
    seen = []
    handle = module.model.get_input_embeddings().register_forward_hook(lambda _, ids, out: seen.append(out.detach()))
    module(**loss_inputs(batch))
    handle.remove()
    return seen[0] - F.embedding(batch.input_ids, module.model.get_input_embeddings().weight.detach())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_document_has_noise_of_its_own_length(layout):
    torch.manual_seed(0)
    module, (make, places) = LossModule(model()), LAYOUTS[layout]
    add_noise(module, ALPHA)
    batch = make()
    noise = noise_of(module, batch)
    for row, first, length in places:
        bound = ALPHA / (length * WIDTH) ** 0.5
        own = noise[row, first : first + length].flatten()
        assert 0.98 * bound < own.abs().max() <= bound * (1 + 1e-5)
        # Uniform: variance bound²/3, mean 0, and as much in each tenth (4 standard errors).
        assert own.mean().abs() < 4 * bound / (3 * own.numel()) ** 0.5
        tenths = torch.histc(own / bound, 10, -1, 1) / own.numel()
        assert (tenths - 0.1).abs().max() < 4 * (0.09 / own.numel()) ** 0.5


def test_evaluation_has_none_and_training_draws_it_from_the_seed():
    module, batch = LossModule(model()), LAYOUTS["joined"][0]()
    add_noise(module, ALPHA)
    torch.manual_seed(3)
    first, second = noise_of(module, batch), noise_of(module, batch)
    torch.manual_seed(3)
    assert torch.equal(noise_of(module, batch), first) and not torch.equal(first, second)
    module.eval()
    assert noise_of(module, batch).abs().max() == 0


def test_compiled_layers_read_noisy_embeddings(fresh_graphs):
    module, batch = LossModule(model()), LAYOUTS["joined"][0]()
    add_noise(module, ALPHA)
    torch.manual_seed(3)
    expected = module(**loss_inputs(batch))
    for layer in module.model.model.layers:
        layer.compile(backend="eager", fullgraph=True)
    torch.manual_seed(3)
    compiled = module(**loss_inputs(batch))
    assert compiled.item() == pytest.approx(expected.item(), rel=1e-6)
    assert module.eval()(**loss_inputs(batch)).item() != pytest.approx(expected.item(), rel=1e-6)


def test_zero_is_off_and_negative_is_refused(tiny_model):
    module = LossModule(model())
    add_noise(module, 0.0)
    assert not module.watchers
    with pytest.raises(UserError, match=r"--neftune_noise_alpha: -1\.0 must not be negative"):
        SftConfig(model=str(tiny_model), dataset="demo", neftune_noise_alpha=-1)


def test_no_tuner_calls_it_idle(tiny_model):
    config = SftConfig(model=str(tiny_model), dataset="demo", neftune_alpha=5)
    assert config.tuner.neftune_noise_alpha == 5 and not config.notices


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_cuda_nothing_waits_for_the_noise():
    module, batch = LossModule(model().cuda().bfloat16()), LAYOUTS["joined"][0]().to("cuda")
    add_noise(module, ALPHA)
    module(**loss_inputs(batch)).backward()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        module(**loss_inputs(batch)).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")

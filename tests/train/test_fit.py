"""`--gradient_checkpointing auto`, `--max_memory`: what is chosen and refused, and that a trial leaves no trace."""

import functools
import gc

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from swiftlite.config.errors import UserError
from swiftlite.measure.memory import limit_memory, read_size
from swiftlite.parallel.launch import World
from swiftlite.parallel.strategy import SingleDevice
from swiftlite.speed.compile import compile_layers
from swiftlite.speed.loss import Finish, LossModule
from swiftlite.train import fit
from swiftlite.train.config import SftConfig
from swiftlite.train.decide import decide
from swiftlite.train.sft import run_sft
from tests.children import run_sft_in_child
from tests.speed.test_compile import make
from tests.train.test_resume import COMMON, settings

MIB = 1024**2


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("22GiB", 22 * 1024**3),
        ("22", 22 * 1024**3),
        ("22GB", 22 * 10**9),
        ("0.5 gib", 512 * MIB),
        ("300MiB", 300 * MIB),
    ],
)
def test_a_size_is_read(text, size):
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["lots", "-3", "0", "22 parsecs", "", "1.2.3"])
def test_nonsense_is_no_size(text):
    with pytest.raises(UserError, match=r"--max_memory: .* is not a size; write 22GiB"):
        SftConfig(model="nano", dataset="demo", max_memory=text)


def test_a_cpu_has_no_such_limit():
    with pytest.raises(UserError, match="--max_memory 22GiB: only a CUDA device has such a limit"):
        decide(SftConfig(model="nano", dataset="demo", max_memory="22GiB", device="cpu"), World())


def test_offloading_needs_cuda_and_something_to_offload():
    with pytest.raises(UserError, match="--offload_activations true: only a CUDA device has memory of its own"):
        decide(config_of(offload_activations=True, device="cpu"), World())
    with pytest.raises(UserError, match="pass --gradient_checkpointing full or selective"):
        config_of(offload_activations=True, gradient_checkpointing=False)


def test_on_a_cpu_auto_keeps_everything_and_the_run_says_so(tiny_model, tiny_data, tmp_path, capsys):
    given = COMMON | settings(tiny_model, tiny_data, tmp_path, "full", gradient_checkpointing="auto", max_steps=1)
    result = run_sft(SftConfig(**given))
    assert "gradient_checkpointing: 'off'" in (result.run / "run.yaml").read_text()
    assert "checkpointing: off, everything is kept" in capsys.readouterr().out


class Rows:
    """Rows of 3, 9 and 5 tokens."""

    lengths = np.array([3, 9, 5])
    most_documents = 1

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return np.full(self.lengths[index], 7, np.int32), np.ones(self.lengths[index], np.float16)


def collator(config):
    return fit.Collator(Rows(), config.data, 0, torch.device("cpu"), rows=2)


def longest(config):
    return fit.longest_batch(config, collator(config))


def config_of(**more):
    return SftConfig(model="nano", dataset="demo", batch_size=2, **more)


def test_the_trial_has_the_longest_rows():
    batch = fit.longest_batch(config_of(), collator(config_of()))
    assert batch.tokens == 14 and batch.input_ids.shape == (2, 16)
    # 12 of the 32 are trained, but in another batch of this size it may be all of them.
    assert len(batch.trained_positions) == 32


def test_of_a_stream_the_longest_batch_is_as_long_as_rows_may_be():
    config = config_of(streaming=True, max_steps=3, max_length=31)
    assert fit.longest_batch(config, collator(config)).input_ids.shape == (2, 32)


def test_the_first_mode_that_fits_is_taken_and_the_others_are_named(monkeypatch):
    strategy = SingleDevice(torch.device("cpu"), "fp32", World())
    strategy.device = torch.device("cuda")
    monkeypatch.setattr(fit, "_try", lambda mode, *_: None if mode == "selective" else f"{mode} is too much")
    config, notes = config_of(), []
    fit.fit_checkpointing(config, LossModule(make("llama")), longest(config), strategy, None, notes)
    assert config.optim.gradient_checkpointing == "selective"
    assert notes[-1].startswith("checkpointing: selective, of each layer") and "off is too much" in notes[-1]
    monkeypatch.setattr(fit, "_try", lambda mode, *_: "too much")
    monkeypatch.setattr(fit, "device_name", lambda _: "a card")
    with pytest.raises(UserError, match=r"out of memory on a card before the first step .*full: too much.*batch_size"):
        fit.fit_checkpointing(config_of(), LossModule(make("llama")), longest(config), strategy, None, [])


def test_of_several_modes_that_were_compiled_the_header_names_the_last():
    strategy = SingleDevice(torch.device("cpu"), "fp32", World())
    notes, made = ["linears: 3"], iter(["layers: compiled in 79 s", "layers: compiled in 24 s"])
    for _ in range(2):
        fit._compile(lambda: next(made), strategy, notes)
    assert notes == ["linears: 3", "layers: compiled in 24 s"]


def test_a_trial_draws_no_random_numbers_and_keeps_modes():
    loss = LossModule(make("llama"))
    for layer in loss.model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    loss.model.model.norm.eval()
    state, modes = torch.get_rng_state(), [m.training for m in loss.modules()]
    strategy = SingleDevice(torch.device("cpu"), "fp32", World())
    fit.probe(loss, fit.longest_batch(config_of(), collator(config_of())), strategy, repeats=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in loss.modules()] == modes


class Long(Rows):
    lengths = np.array([4096] * 4)


def prepare(compiled: bool):
    """A model on the GPU with its loss, the largest batch, and what `fit_checkpointing` wants beside them."""
    torch._dynamo.reset()
    # Checkpointed layers refer to themselves: the model before goes only now.
    gc.collect()
    torch.cuda.empty_cache()
    strategy = SingleDevice(torch.device("cuda", 0), "bf16", World())
    sizes = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 12, "num_attention_heads": 8}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=512, max_position_embeddings=4096, **sizes)).cuda()
    config = SftConfig(model="nano", dataset="demo", batch_size=4, gradient_accumulation_steps=1)
    batch = fit.longest_batch(config, fit.Collator(Long(), config.data, 0, strategy.device, rows=4))
    compile_model = functools.partial(compile_layers, model, dynamic=True) if compiled else None
    return config, LossModule(model, Finish()), batch, strategy, compile_model


@functools.cache
def needs(mode: str, compiled: bool) -> int:
    """Bytes at the peak of a step, with AdamW's states."""
    config, loss, batch, strategy, compile_model = prepare(compiled)
    assert fit._try(mode, config, loss, batch, strategy, compile_model, []) is None
    return torch.cuda.max_memory_allocated() + 2 * sum(p.numel() * p.element_size() for p in loss.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize(
    ("expected", "compiled"), [("off", False), ("selective", False), ("full", False), ("selective", True)]
)
def test_auto_takes_what_fits_under_a_limit(expected, compiled):
    """The limits lie between what the modes were seen to need."""
    off, selective = needs("off", compiled), needs("selective", compiled)
    limit = {"off": off * 1.2, "selective": (off + selective) / 2 / 0.95}.get(expected)
    if limit is None:
        full = needs("full", compiled)
        assert full < selective < off
        limit = (selective + full) / 2 / 0.95
    config, loss, batch, strategy, compile_model = prepare(compiled)
    config.set("max_memory", f"{limit / MIB:.0f}MiB")
    limit_memory(read_size(config.speed.max_memory), strategy.device)
    notes = []
    try:
        fit.fit_checkpointing(config, loss, batch, strategy, compile_model, notes)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert config.optim.gradient_checkpointing == expected, notes
    assert all(p.grad is None for p in loss.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_limit_on_memory_is_kept_and_named(tiny_model, tiny_data, tmp_path):
    given = settings(tiny_model, tiny_data, tmp_path, "full", device="cuda", dtype="bf16", max_memory="1MiB")
    ended = run_sft_in_child(given)
    assert ended.code == 1 and "more than --max_memory 1MiB" in ended.output, ended.output

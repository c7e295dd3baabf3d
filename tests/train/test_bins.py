"""Training on rows in bins, or joined: the losses and gradients of each row alone, exact resume, what is said of it."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from swiftlite.config.errors import UserError
from swiftlite.data.bins import BinDataset
from swiftlite.data.config import DataConfig
from swiftlite.data.sampler import EpochPlan
from swiftlite.data.tokens import TokenizedDataset
from swiftlite.speed.loss import choose_loss, loss_inputs
from swiftlite.train.batches import Collator
from swiftlite.train.config import PtConfig, SftConfig
from swiftlite.train.decide import decide_attention
from swiftlite.train.reporting import read_log
from swiftlite.train.sft import run_sft
from tests.children import Mishap, run_sft_in_child, run_sft_in_ranks
from tests.train.test_resume import numbers, settings, weights

SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "qwen2, tied": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)),
    "gemma2, capped": lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=8, sliding_window=16)),
}
# Gemma-2's cap inside attention is known to transformers' eager one alone.
ATTENTION = [(name, attention) for name in ("llama", "qwen2, tied") for attention in ("sdpa", "swiftlite")]
ATTENTION += [("gemma2, capped", "eager")]
CPU = torch.device("cpu")


def rows(count=23):
    random = np.random.default_rng(0)
    lengths = random.integers(2, 40, count)
    return TokenizedDataset.from_rows([(random.integers(0, 300, n), random.random(n)) for n in lengths])


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def one_by_one(model, source):
    """The weighted loss of rows that are alone in the world, written down independently."""
    losses, denominator = [], 0.0
    for ids, weight in (source[i] for i in range(len(source))):
        ids, weight = torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(weight[1:].astype(np.float32))
        logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
        losses.append((F.cross_entropy(logits, ids[1:], reduction="none") * weight).sum())
        denominator += weight.sum().item()
    return torch.stack(losses).sum() / denominator


@pytest.mark.parametrize(("name", "attention"), ATTENTION)
@pytest.mark.parametrize("way", ["bins", "joined"])
@pytest.mark.parametrize("impl", ["plain", "fused"])
def test_a_step_equals_that_of_each_row_alone(name, attention, way, impl):
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        # Logits as large as a trained model's: a cap of 30 bends them.
        model.model.norm.weight.add_(16)
    source = rows()
    data = BinDataset.of(source, 64) if way == "bins" else source
    config = DataConfig(max_length=64, packing=way == "bins", padding_free=way == "joined")
    collator = Collator(data, config, 0, CPU, rows=4)
    step = collator.step(EpochPlan(data.lengths, data.trained, 4, 50, 1, seed=0, epoch=0), 0, 0)
    assert step.samples == len(source) and all(len(b.cu_seqlens) > 4 for b in step.micro_batches)
    model.set_attn_implementation(attention)
    module, total = choose_loss(model, impl, []), torch.zeros(())
    assert (module.finish is not None) == (impl == "fused")
    for b in step.micro_batches:
        total += module(**loss_inputs(b))
    model.set_attn_implementation("sdpa" if attention == "swiftlite" else attention)
    loss, expected = total / step.denominator, one_by_one(model, source)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    ours, theirs = gradients(model, loss), gradients(model, expected)
    for key, gradient in theirs.items():
        assert (ours[key] - gradient).norm() <= 1e-5 * gradient.norm(), key


def start(tiny_model, tiny_data, out, **more):
    given = {
        "model": str(tiny_model),
        "dataset": str(tiny_data),
        "output_dir": str(out),
        "sft_type": "full",
        "max_length": 128,
        "split_dataset_ratio": 0.1,
        "num_train_epochs": 2,
        "learning_rate": 3e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "gradient_checkpointing": False,
    }
    return run_sft(SftConfig(**(given | more)))


def log_of(result):
    return read_log(result.run / "log.jsonl")


@pytest.mark.parametrize("impl", ["plain", "fused"])
def test_bins_in_one_micro_batch_or_in_eight(tiny_model, tiny_data, tmp_path, impl):
    common = {"packing": True, "max_length": 64, "eval_batch_size": 3, "loss_impl": impl}
    one = start(tiny_model, tiny_data, tmp_path / "a", batch_size=8, gradient_accumulation_steps=1, **common)
    eight = start(tiny_model, tiny_data, tmp_path / "b", batch_size=1, gradient_accumulation_steps=8, **common)
    for a, b in zip(log_of(one), log_of(eight), strict=True):
        key = "loss" if "loss" in a else "eval_loss"
        assert a[key] == pytest.approx(b[key], rel=1e-5)
        assert a.get("samples") == b.get("samples")
    assert one.metrics["samples"] == 2 * 36 and one.metrics["steps"] > 2


def test_the_eval_loss_does_not_depend_on_packing(tiny_model, tiny_data, tmp_path):
    more = {"learning_rate": 1e-12, "max_steps": 1, "lr_scheduler_type": "constant"}
    losses = [
        start(tiny_model, tiny_data, tmp_path / str(packing), packing=packing, **more).metrics["eval_loss"]
        for packing in (False, True)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_the_header_says_what_packing_changes(tiny_model, tiny_data, tmp_path, capsys):
    result = start(
        tiny_model, tiny_data, tmp_path, packing=True, batch_size=2, gradient_accumulation_steps=1, max_steps=1
    )
    about = json.loads((result.run / "data.json").read_text())["bins"]
    tokens = json.loads((result.run / "data.json").read_text())["train"]["tokens"]
    bins = about["bins"]
    assert about["rows"] == 36 and about["fill"] == pytest.approx(tokens / (bins * 128))
    expected = (
        f"packing: 36 rows in {bins} bins of 128 tokens, {tokens / (bins * 128):.1%} full, {36 / bins:.1f} rows a bin; "
        f"steps an epoch: 18 before, {-(-bins // 2)} now, of 2 bins instead of 2 rows"
    )
    said = capsys.readouterr().out
    assert expected in said and f"({-(-bins // 2)} an epoch) of 2 bins: batch 2 x accumulation 1" in said


# With the loss that a GPU gets by default, whose head sees another number of positions in each batch.
PACKED = {
    "packing": True,
    "max_length": 128,
    "batch_size": 1,
    "save_steps": 2,
    "logging_steps": 1,
    "loss_impl": "fused",
}


@pytest.fixture(scope="module")
def packed(tiny_model, tiny_data, tmp_path_factory):
    """An uninterrupted run on bins, of several epochs."""
    out = tmp_path_factory.mktemp("packed")
    ended = run_sft_in_child(settings(tiny_model, tiny_data, out, "lora", **PACKED))
    assert ended.code == 0, ended.output
    return out / "tiny-llama" / "r"


@pytest.mark.parametrize("mishap", [Mishap(kill_at=3), Mishap(kill_at=7)], ids=["step 3", "step 7"])
def test_a_killed_and_resumed_packed_run_ends_bit_identical(packed, tiny_model, tiny_data, tmp_path, mishap):
    given = settings(tiny_model, tiny_data, tmp_path, "lora", **PACKED)
    assert run_sft_in_child(given, mishap).code == -9
    run = tmp_path / "tiny-llama" / "r"
    ended = run_sft_in_child(given | {"resume": str(run)})
    assert ended.code == 0, ended.output
    assert numbers(run) == numbers(packed)
    resumed, expected = weights(run), weights(packed)
    assert all(torch.equal(resumed[k], expected[k]) for k in expected)


def test_two_ranks_take_the_steps_of_one(packed, tiny_model, tiny_data, tmp_path):
    given = settings(tiny_model, tiny_data, tmp_path, "lora", **PACKED) | {"gradient_accumulation_steps": 1}
    for ended in run_sft_in_ranks(given | {"lora_dropout": 0}, 2):
        assert ended.code == 0, ended.output
    runs = packed, tmp_path / "tiny-llama" / "r"
    samples = [[r["samples"] for r in read_log(run / "log.jsonl") if "loss" in r] for run in runs]
    assert samples[0] == samples[1]


def test_a_killed_stream_of_bins_ends_as_a_run_in_memory_does(tiny_model, tiny_data, tmp_path):
    """Unshuffled, and all rows in one window: the same bins in the same steps."""
    more = PACKED | {"dataset_shuffle": False, "split_dataset_ratio": 0, "max_steps": 9}
    memory = settings(tiny_model, tiny_data, tmp_path / "a", "lora", **more)
    stream = settings(tiny_model, tiny_data, tmp_path / "b", "lora", **more, streaming=True)
    runs = [tmp_path / name / "tiny-llama" / "r" for name in "ab"]
    assert run_sft_in_child(memory).code == 0
    assert run_sft_in_child(stream, Mishap(kill_at=6)).code == -9
    ended = run_sft_in_child(stream | {"resume": str(runs[1])})
    assert ended.code == 0, ended.output
    assert "packing: each 4096 rows that are read go into bins of 128 tokens; those of the first 40: " in ended.output
    assert numbers(runs[0]) == numbers(runs[1])
    first, second = map(weights, runs)
    assert all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize(
    ("config", "device", "attention", "joins"),
    [
        (SftConfig(model="nano", dataset="demo"), "cuda", "flash_attention_2", True),
        (SftConfig(model="nano", dataset="demo"), "cuda", "sdpa", False),
        (SftConfig(model="nano", dataset="demo"), "cpu", "sdpa", False),
        (SftConfig(model="nano", dataset="demo", packing=True), "cuda", "flash_attention_2", False),
        (SftConfig(model="nano", dataset="demo", padding_free=False), "cuda", "flash_attention_2", False),
        (SftConfig(model="nano", dataset="demo", padding_free=True), "cpu", "sdpa", True),
        (PtConfig(model="nano", dataset="demo"), "cuda", "flash_attention_2", False),
        (PtConfig(model="nano", dataset="demo", packing=False), "cuda", "flash_attention_2", True),
    ],
    ids=["gpu", "masks", "cpu", "bins", "not wanted", "wanted", "blocks", "texts"],
)
def test_rows_are_joined_by_default_where_a_gpu_kernel_knows_borders(monkeypatch, config, device, attention, joins):
    monkeypatch.setattr("swiftlite.train.decide.choose_attention", lambda *_: (attention, "for this test"))
    decide_attention(config, torch.device(device), Qwen2Config(), [])
    assert config.data.padding_free is joins


def test_models_that_cannot_keep_joined_rows_apart_get_padded_ones():
    from transformers import BloomConfig, BloomForCausalLM

    from swiftlite.train.model import isolate

    bloom = BloomForCausalLM(BloomConfig(vocab_size=300, hidden_size=16, n_layer=1, n_head=2))
    config, notes = SftConfig(model="nano", dataset="demo"), []
    config.set("padding_free", True)
    isolate(bloom, config, notes)
    assert config.data.padding_free is False
    assert notes.pop() == "rows are padded: BloomForCausalLM would let joined rows see each other"
    config.set("padding_free", True)
    config.set("attn_impl", "sdpa")
    isolate(MODELS["llama"](), config, notes)
    assert config.data.padding_free is False
    assert notes == ["rows are padded: sdpa attention could keep joined rows apart by a mask only"]
    with pytest.raises(UserError, match="--packing: BloomForCausalLM"):
        isolate(bloom, SftConfig(model="nano", dataset="demo", packing=True), notes)

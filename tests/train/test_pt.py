"""`swiftlite pt`: losses, perplexity and isolation against plain transformers; resume; tokenizers; bad input."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from swiftlite import InferConfig, PtConfig, SftConfig, run_infer, run_pt, run_sft
from swiftlite.config.errors import UserError
from swiftlite.train.reporting import read_log
from tests.children import Mishap, run_in_child

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "two", "birds", "fly", "over", "one", "green", "hill"]
SIZES = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "ffn_size": 64, "context_length": 64}


def write_texts(file: Path, count: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    texts = [" ".join(random.choice(WORDS, int(random.integers(4, 40)))) + "." for _ in range(count)]
    file.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    return texts


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Training texts, validation texts, and their folder."""
    folder = tmp_path_factory.mktemp("corpus")
    write_texts(folder / "train.jsonl", 120, seed=0)
    write_texts(folder / "val.jsonl", 9, seed=1)
    return folder


def settings(corpus, output, **more):
    return {
        "from_scratch": True,
        "model_type": "nano",
        "num_layers": 2,
        "hidden_size": 32,
        "ffn_size": 64,
        "dataset": [str(corpus / "train.jsonl")],
        "val_dataset": [str(corpus / "val.jsonl")],
        "max_length": 32,
        "batch_size": 4,
        "gradient_accumulation_steps": 2,
        "max_steps": 12,
        "logging_steps": 1,
        "eval_steps": 6,
        "save_steps": 4,
        "save_total_limit": "none",
        "learning_rate": 1e-2,
        "gradient_checkpointing": False,
        "output_dir": str(output),
        "run_name": "run",
    } | more


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """A finished run from scratch."""
    output = tmp_path_factory.mktemp("pt")
    return run_pt(PtConfig(**settings(corpus, output)))


def line_of(tokenizer, file):
    """The validation texts as one line of tokens, and their bytes, without our data room."""
    texts = [json.loads(row)["text"] for row in file.read_text().splitlines()]
    ids = [tokenizer.eos_token_id]
    for text in texts:
        ids += [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    return ids, sum(len(t.encode()) for t in texts)


def block_losses(model, ids, length):
    """Nats of every predicted token, block by block."""
    nats = []
    for start in range(0, len(ids) - 1, length):
        block = torch.tensor([ids[start : start + length + 1]])
        with torch.no_grad():
            logits = model(block[:, :-1]).logits
        nats += F.cross_entropy(logits[0], block[0, 1:], reduction="none").tolist()
    return nats


def test_a_run_from_scratch_learns_and_transformers_opens_it(trained):
    log = read_log(trained.run / "log.jsonl")
    losses = [r["loss"] for r in log if "loss" in r]
    assert losses[0] == pytest.approx(math.log(4096), rel=0.02)
    assert losses[-1] < losses[0] - 1
    model = AutoModelForCausalLM.from_pretrained(trained.run / "final")
    assert model.config.num_hidden_layers == 2 and model.config.hidden_size == 32


def test_eval_loss_perplexity_and_bits_per_byte_are_those_of_plain_transformers(trained, corpus):
    final = trained.run / "final"
    tokenizer, model = AutoTokenizer.from_pretrained(final), AutoModelForCausalLM.from_pretrained(final).eval()
    ids, size = line_of(tokenizer, corpus / "val.jsonl")
    nats = block_losses(model, ids, 32)
    record = [r for r in read_log(trained.run / "log.jsonl") if "eval_loss" in r][-1]
    assert record["eval_loss"] == pytest.approx(np.mean(nats), rel=1e-5)
    assert record["eval_perplexity"] == pytest.approx(math.exp(np.mean(nats)), rel=1e-4)
    assert record["eval_bits_per_byte"] == pytest.approx(sum(nats) / math.log(2) / size, rel=1e-5)


def test_eval_only_measures_each_data_set(trained, corpus, tmp_path):
    result = run_pt(
        PtConfig(
            model=str(trained.run),
            eval_only=True,
            val_dataset=[str(corpus / "val.jsonl"), str(corpus / "train.jsonl")],
            max_length=32,
            output_dir=str(tmp_path),
        )
    )
    record = [r for r in read_log(trained.run / "log.jsonl") if "eval_loss" in r][-1]
    measured = result.metrics[str(corpus / "val.jsonl")]
    assert measured["eval_loss"] == pytest.approx(record["eval_loss"], rel=1e-6)
    assert measured["eval_bits_per_byte"] == pytest.approx(record["eval_bits_per_byte"], rel=1e-6)
    assert len(result.metrics) == 2
    assert json.loads((result.run / "metrics.json").read_text()) == result.metrics


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_isolated_documents_train_as_each_alone(corpus, tmp_path, architecture):
    shape = SIZES | {"architecture": architecture, "tokenizer": "swiftlite/models/nano", "model_type": None}
    result = run_pt(
        PtConfig(
            **settings(
                corpus, tmp_path, isolate_documents=True, max_length=64, max_steps=1, eval_steps=1, learning_rate=1e-12
            )
            | shape
        )
    )
    final = result.run / "final"
    tokenizer, model = AutoTokenizer.from_pretrained(final), AutoModelForCausalLM.from_pretrained(final).eval()
    ids, _ = line_of(tokenizer, corpus / "val.jsonl")
    nats = []
    for start in range(0, len(ids) - 1, 64):
        block = ids[start : start + 65]
        # A document begins at each end token that is read, and at the block's border.
        cuts = sorted({0, len(block) - 1, *(i for i, t in enumerate(block[:-1]) if t == tokenizer.eos_token_id)})
        for a, b in itertools.pairwise(cuts):
            part = torch.tensor([block[a : b + 1]])
            with torch.no_grad():
                logits = model(part[:, :-1]).logits
            nats += F.cross_entropy(logits[0], part[0, 1:], reduction="none").tolist()
    assert len(nats) == len(ids) - 1
    assert result.metrics["eval_loss"] == pytest.approx(np.mean(nats), rel=1e-5)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_killed_run_ends_with_the_same_weights_and_log(corpus, tmp_path, streaming):
    more = {"streaming": True, "shuffle_buffer": 20} if streaming else {}
    whole = run_in_child("pt", settings(corpus, tmp_path / "whole", **more))
    assert whole.code == 0, whole.output
    broken = settings(corpus, tmp_path / "broken", **more)
    assert run_in_child("pt", broken, Mishap(kill_at=6)).code == -9
    (folder,) = (tmp_path / "broken").glob("*/run")
    again = run_in_child("pt", {"resume": str(folder)})
    assert again.code == 0, again.output
    (other,) = (tmp_path / "whole").glob("*/run")

    def numbers(run):
        kept = ("step", "loss", "grad_norm", "learning_rate", "eval_loss", "tokens")
        return [{k: r[k] for k in kept if k in r} for r in read_log(run / "log.jsonl")]

    assert numbers(folder) == numbers(other)
    assert (folder / "final/model.safetensors").read_bytes() == (other / "final/model.safetensors").read_bytes()


def test_a_tokenizer_of_ones_own_and_its_resume(corpus, tmp_path):
    shape = SIZES | {"model_type": None, "train_tokenizer": True, "tokenizer_kind": "char"}
    first = settings(corpus, tmp_path, **shape)
    del first["model_type"], first["val_dataset"]
    assert run_in_child("pt", first, Mishap(kill_at=6)).code == -9
    (folder,) = tmp_path.glob("*/run")
    again = run_in_child("pt", {"resume": str(folder)})
    assert again.code == 0, again.output
    tokenizer = AutoTokenizer.from_pretrained(folder / "final")
    letters = sorted(set("".join(WORDS) + " ."))
    assert tokenizer.convert_ids_to_tokens(range(2, 2 + len(letters))) == letters
    answer = run_infer(InferConfig(model=str(folder), query="the cat", max_new_tokens=5, stream=False)).answers
    assert len(answer[0]) <= 5


def test_only_a_tokenizer(corpus, tmp_path):
    result = run_pt(
        PtConfig(train_tokenizer=True, vocab_size=300, dataset=[str(corpus / "train.jsonl")], output_dir=str(tmp_path))
    )
    tokenizer = AutoTokenizer.from_pretrained(result.run)
    assert len(tokenizer) == 300 == result.metrics["vocab_size"]
    texts = [json.loads(row)["text"] for row in (corpus / "train.jsonl").read_text().splitlines()]
    assert result.metrics["texts_bytes"] == sum(len(t) for t in texts)
    assert result.metrics["texts_tokens"] == sum(len(tokenizer(t)["input_ids"]) for t in texts)


def test_weights_kept_in_fp32_are_written_in_the_dtype_of_use(corpus, tmp_path):
    more = {"dtype": "bf16", "max_steps": 1, "save_steps": 1, "num_layers": 1}
    run = run_pt(PtConfig(**settings(corpus, tmp_path, **more))).run
    kept = AutoModelForCausalLM.from_pretrained(run / "checkpoint-1", dtype="auto")
    final = AutoModelForCausalLM.from_pretrained(run / "final", dtype="auto")
    assert (kept.dtype, final.dtype) == (torch.float32, torch.bfloat16)
    exact = run_pt(PtConfig(**settings(corpus, tmp_path / "exact", save_dtype="fp32", **more))).run / "final"
    assert torch.equal(AutoModelForCausalLM.from_pretrained(exact, dtype="auto").lm_head.weight, kept.lm_head.weight)
    for name, weight in kept.state_dict().items():
        assert torch.equal(weight.bfloat16(), final.state_dict()[name]), name
    # A tied head is written once.
    size = (run / "final/model.safetensors").stat().st_size
    assert size < 2.2 * sum(p.numel() for p in final.parameters())


def test_going_on_with_a_chat_model_keeps_its_chat(corpus, tmp_path, tiny_model):
    more = {"model": str(tiny_model), "max_steps": 2, "eval_steps": 2, "save_steps": 2}
    values = settings(corpus, tmp_path, **more)
    for name in ("from_scratch", "model_type", "num_layers", "hidden_size", "ffn_size"):
        del values[name]
    run = run_pt(PtConfig(**values)).run
    before, after = AutoTokenizer.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(run / "final")
    assert after.chat_template == before.chat_template
    assert json.loads((run / "final/swiftlite.json").read_text())["template"] is None


def test_a_base_model_continues_texts_and_learns_to_chat(trained, tiny_data, tmp_path):
    final = trained.run / "final"
    tokenizer, model = AutoTokenizer.from_pretrained(final), AutoModelForCausalLM.from_pretrained(final).eval()
    ids = tokenizer("the cat", return_tensors="pt")["input_ids"]
    expected = model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
    answer = run_infer(InferConfig(model=str(trained.run), query="the cat", max_new_tokens=8, stream=False)).answers
    assert answer == [tokenizer.decode(expected, skip_special_tokens=True)]
    tuned = run_sft(
        SftConfig(
            model=str(trained.run),
            dataset=[str(tiny_data)],
            sft_type="full",
            max_steps=1,
            max_length=64,
            output_dir=str(tmp_path),
            gradient_checkpointing=False,
        )
    )
    assert json.loads((tuned.run / "final/swiftlite.json").read_text())["template"] in ("chatml", "tokenizer")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sft_type": "lora"}, "--sft_type lora leaves random weights frozen"),
        ({"weights": "dummy"}, "--weights names weights and --from_scratch wants none"),
        ({"eval_only": True}, "--eval_only takes a trained model"),
        ({"eval_only": True, "val_dataset": []}, "--eval_only: name the texts"),
        ({"dataset": []}, "no data given"),
        ({"train_tokenizer": True, "vocab_size": 300, "tokenizer": "x"}, "--train_tokenizer makes the tokenizer"),
        ({"streaming": True, "max_steps": -1}, "--streaming true needs --max_steps"),
        ({"isolate_documents": True, "packing": False}, "--isolate_documents is for packed texts"),
        ({"padding_free": True}, "--padding_free has nothing to do in full blocks"),
        ({"max_length": 4096}, None),
    ],
)
def test_settings_that_cannot_work_are_refused(corpus, tmp_path, change, sentence):
    values = {k: v for k, v in (settings(corpus, tmp_path) | change).items() if v is not None}
    if sentence is None:
        # Rotary positions reach further than they were made for: a warning, no error.
        PtConfig(**values)
        return
    with pytest.raises(UserError, match=sentence):
        PtConfig(**values)


def test_conversations_are_refused_by_row(corpus, tiny_data, tmp_path):
    values = settings(corpus, tmp_path) | {"dataset": [str(tiny_data)]}
    with pytest.raises(UserError, match=r"tiny.jsonl, line 1: .*swiftlite sft"):
        run_pt(PtConfig(**values))


def test_a_trained_model_keeps_its_tokenizer(corpus):
    with pytest.raises(UserError, match="--train_tokenizer: nano has a tokenizer"):
        PtConfig(model="nano", train_tokenizer=True, vocab_size=300, dataset=[str(corpus / "train.jsonl")])


def test_sizes_that_are_missing_are_named(corpus, tmp_path):
    values = settings(corpus, tmp_path) | {"tokenizer": "swiftlite/models/nano"}
    del values["model_type"], values["hidden_size"]
    with pytest.raises(UserError, match="--hidden_size"):
        run_pt(PtConfig(**values))


def test_a_shape_without_a_tokenizer_is_refused(corpus, tmp_path):
    values = settings(corpus, tmp_path) | {"model_type": "gpt2"}
    for name in ("num_layers", "hidden_size", "ffn_size"):
        del values[name]
    with pytest.raises(UserError, match="--from_scratch needs a tokenizer"):
        run_pt(PtConfig(**values))


def test_positions_a_model_does_not_have_are_refused(corpus, tmp_path):
    values = settings(corpus, tmp_path) | SIZES | {"architecture": "gpt2", "tokenizer": "swiftlite/models/nano"}
    del values["model_type"]
    with pytest.raises(UserError, match="--max_length 64"):
        run_pt(PtConfig(**values | {"max_length": 128}))

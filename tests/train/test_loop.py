"""What a run keeps, stops for and writes: rotation, early stopping, optimizers, trackers, adapters, plugins."""

import json
import textwrap

import pytest
import torch

from swiftlite.config.plugin import load_plugins
from swiftlite.measure.memory import PeakMemory
from swiftlite.speed.loss import LossModule
from swiftlite.train.config import SftConfig
from swiftlite.train.reporting import read_log
from swiftlite.train.sft import run_sft
from swiftlite.tuners import registry


@pytest.fixture
def run(tiny_model, tiny_data, tmp_path):
    def start(**more):
        settings = {
            "model": str(tiny_model),
            "dataset": str(tiny_data),
            "output_dir": str(tmp_path / "out"),
            "sft_type": "full",
            "max_length": 64,
            "batch_size": 4,
            "gradient_accumulation_steps": 1,
            "split_dataset_ratio": 0.1,
            "num_train_epochs": 2,
            "learning_rate": 3e-3,
            "gradient_checkpointing": False,
        }
        return run_sft(SftConfig(**(settings | more)))

    return start


def checkpoint_steps(result) -> list[int]:
    return sorted(int(p.name.split("-")[1]) for p in result.run.glob("checkpoint-*"))


@pytest.fixture
def _worsening(monkeypatch):
    """Every evaluation ends worse than the one before."""
    plain, seen = LossModule.forward, []

    def worse(self, **batch):
        if torch.is_grad_enabled():
            return plain(self, **batch)
        seen.append(batch)
        return plain(self, **batch) * len(seen)

    monkeypatch.setattr(LossModule, "forward", worse)


@pytest.mark.usefixtures("_worsening")
def test_the_newest_checkpoints_are_kept_and_the_best_one(run):
    result = run(save_steps=3, save_total_limit=2)
    assert result.metrics["best_step"] == 3
    assert checkpoint_steps(result) == [3, 12, 15]


@pytest.mark.usefixtures("_worsening")
def test_training_stops_after_evaluations_without_a_better_loss(run):
    result = run(eval_steps=2, save_steps=2, early_stopping_patience=2, num_train_epochs=20)
    assert result.metrics["steps"] == 6 and result.exit_code == 0
    assert (result.run / "final" / "model.safetensors").is_file()


def test_saving_nothing_still_leaves_the_final_weights(run):
    result = run(save_strategy="no", max_steps=2)
    assert checkpoint_steps(result) == [] and (result.run / "final" / "swiftlite.json").is_file()


def test_epoch_strategies_act_at_the_end_of_each_epoch(run):
    result = run(save_strategy="epoch", eval_strategy="epoch", save_total_limit=None, num_train_epochs=3)
    evals = [r["step"] for r in read_log(result.run / "log.jsonl") if "eval_loss" in r]
    assert evals == [9, 18, 27]
    assert set(checkpoint_steps(result)) >= {9, 18}


@pytest.mark.parametrize("optim", ["muon", "sgd", "adamw"])
def test_every_optimizer_lowers_the_loss(run, optim):
    rate = 1.0 if optim == "sgd" else 1e-2
    result = run(optim=optim, learning_rate=rate, eval_strategy="no", save_strategy="no", logging_steps=1)
    losses = [r["loss"] for r in read_log(result.run / "log.jsonl")]
    assert losses[-1] < losses[0] - 0.2


def test_muon_takes_the_hidden_matrices_and_adamw_the_rest(tiny_model):
    from transformers import AutoModelForCausalLM

    from swiftlite.train.optimizer import build_optimizers
    from swiftlite.tuners.registry import make_tuner

    config = SftConfig(model=str(tiny_model), dataset="x", sft_type="full", optim="muon")
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    groups = make_tuner("full", config).parameter_groups(model, 1e-3, 0.1)
    muon, adamw = build_optimizers(config, model, groups, torch.device("cpu"))
    names = {id(p): n for n, p in model.named_parameters()}
    in_muon = {names[id(p)] for g in muon.param_groups for p in g["params"]}
    in_adamw = {names[id(p)] for g in adamw.param_groups for p in g["params"]}
    assert in_muon == {n for n in names.values() if "_proj" in n}
    assert in_adamw == set(names.values()) - in_muon


def test_the_eval_loss_does_not_depend_on_its_batch_size(run):
    losses = [run(max_steps=3, save_strategy="no", eval_batch_size=size).metrics["eval_loss"] for size in (1, 3, 4)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_tensorboard_gets_what_the_log_gets(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = run(report_to="tensorboard", max_steps=4, logging_steps=2, save_strategy="no")
    events = EventAccumulator(str(result.run / "tensorboard"))
    events.Reload()
    logged = [r["loss"] for r in read_log(result.run / "log.jsonl") if "loss" in r]
    assert [e.value for e in events.Scalars("train/loss")] == pytest.approx(logged, rel=1e-6)


def test_plots_are_images(run):
    result = run(max_steps=3, logging_steps=1, save_strategy="no")
    plots = sorted((result.run / "plots").glob("*.png"))
    assert [p.stem for p in plots] == ["grad_norm", "learning_rate", "loss", "speed"]
    assert all(p.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for p in plots)


def test_an_adapter_is_trained_further_from_its_run_folder(run):
    first = run(sft_type="lora", lora_rank=4, max_steps=6, logging_steps=1, save_strategy="no")
    second = run(model=str(first.run), sft_type="lora", max_steps=6, logging_steps=1, save_strategy="no")
    losses = [[r["loss"] for r in read_log(r.run / "log.jsonl") if "loss" in r] for r in (first, second)]
    config = json.loads((second.run / "final" / "adapter_config.json").read_text())
    assert config["r"] == 4
    assert losses[1][0] < losses[0][0] - 0.1


def test_a_bare_resume_takes_the_newest_run_of_the_model(run):
    run(max_steps=4, save_steps=2, run_name="old")
    stopped = run(max_steps=4, save_steps=2, run_name="new")
    import shutil

    shutil.rmtree(stopped.run / "checkpoint-4", ignore_errors=True)
    again = run(max_steps=4, save_steps=2, resume="newest")
    assert again.run == stopped.run


def test_a_plugins_model_template_dataset_and_tuner_run(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_TUNERS", dict(registry._TUNERS))
    (tmp_path / "rows.jsonl").write_text('{"query": "a", "response": "b"}\n' * 8)
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        textwrap.dedent(
            f"""
            from swiftlite.chat.registry import register_template, template_pieces
            from swiftlite.data.registry import register_dataset
            from swiftlite.models.registry import ModelEntry, register_model
            from swiftlite.tuners.registry import TunerEntry, register_tuner

            shape = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
            register_model(ModelEntry("my-model", "llama", shape | dict(vocab_size=4096), template="my-template"))
            register_template("my-template", template_pieces("chatml"))
            register_dataset("my-data", file={str(tmp_path / "rows.jsonl")!r})
            register_tuner(TunerEntry("my-tuner", "swiftlite.tuners.full.tuner:FullTuner"))
            """
        )
    )
    load_plugins([str(plugin)])
    result = run_sft(
        SftConfig(
            model_type="my-model", weights="dummy", dataset="my-data", sft_type="my-tuner", max_steps=1,
            output_dir=str(tmp_path), split_dataset_ratio=0,
        )
    )  # fmt: skip
    card = json.loads((result.run / "final" / "swiftlite.json").read_text())
    assert (card["template"], card["sft_type"], card["base"]["name"]) == ("my-template", "my-tuner", "my-model")


def test_running_out_of_memory_is_one_sentence(run, monkeypatch):
    from swiftlite.config.errors import UserError

    def no_memory(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(LossModule, "forward", no_memory)
    with pytest.raises(UserError, match=r"out of memory .* --batch_size .* --gradient_checkpointing full"):
        run()


def test_peak_memory_is_named_by_what_it_measures():
    assert PeakMemory(1.0, 2.0, "cuda").as_dict() == {"peak_allocated_gib": 1.0, "peak_reserved_gib": 2.0}

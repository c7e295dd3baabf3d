"""A run killed anywhere and resumed ends bit for bit where the uninterrupted one does."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from swiftlite.config.command import Layer, read_recipe
from swiftlite.config.errors import UserError
from swiftlite.train.config import SftConfig
from swiftlite.train.reporting import read_log
from swiftlite.train.resume import resume_run
from tests.children import Mishap, run_sft_in_child

# 40 rows less 4 for validation, 3 x 2 rows a step: 6 steps an epoch, 15 in all.
COMMON = {
    "batch_size": 3,
    "gradient_accumulation_steps": 2,
    "num_train_epochs": 2.5,
    "learning_rate": 1e-2,
    "max_length": 64,
    "split_dataset_ratio": 0.1,
    "save_steps": 4,
    "logging_steps": 3,
    "lora_dropout": 0.1,
    "gradient_checkpointing": True,
}


def settings(tiny_model: Path, tiny_data: Path, out: Path, sft_type: str, **more) -> dict:
    places = {"model": str(tiny_model), "dataset": [str(tiny_data)], "output_dir": str(out), "run_name": "r"}
    return COMMON | places | {"sft_type": sft_type} | more


def weights(run: Path) -> dict[str, torch.Tensor]:
    files = list((run / "final").glob("*.safetensors"))
    assert len(files) == 1
    return load_file(files[0])


def numbers(run: Path) -> list[tuple]:
    keys = ("step", "loss", "learning_rate", "grad_norm", "eval_loss", "trained_tokens")
    return [tuple(r.get(k) for k in keys) for r in read_log(run / "log.jsonl")]


@pytest.fixture(scope="module", params=["full", "lora"])
def straight(request, tiny_model, tiny_data, tmp_path_factory):
    """An uninterrupted run of each kind."""
    out = tmp_path_factory.mktemp("straight")
    assert run_sft_in_child(settings(tiny_model, tiny_data, out, request.param)).code == 0
    return request.param, out / "tiny-llama" / "r"


# After 4: within the first epoch. 7: past an epoch border, off a checkpoint. 11: before the next one.
@pytest.mark.parametrize(
    "mishap",
    [Mishap(kill_at=5), Mishap(kill_at=7), Mishap(kill_at=14), Mishap(kill_in_save=8)],
    ids=["step 5", "step 7", "step 14", "while checkpoint 8 is written"],
)
def test_a_killed_and_resumed_run_ends_bit_identical(straight, tiny_model, tiny_data, tmp_path, mishap):
    sft_type, reference = straight
    given = settings(tiny_model, tiny_data, tmp_path, sft_type)
    assert run_sft_in_child(given, mishap).code == -9
    run = tmp_path / "tiny-llama" / "r"
    assert not (run / "final").exists()
    ended = run_sft_in_child(given | {"resume": str(run)})
    assert ended.code == 0, ended.output
    assert numbers(run) == numbers(reference)
    resumed, expected = weights(run), weights(reference)
    assert resumed.keys() == expected.keys()
    assert all(torch.equal(resumed[k], expected[k]) for k in expected)


def test_the_run_moves_weights_at_all(straight, tiny_model):
    sft_type, run = straight
    trained = weights(run)
    if sft_type == "full":
        before = load_file(tiny_model / "model.safetensors")
        assert any(not torch.equal(trained[k], before[k]) for k in before)
    else:
        assert any(v.abs().sum() > 0 for k, v in trained.items() if "lora_B" in k)


def test_run_yaml_holds_what_auto_decided(straight):
    _, run = straight
    text = (run / "run.yaml").read_text()
    assert "dtype: fp32" in text and "attn_impl: swiftlite" in text and "eval_steps: 4" in text


def test_resuming_with_a_setting_that_changes_the_result_is_refused(straight, tiny_model, tiny_data):
    _, run = straight
    config = SftConfig(model=str(tiny_model), dataset=str(tiny_data), resume=str(run), learning_rate=5.0)
    with pytest.raises(UserError, match="--learning_rate 5"):
        resume_run(config)


def test_resuming_by_run_yaml_alone_keeps_every_setting(straight):
    _, run = straight
    config = SftConfig.from_layers([read_recipe(run / "run.yaml"), Layer.of("flag", {"resume": str(run)})])
    resumed, folder, _ = resume_run(config)
    assert folder.path == run
    assert resumed.to_dict() | {"resume": None} == config.to_dict() | {"resume": None}


def test_a_half_written_checkpoint_is_never_picked(straight, tmp_path):
    import shutil

    _, run = straight
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    newest = max(copy.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    newest.rename(copy / f".{newest.name}.partial")
    (copy / "checkpoint-99").mkdir()
    from swiftlite.train.checkpoint import newest_checkpoint

    picked = newest_checkpoint(copy)
    assert picked is not None and picked.name not in (newest.name, "checkpoint-99")

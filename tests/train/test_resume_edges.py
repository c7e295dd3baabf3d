"""Odd cases: changed data, other worlds, damaged or older checkpoints, rows and settings nobody expects."""

import shutil

import pytest

from swiftlite.cli import main
from swiftlite.config.errors import UserError
from swiftlite.train.checkpoint import newest_checkpoint
from swiftlite.train.config import SftConfig
from swiftlite.train.reporting import read_log
from swiftlite.train.sft import run_sft


@pytest.fixture
def run(tiny_model, tiny_data, tmp_path):
    """A finished run with checkpoints 2, 4 and 6, on data of its own."""
    data = tmp_path / "rows.jsonl"
    shutil.copy(tiny_data, data)
    settings = {
        "model": str(tiny_model),
        "dataset": str(data),
        "output_dir": str(tmp_path / "out"),
        "run_name": "r",
        "sft_type": "full",
        "max_length": 64,
        "batch_size": 4,
        "gradient_accumulation_steps": 1,
        "max_steps": 6,
        "save_steps": 2,
        "save_total_limit": None,
        "logging_steps": 1,
    }
    return run_sft(SftConfig(**settings)).run


def resume(run, *argv: str) -> int:
    return main(["sft", "--resume", str(run), *argv])


def unfinish(run):
    shutil.rmtree(run / "final")


def test_the_printed_command_needs_no_model_and_finishes_a_run_that_lacks_only_its_end(run):
    unfinish(run)
    assert resume(run) == 0
    assert (run / "final" / "model.safetensors").is_file()


def test_a_finished_run_says_so(run, capsys):
    assert resume(run) == 1 and "nothing is left to do" in capsys.readouterr().err


def test_rows_that_changed_are_refused(run, capsys):
    unfinish(run)
    shutil.rmtree(run / "checkpoint-6")
    data = run.parents[2] / "rows.jsonl"
    data.write_text("".join(data.read_text().splitlines(keepends=True)[:12]))
    assert resume(run) == 1
    assert "not those the run was started with" in capsys.readouterr().err


def test_another_number_of_processes_is_refused(run, capsys):
    import json

    unfinish(run)
    shutil.rmtree(run / "checkpoint-6")
    file = run / "checkpoint-4" / "trainer_state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"world_size": 2}))
    assert resume(run) == 1 and "2 process(es), now there are 1" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["optimizer.pt", "trainer_state.json", "model.safetensors"])
def test_a_damaged_checkpoint_is_passed_over(run, name):
    file = run / "checkpoint-6" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert newest_checkpoint(run) == run / "checkpoint-4"


def test_an_older_checkpoint_moves_later_ones_aside(run):
    before = [r["loss"] for r in read_log(run / "log.jsonl") if "loss" in r]
    assert resume(run / "checkpoint-2") == 0
    assert (run / "checkpoint-4.superseded").is_dir() and (run / "final.superseded").is_dir()
    assert [r["loss"] for r in read_log(run / "log.jsonl") if "loss" in r] == before


def test_a_recipe_in_a_run_folder_goes_on_with_that_run(run, tmp_path):
    (tmp_path / "out" / "tiny-llama" / "newer").mkdir()
    unfinish(run)
    assert main(["sft", str(run / "run.yaml"), "--resume"]) == 0
    assert (run / "final").is_dir()


def test_an_empty_resume_is_refused(tiny_model):
    with pytest.raises(UserError, match="--resume is empty"):
        SftConfig(model=str(tiny_model), dataset="demo", resume="")


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert main(["sft", "--resume", str(tmp_path)]) == 1
    assert "neither a run folder" in capsys.readouterr().err


def test_early_stopping_without_validation_rows_is_refused(tiny_model, tiny_data, tmp_path):
    config = SftConfig(
        model=str(tiny_model), dataset=str(tiny_data), split_dataset_ratio=0, early_stopping_patience=1,
        output_dir=str(tmp_path),
    )  # fmt: skip
    with pytest.raises(UserError, match="--early_stopping_patience needs validation rows"):
        run_sft(config)


@pytest.mark.parametrize("strategy", ["right", "split"])
def test_rows_cut_by_the_user_are_no_fault_of_the_template(tiny_model, tmp_path, strategy):
    data = tmp_path / "long.jsonl"
    data.write_text(('{"query": "a", "response": "' + "b c " * 200 + '"}\n') * 3)
    config = SftConfig(
        model=str(tiny_model), dataset=str(data), truncation_strategy=strategy, max_length=32, max_steps=1,
        sft_type="full", output_dir=str(tmp_path), save_strategy="no", split_dataset_ratio=0,
    )  # fmt: skip
    assert run_sft(config).exit_code == 0


def test_brackets_in_a_row_are_text(tiny_model, tmp_path, capsys):
    data = tmp_path / "b.jsonl"
    data.write_text('{"query": "[INST] hi [/INST] [red]", "response": "[/b] ok"}\n' * 3)
    config = SftConfig(
        model=str(tiny_model), dataset=str(data), max_steps=1, output_dir=str(tmp_path), save_strategy="no",
        split_dataset_ratio=0,
    )  # fmt: skip
    assert run_sft(config).exit_code == 0
    assert "[INST] hi [/INST] [red]" in capsys.readouterr().out


def test_a_generation_config_that_contradicts_itself_can_be_saved(tiny_model, tiny_data, tmp_path):
    model = tmp_path / "odd"
    shutil.copytree(tiny_model, model)
    (model / "generation_config.json").write_text('{"temperature": 0.7, "top_p": 0.9, "do_sample": false}')
    config = SftConfig(model=str(model), dataset=str(tiny_data), sft_type="full", max_steps=1, output_dir=str(tmp_path))
    assert run_sft(config).exit_code == 0


def test_padding_free_is_refused_where_documents_would_see_each_other(tiny_data, tmp_path):
    from transformers import AutoTokenizer, BloomConfig, BloomForCausalLM

    from swiftlite.models.families.nano import FOLDER

    BloomForCausalLM(BloomConfig(vocab_size=4096, hidden_size=16, n_layer=1, n_head=2)).save_pretrained(tmp_path / "b")
    AutoTokenizer.from_pretrained(FOLDER).save_pretrained(tmp_path / "b")
    config = SftConfig(
        model=str(tmp_path / "b"), dataset=str(tiny_data), sft_type="full", padding_free=True, output_dir=str(tmp_path)
    )
    with pytest.raises(UserError, match="--padding_free: BloomForCausalLM"):
        run_sft(config)


def test_an_adapter_of_another_base_is_one_sentence(tiny_model, tmp_path, capsys):
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    other = LlamaForCausalLM(
        LlamaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    )
    get_peft_model(other, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "a")
    argv = ["sft", "--model", str(tiny_model), "--adapters", str(tmp_path / "a"), "--dataset", "demo"]
    assert main([*argv, "--output_dir", str(tmp_path / "out")]) == 1
    assert "does not fit on this LlamaForCausalLM" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--seed", "-1"], "--seed"),
        (["--lr_scheduler_kwargs", '{"foo": 1}'], "--lr_scheduler_kwargs"),
        (["--lr_scheduler_type", "cosine_with_min_lr"], "--lr_scheduler_type"),
        (["--dataset", "x" * 300], "--dataset"),
    ],
)
def test_odd_values_are_one_sentence(tiny_model, capsys, argv, words):
    given = [] if "--dataset" in argv else ["--dataset", "demo"]
    assert main(["sft", "--model", str(tiny_model), *given, *argv]) == 1
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


def test_a_key_twice_in_a_recipe_is_an_error(tmp_path, capsys):
    (tmp_path / "r.yaml").write_text("lora_rank: 8\nlora_rank: 16\n")
    assert main(["sft", str(tmp_path / "r.yaml")]) == 2 and "stands twice" in capsys.readouterr().err

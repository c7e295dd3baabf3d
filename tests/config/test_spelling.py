"""Old and new spellings of ms-swift, duplicates, unknown names: what a command line becomes."""

import re
import shlex

import pytest

from swiftlite.config.argv import read_flags
from swiftlite.config.errors import UsageError, UserError
from swiftlite.train.config import SftConfig
from tests.shared_data import SHARED, needs_shared

BASE = "--model nano --dataset demo "


def parse(line: str) -> SftConfig:
    return SftConfig.from_layers([read_flags(shlex.split(line), SftConfig.options())])


# Old spelling -> the setting it must become (research: ms-swift v1 to v4 argument names).
SPELLINGS = [
    ("--model_type qwen-7b-chat --dataset demo", "model_type", "qwen-7b-chat"),
    ("--model_id_or_path /x --dataset demo", "model", "/x"),
    ("--model_cache_dir /x --dataset demo", "model", "/x"),
    ("--ckpt_dir /x --dataset demo", "model", "/x"),
    (BASE + "--train_type full", "sft_type", "full"),
    (BASE + "--tuner_type full", "sft_type", "full"),
    (BASE + "--sft_type dora", "sft_type", "lora"),
    (BASE + "--sft_type dora", "use_dora", True),
    (BASE + "--template_type AUTO", "template", "auto"),
    (BASE + "--template_type chatml", "template", "chatml"),
    (BASE + "--per_device_train_batch_size 3", "batch_size", 3),
    (BASE + "--per_device_eval_batch_size 3", "eval_batch_size", 3),
    (BASE + "--lora_target_modules DEFAULT", "lora_target_modules", ["DEFAULT"]),
    (BASE + "--lora_target_modules AUTO", "lora_target_modules", ["DEFAULT"]),
    (BASE + "--target_modules all-linear", "lora_target_modules", ["ALL"]),
    (BASE + "--target_modules all-embedding q_proj", "lora_target_modules", ["EMBEDDING", "q_proj"]),
    (BASE + "--modules_to_save all-norm", "lora_modules_to_save", ["LN"]),
    (BASE + "--lora_dropout_p 0.1", "lora_dropout", 0.1),
    (BASE + "--lorap_lr_ratio 16", "lora_lr_ratio", 16.0),
    (BASE + "--lora_bias_trainable all", "lora_bias", "all"),
    (BASE + "--init_weights gaussian", "init_lora_weights", "gaussian"),
    (BASE + "--use_flash_attn true", "attn_impl", "flash"),
    (BASE + "--use_flash_attn false", "attn_impl", "sdpa"),
    (BASE + "--attn_impl flash_attn", "attn_impl", "flash"),
    (BASE + "--dtype AUTO", "dtype", "auto"),
    (BASE + "--torch_dtype bfloat16", "dtype", "bf16"),
    (BASE + "--lora_dtype AUTO", "lora_dtype", "auto"),
    (BASE + "--dataset_test_ratio 0", "split_dataset_ratio", 0.0),
    (BASE + "--dataset_seed 7", "data_seed", 7),
    (BASE + "--only_save_model true", "save_only_model", True),
    (BASE + "--evaluation_strategy epoch", "eval_strategy", "epoch"),
    (BASE + "--truncation_strategy truncation_left", "truncation_strategy", "left"),
    (BASE + "--resume_from_checkpoint newest", "resume", "newest"),
    (BASE + "--resume none", "resume", None),
    (BASE + "--optim adamw_torch", "optim", "adamw"),
    (BASE + "--gradient-checkpointing false", "gradient_checkpointing", "off"),
    (BASE + "--deterministic", "deterministic", True),
    (BASE + "--save_strategy no", "save_strategy", "no"),
    (BASE + "--report_to tensorboard", "report_to", ["tensorboard"]),
    (BASE + "--report_to none", "report_to", []),
    (BASE + "--use_loss_scale true", "loss_scale", "react"),
    (BASE + "--use_loss_scale false", "loss_scale", "default"),
    (BASE + "--loss_scale none", "loss_scale", "default"),
    (BASE + "--train_dataset_mix_ratio 2", "train_dataset_mix_ratio", 2.0),
    (BASE + "--mix_ratio 0.5", "train_dataset_mix_ratio", 0.5),
    (BASE + "--train_dataset_mix_ds ms-bench alpaca-en#5000", "train_dataset_mix_ds", ["ms-bench", "alpaca-en#5000"]),
    (BASE + "--streaming true --max_steps 5", "streaming", True),
    (BASE + "--learning_rate=5e-5", "learning_rate", 5e-5),
    (BASE + "--quantization_bit 4", "quant_method", "bnb"),
    (BASE + '--columns {"a":"query"}'.replace('"', '\\"'), "columns", {"a": "query"}),
]


@pytest.mark.parametrize(("line", "name", "value"), SPELLINGS)
def test_a_spelling_becomes_our_setting(line, name, value):
    assert parse(line).to_dict()[name] == value


@pytest.mark.parametrize(
    "line",
    [
        "--quantization_bit 0",
        "--quant_bits none",
        "--check_dataset_strategy warning",
        "--preprocess_num_proc 4",
        "--add_version false",
        "--use_loss_scale false",
        "--use_liger true",
        "--safe_serialization true",
        "--check_model false",
        "--lazy_tokenize true",
        "--streaming false",
        "--train_dataset_mix_ratio 0",
        "--neftune_alpha 0",
    ],
)
def test_what_asks_for_nothing_here_is_accepted(line):
    parse(BASE + line).refuse_not_yet()


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("--quantization_bit 8", "--quantization_bit 8"),
        ("--deepspeed default-zero2", "--deepspeed default-zero2"),
    ],
)
def test_what_is_not_there_yet_parses_and_is_refused_by_name(line, flag):
    config = parse(BASE + line)
    with pytest.raises(UserError, match=re.escape(flag)):
        config.refuse_not_yet()


@pytest.mark.parametrize("flag", ["--custom_register_path", "--external_plugins", "--plugin"])
def test_a_plugin_in_any_spelling_is_run(tmp_path, flag):
    file = tmp_path / f"{flag.strip('-')}.py"
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    assert parse(BASE + f"{flag} {file}").general.plugin == [str(file)]
    assert (tmp_path / "ran").exists()


def test_two_spellings_with_different_values_are_an_error():
    with pytest.raises(UsageError, match="--batch_size and --per_device_train_batch_size"):
        parse(BASE + "--batch_size 1 --per_device_train_batch_size 2")


def test_two_spellings_with_the_same_value_are_fine():
    assert parse(BASE + "--batch_size 2 --per_device_train_batch_size 2").optim.batch_size == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--lora_rnk 8", ["--lora_rnk", "did you mean lora_rank?"]),
        ("--lora_rank eight", ["--lora_rank", "'eight'", "a whole number"]),
        ("--lora_rank 8.5", ["--lora_rank", "'8.5'", "a whole number"]),
        ("--lora_rank 8 16", ["--lora_rank takes one value", "8 16"]),
        ("--lora_rank", ["--lora_rank needs a value", "a whole number"]),
        ("--eval_strategy never", ["--eval_strategy", "'never'", "steps, epoch, no"]),
        ("--gradient_checkpointing maybe", ["--gradient_checkpointing", "auto, off, selective, full"]),
        ("--columns not-json", ["--columns", "a JSON object"]),
        ("--report_to tensorbored", ["--report_to", "tensorboard"]),
    ],
)
def test_an_unreadable_flag_is_named_with_what_was_expected(line, words):
    with pytest.raises(UsageError) as error:
        parse(BASE + line)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    "line",
    [
        "--lora_rank -3",
        "--lora_rank 0",
        "--batch_size 0",
        "--learning_rate -1",
        "--max_steps 0",
        "--warmup_ratio 2",
        "--max_length 1",
        "--split_dataset_ratio 1.5",
        "--save_total_limit 0",
        "--early_stopping_patience 2 --eval_strategy no",
        "--gradient_accumulation_steps 0",
        "--sft_type lroa",
        "--run_name a/b",
    ],
)
def test_an_impossible_value_is_refused_by_its_flag(line):
    with pytest.raises(UserError, match=line.split()[0]):
        parse(BASE + line)


def test_no_data_is_one_sentence():
    with pytest.raises(UserError, match="--dataset"):
        parse("--model nano")


def test_no_model_is_one_sentence():
    with pytest.raises(UserError, match="--model"):
        parse("--dataset demo")


@needs_shared
def test_every_command_line_of_the_seed_page_parses():
    page = (SHARED / "seeds" / "001_6b19b60cdc584aee.txt").read_text(encoding="utf-8", errors="replace")
    common = " ".join(re.findall(r"^    (--\S+ .*?) \\$", page, re.MULTILINE))
    values = {
        "MODEL_TYPE": "qwen-7b-chat",
        "QUANTIZATION_BIT": "4",
        "MAX_LENGTH": "1024",
        "BATCH_SIZE": "2",
        "USE_FLASH_ATTN": "true",
        "GRADIENT_CHECKPOINTING": "false",
        "LORA_RANK": "64",
        "LORA_TARGET_MODULES": "ALL",
        "GRADIENT_ACCUMULATION_STEPS": "32",
    }
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    commands = [b for b in blocks if "swift sft" in b]
    assert len(commands) == 7
    flags = re.findall(r"--dataset_test_ratio.*?(?=```)", page, re.DOTALL)[0].replace("\\", " ")
    defaults = re.findall(r"--max_length 2048.*?(?=```)", page, re.DOTALL)[0].replace("\\", " ")
    assert common
    for block in commands:
        line = block.replace("\\\n", " ").replace("swift sft", "").replace("...", "")
        line = re.sub(r"\{(\w+)\}", lambda m: values[m[1]], line)
        given = set(re.findall(r"--(\w+)", line))
        rest = [f for f in re.findall(r"--\w+ \S+", flags + defaults) if f.split()[0][2:] not in given]
        if "model_type" not in given:
            rest.append("--model_type qwen-7b-chat")
        config = parse(line + " " + " ".join(rest))
        assert config.model.model_type == "qwen-7b-chat"
        assert config.data.dataset == ["cls-fudan-news-zh"]
        assert config.run.save_strategy == "no"

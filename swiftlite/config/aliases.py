"""Every spelling of ms-swift v1 to v4 that we accept, and what it means here: one table, no behaviour."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from swiftlite.config.errors import UsageError
from swiftlite.config.options import FALSE_WORDS, TRUE_WORDS, Option, closest

# Old or new name elsewhere -> our name.
NAMES: dict[str, str] = {
    "model_id_or_path": "model",
    "model_cache_dir": "model",
    "model_name_or_path": "model",
    "ckpt_dir": "model",
    "model_revision": "revision",
    "train_type": "sft_type",
    "tuner_type": "sft_type",
    "template_type": "template",
    "per_device_train_batch_size": "batch_size",
    "micro_batch_size": "batch_size",
    "per_device_eval_batch_size": "eval_batch_size",
    "target_modules": "lora_target_modules",
    "modules_to_save": "lora_modules_to_save",
    "lora_dropout_p": "lora_dropout",
    "lorap_lr_ratio": "lora_lr_ratio",
    "lora_bias_trainable": "lora_bias",
    "init_weights": "init_lora_weights",
    "bnb_4bit_comp_dtype": "bnb_4bit_compute_dtype",
    "torch_dtype": "dtype",
    "dataset_num_proc": "preprocess_num_proc",
    "dataset_test_ratio": "split_dataset_ratio",
    "dataset_seed": "data_seed",
    "add_version": "add_output_dir_suffix",
    "neftune_alpha": "neftune_noise_alpha",
    "only_save_model": "save_only_model",
    "deepspeed_config_path": "deepspeed",
    "merge_lora_and_save": "merge_lora",
    "use_liger_kernel": "use_liger",
    "loss_type": "loss_name",
    "evaluation_strategy": "eval_strategy",
    "check_model": "check_model_is_latest",
    "custom_register_path": "plugin",
    "external_plugins": "plugin",
    "resume_from_checkpoint": "resume",
    "optimizer": "optim",
    "eval_metric": "metric",
    "activation_checkpointing": "gradient_checkpointing",
    "epochs": "num_train_epochs",
    "lr": "learning_rate",
    "system_prompt": "system",
    "attention_implementation": "attn_impl",
    "early_stop_interval": "early_stopping_patience",
    # A command that has the left name as an option of its own keeps it: this is infer's.
    "val_dataset": "infer_dataset",
    "max_batch_size": "infer_batch_size",
    "mix_ratio": "train_dataset_mix_ratio",
    "hf_tokenizer": "tokenizer",
    "ia3_target_modules": "lora_target_modules",
    "vera_target_modules": "lora_target_modules",
    "boft_target_modules": "lora_target_modules",
    "fourier_target_modules": "lora_target_modules",
    "boft_modules_to_save": "lora_modules_to_save",
    "vera_modules_to_save": "lora_modules_to_save",
    "ia3_modules_to_save": "lora_modules_to_save",
    "adalora_deltaT": "adalora_delta_t",
    "galore_optim_per_parameter": "optim_in_backward",
}

# Our name -> {value elsewhere, in lower case -> our value}. List options map each element.
_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "half": "fp16", "none": "auto"}
_CHECKPOINTING = dict.fromkeys(TRUE_WORDS, "full") | dict.fromkeys(FALSE_WORDS | {"none"}, "off")
VALUES: dict[str, dict[str, Any]] = {
    "dtype": _DTYPES,
    "lora_dtype": _DTYPES,
    "lora_target_modules": {
        "all-linear": "ALL",
        "all-embedding": "EMBEDDING",
        "all-norm": "LN",
        "all": "ALL",
        "auto": "DEFAULT",
        "default": "DEFAULT",
        "embedding": "EMBEDDING",
        "ln": "LN",
    },
    "lora_modules_to_save": {
        "all-embedding": "EMBEDDING",
        "all-norm": "LN",
        "embedding": "EMBEDDING",
        "ln": "LN",
    },
    "attn_impl": {"flash_attn": "flash", "none": "auto"},
    "truncation_strategy": {"truncation_left": "left", "truncation_right": "right"},
    "template": {"auto": "auto", "none": "auto"},
    "loss_scale": {"none": "default"},
    "infer_backend": {"pt": "transformers", "auto": "transformers"},
    "optim": {
        "adamw_torch": "adamw",
        "adamw_torch_fused": "adamw",
        "adamw_hf": "adamw",
        "adamw_bnb_8bit": "adamw_8bit",
        "paged_adamw_32bit": "paged_adamw",
        "lion_32bit": "lion",
        "apollo_adamw": "apollo",
        "schedule_free_adamw": "schedule_free",
    },
    "gradient_checkpointing": _CHECKPOINTING,
    "preset": {"default": "modern"},
    "report_to": {"none": None, "all": "tensorboard"},
    "run_name": {"none": None},
    "deepspeed": {
        "default-zero2": "zero2",
        "default-zero3": "zero3",
        "zero2-offload": "zero2_offload",
        "zero3-offload": "zero3_offload",
        "default-zero2-offload": "zero2_offload",
        "default-zero3-offload": "zero3_offload",
    },
}

# A value elsewhere that is several settings here.
COMPOUND: dict[tuple[str, str], dict[str, Any]] = {
    ("sft_type", "dora"): {"sft_type": "lora", "use_dora": True},
    ("sft_type", "rslora"): {"sft_type": "lora", "use_rslora": True},
    # Its authors' later name; the maths is the same.
    ("sft_type", "bone"): {"sft_type": "miss"},
    ("optim", "galore_adamw"): {"optim": "adamw", "use_galore": True},
    ("optim", "galore_adamw_8bit"): {"optim": "adamw_8bit", "use_galore": True},
    ("optim", "galore_adamw_layerwise"): {"optim": "adamw", "use_galore": True, "optim_in_backward": True},
    ("sft_type", "reft"): {"sft_type": "loreft"},
}


def _flag(value: Any) -> bool:
    word = str(value).lower()
    if word in TRUE_WORDS | FALSE_WORDS:
        return word in TRUE_WORDS
    raise ValueError(value)


def _bits(value: Any) -> dict[str, Any]:
    return {"quant_method": "bnb"} if str(value) == "4" else {"quantization_bit": value}


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


# Settings elsewhere whose meaning is another setting here.
REWRITES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "use_flash_attn": lambda v: {} if str(v).lower() == "auto" else {"attn_impl": "flash" if _flag(v) else "sdpa"},
    "do_sample": lambda v: {} if _flag(v) else {"temperature": 0.0},
    "quantization_bit": _bits,
    "quant_bits": _bits,
    # A share in ms-swift 2.0, prefixes of names later.
    "freeze_parameters": lambda v: {"freeze_parameters_ratio" if _is_number(v) else "freeze_parameters": v},
    "use_loss_scale": lambda v: {"loss_scale": "react" if _flag(v) else "default"},
}

# Accepted and without effect here: name -> what happens instead.
IGNORED: dict[str, str] = {
    "check_dataset_strategy": "rows are always checked; --on_bad_row stop|drop says what happens to bad ones",
    "preprocess_num_proc": "tokenising already uses every core",
    "add_output_dir_suffix": "each run has a folder of its own; --run_name names it",
    "safe_serialization": "weights are always saved as safetensors",
    "check_model_is_latest": "nothing is looked up on a hub unless weights are needed",
    "local_rank": "the launcher's LOCAL_RANK is used",
    "dataloader_num_workers": "rows are tokenised before training; one background thread makes the batches",
    "lazy_tokenize": "rows are tokenised once into a cache; --streaming true tokenises while training",
    "use_liger": "the loss is fused with the head anyway (--loss_impl), which is faster than Liger's",
    "ddp_timeout": "tokenising happens before the processes meet, so nothing waits on it",
}

# Known elsewhere, not in this version: name -> (values that ask for nothing, what it is).
NOT_YET: dict[str, tuple[set[Any], str]] = {
    "quantization_bit": ({"0", "none"}, "training on a base of so many bits"),
    "bnb_4bit_compute_dtype": (
        {"auto", "none", "bf16", "bfloat16", "fp16", "fp32"},
        "another compute dtype of a 4-bit base",
    ),
    "sequence_parallel_size": ({"1"}, "sequence parallelism"),
    "deepspeed": ({"none"}, "DeepSpeed"),
    "fsdp": ({"none", ""}, "FSDP"),
    "loss_name": ({"none"}, "another loss"),
    "metric": ({"none", "loss"}, "a generation metric during training"),
    "boft_n_butterfly_factor": ({"1"}, "BOFT with several butterfly factors"),
    "tuner_backend": ({"peft", "swift"}, "another tuner backend"),
    "self_cognition_sample": ({"0"}, "self-cognition data"),
    "predict_with_generate": ({"false"}, "generation during training"),
    "push_to_hub": ({"false"}, "pushing to a hub"),
    "galore_target_modules": ({"none", "all", "all-linear"}, "GaLore on chosen modules"),
}


@dataclasses.dataclass(frozen=True)
class Given:
    """One setting as a user gave it: the plain name, the raw value, and how it was written."""

    name: str
    value: Any
    written: str


@dataclasses.dataclass
class Spelled:
    """A layer of settings under our own names."""

    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    notices: list[str] = dataclasses.field(default_factory=list)
    not_yet: dict[str, str] = dataclasses.field(default_factory=dict)


def spell(given: list[Given], options: dict[str, Option], command: str) -> Spelled:
    """Translates every accepted spelling into ours.

    Raises:
        UsageError: an unknown name (with the closest known one), or two spellings with different values.
    """
    out = Spelled()
    written: dict[str, Given] = {}
    for item in given:
        for name, value in _unfold(_rename(item, options)).items():
            if name in options:
                value = _revalue(name, value)
                if name in out.values and out.values[name] != value:
                    raise UsageError(
                        f"{written[name].written} and {item.written} set the same thing ({name}) to "
                        f"{out.values[name]!r} and {value!r}; give one of them"
                    )
                out.values[name], written[name] = value, item
            elif name in IGNORED:
                out.notices.append(f"{item.written} has no effect here: {IGNORED[name]}")
            elif name in NOT_YET:
                harmless, what = NOT_YET[name]
                if str(value).lower() not in harmless:
                    out.not_yet[name] = (
                        f"{item.written} {_words(value)}: {what} is not in this version of swiftlite; "
                        f"leave the flag away"
                    )
            else:
                # What a preset or recipe of another command knows is not known here.
                known = [*options, *NAMES, *REWRITES]
                raise UsageError(f"`swiftlite {command}` knows no {item.written}{closest(name, known)}")
    return out


def _rename(item: Given, options: dict[str, Option]) -> dict[str, Any]:
    name = item.name.replace("-", "_")
    if name in REWRITES:
        try:
            return REWRITES[name](item.value)
        except ValueError:
            raise UsageError(f"{item.written}: {item.value!r} is not true or false") from None
    # A command may have a name of ms-swift's as an option of its own.
    return {name if name in options else NAMES.get(name, name): item.value}


def _unfold(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        new: new_value
        for name, value in settings.items()
        for new, new_value in COMPOUND.get((name, str(value).lower()), {name: value}).items()
    }


def _revalue(name: str, value: Any) -> Any:
    table = VALUES.get(name, {})
    if isinstance(value, list):
        mapped = [table.get(str(v).lower(), v) for v in value]
        return [v for v in mapped if v is not None]
    if str(value).lower() in table:
        mapped = table[str(value).lower()]
        return [] if mapped is None and name == "report_to" else mapped
    return value


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)

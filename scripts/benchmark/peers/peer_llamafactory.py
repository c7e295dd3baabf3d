"""LLaMA-Factory on one setting; options are its YAML's."""

import json
from pathlib import Path

import timing
from llamafactory.train.tuner import run_exp

job = timing.read_job()
timer = timing.install(job["device"])
# It finds data through a register in a folder.
register = {
    "rows": {
        "file_name": job["data"],
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    }
}
(Path(job["work"]) / "dataset_info.json").write_text(json.dumps(register))
settings = timing.trainer_settings(job) | {
    "stage": "sft",
    "do_train": True,
    "model_name_or_path": job["model"],
    "template": "chatml",
    "finetuning_type": "lora",
    "lora_target": "all",
    "lora_rank": 8,
    "lora_alpha": 32,
    "lora_dropout": 0.0,
    "dataset": "rows",
    "dataset_dir": job["work"],
    "cutoff_len": job["max_length"],
    "bf16": job["device"] == "cuda",
    "use_cpu": job["device"] == "cpu",
    "flash_attn": "sdpa",
}
run_exp(settings | job["options"])
timing.write_result(job, timer)

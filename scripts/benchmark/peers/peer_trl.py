"""TRL's SFTTrainer with PEFT's LoRA on one setting; options are SFTConfig's."""

import timing
from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

job = timing.read_job()
timer = timing.install(job["device"])
cuda = job["device"] == "cuda"
options = timing.trainer_settings(job) | {
    "max_length": job["max_length"],
    "bf16": cuda,
    "use_cpu": not cuda,
    "model_init_kwargs": {"dtype": "bfloat16" if cuda else "float32"},
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
}
trainer = SFTTrainer(
    model=job["model"],
    args=SFTConfig(**(options | job["options"])),
    train_dataset=load_dataset("json", data_files=job["data"], split="train", cache_dir=job["work"]),
    peft_config=LoraConfig(
        r=8, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    ),
)  # fmt: skip
trainer.train()
timing.write_result(job, timer)

"""TRL's SFTTrainer with PEFT's LoRA on one setting; options are SFTConfig's."""

import timing
from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

job = timing.read_job()
timer = timing.install(job["device"])
cuda = job["device"] == "cuda"
options = {
    "output_dir": job["work"],
    "max_length": job["max_length"],
    "per_device_train_batch_size": job["batch_size"],
    "max_steps": job["steps"],
    "learning_rate": 1e-4,
    "logging_steps": 50,
    "save_strategy": "no",
    "report_to": "none",
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

"""unsloth with TRL's SFTTrainer on one setting; options are SFTConfig's, and `checkpointing`: "unsloth" or false."""

# First, or it warns that it came too late to speed anything up.
from unsloth import FastLanguageModel  # isort: skip

import timing
import torch
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

job = timing.read_job()
timer = timing.install(job["device"])
checkpointing = job["options"].pop("checkpointing", "unsloth")
model, tokenizer = FastLanguageModel.from_pretrained(
    job["model"], max_seq_length=job["max_length"], dtype=torch.bfloat16, load_in_4bit=False
)
model = FastLanguageModel.get_peft_model(
    model,
    r=8,
    lora_alpha=32,
    lora_dropout=0,
    bias="none",
    target_modules=LINEARS,
    use_gradient_checkpointing=checkpointing,
    random_state=0,
)
rows = load_dataset("json", data_files=job["data"], split="train", cache_dir=job["work"])
texts = rows.map(
    lambda row: {"text": tokenizer.apply_chat_template(row["messages"], tokenize=False)}, remove_columns=["messages"]
)
options = timing.trainer_settings(job) | {
    "max_length": job["max_length"],
    "dataset_text_field": "text",
    "dataset_num_proc": 1,
    "bf16": True,
}
trainer = SFTTrainer(
    model=model, processing_class=tokenizer, args=SFTConfig(**(options | job["options"])), train_dataset=texts
)
trainer.train()
timing.write_result(job, timer)

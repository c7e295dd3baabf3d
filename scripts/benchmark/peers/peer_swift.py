"""ms-swift on one setting; options are flags of `swift sft`."""

import timing
from swift import sft_main

job = timing.read_job()
timer = timing.install(job["device"])
flags = timing.trainer_settings(job) | {
    "model": job["model"],
    "model_type": "qwen2",
    "template": "qwen2_5",
    # Or the template would add its own to each row.
    "system": "",
    "use_hf": "true",
    "tuner_type": "lora",
    "target_modules": "all-linear",
    "lora_rank": 8,
    "lora_alpha": 32,
    "lora_dropout": 0,
    "dataset": job["data"],
    "split_dataset_ratio": 0,
    "dataset_num_proc": 1,
    "max_length": job["max_length"],
    "torch_dtype": "bfloat16" if job["device"] == "cuda" else "float32",
    "attn_impl": "sdpa",
}
sft_main([word for name, value in (flags | job["options"]).items() for word in (f"--{name}", str(value))])
timing.write_result(job, timer)

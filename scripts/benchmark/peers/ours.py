"""swiftlite on one setting: `swiftlite sft` through its Python entry, flags as on the command line."""

import timing

from swiftlite.config.argv import read_flags
from swiftlite.train import job as swiftlite_job
from swiftlite.train.batches import StepBatches
from swiftlite.train.config import SftConfig
from swiftlite.train.loop import Loop
from swiftlite.train.sft import run_sft

job = timing.read_job()
timer = timing.Timer(job["device"])


class TimedLoop(Loop):
    """The loop, and after each step the timer."""

    def _train_step(self, batches: StepBatches) -> None:
        super()._train_step(batches)
        timer.batch(batches.tokens, batches.tokens + batches.padded)
        timer.end_of_step()


swiftlite_job.Loop = TimedLoop
# The peak of the whole process is reported, as of the others, and not that of training alone.
swiftlite_job.reset_peak = lambda device: None
flags = {
    "model": job["model"],
    # Random ones of the checkpoint's shape, as the checkpoint has: drawn on the device, that is done sooner.
    "weights": "dummy",
    "dataset": job["data"],
    "output_dir": job["work"],
    "sft_type": "lora",
    "lora_rank": 8,
    "lora_alpha": 32,
    "lora_dropout": 0,
    "lora_target_modules": "ALL",
    "learning_rate": 1e-4,
    "max_length": job["max_length"],
    "max_steps": job["steps"],
    "batch_size": job["batch_size"],
    "gradient_accumulation_steps": 1,
    "split_dataset_ratio": 0,
    "save_strategy": "no",
    "logging_steps": 50,
    "device": job["device"],
    "dtype": "bf16" if job["device"] == "cuda" else "fp32",
}
words = [word for name, value in (flags | job["options"]).items() for word in (f"--{name}", str(value))]
run_sft(SftConfig.from_layers([read_flags(words, SftConfig.options())]))
timing.write_result(job, timer)

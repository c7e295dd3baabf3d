"""Measures what fp8 does to a training loss: pre-trains a model, tunes it on GSM8K in bf16 and in fp8, and compares.

    python scripts/benchmark/fp8_curve.py --books FOLDER --gsm8k FOLDER --work DIR --out DIR [--shape 180m|tiny]
        [--model FOLDER] [--arms bf16,fp8,...] [--device cuda|cpu]

Every part is a swiftlite command in a process of its own. The model learns from books (FOLDER of .txt files) and from
the texts that scripts/nano/generate.py writes; GSM8K (FOLDER with train.jsonl and test.jsonl) is new to it. All arms
start from the same weights and see the same rows in the same order, side by side on one device. `bf16, other kernels`
rounds elsewhere and nothing more: what it deviates by is chance. WORK gets texts and runs, OUT logs, curve.json and
table.md; a part that WORK holds the result of is not run again, and with --model nothing is pre-trained.
"""

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHAPES = {
    "180m": {"hidden_size": 1024, "num_layers": 16, "num_heads": 16, "num_kv_heads": 4, "ffn_size": 2816},
    "tiny": {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "ffn_size": 176},
}
ARMS: dict[str, dict[str, Any]] = {
    "bf16": {},
    "bf16, other kernels": {"loss_impl": "plain", "group_linears": False, "attn_impl": "sdpa"},
    "fp8": {"quant_method": "fp8"},
    "fp8, first layer not": {"quant_method": "fp8", "fp8_from_layer": 1},
}
PLAIN = "bf16"
# The share of a logged loss by which fp8 may be off.
AIM = 0.005
PRETRAIN = {
    "from_scratch": True,
    "architecture": "qwen2",
    "context_length": 2048,
    "tie_embeddings": True,
    "optim": "muon",
    "lr_scheduler_type": "linear",
    "learning_rate": 2e-3,
    "warmup_ratio": 0.03,
    "weight_decay": 0.1,
    "max_length": 512,
    "gradient_accumulation_steps": 1,
    "gradient_checkpointing": "off",
    "split_dataset_ratio": 0.005,
    "logging_steps": 10,
    "eval_steps": 1_000_000,
    "save_steps": 1_000_000,
    "save_only_model": True,
}
TUNE = {
    "sft_type": "lora",
    "lora_rank": 16,
    "lora_alpha": 32,
    "lora_dropout": 0,
    "lora_target_modules": "ALL",
    "template": "chatml",
    "system": "none",
    "max_length": 1024,
    "gradient_accumulation_steps": 1,
    "gradient_checkpointing": "off",
    "save_strategy": "no",
}


def main() -> None:
    args, started = _arguments(), time.monotonic()
    args.work, args.out = args.work.resolve(), args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"settings": {k: str(v) for k, v in vars(args).items()}}
    model = args.model or pretrained(args, result)
    print(f"{time.monotonic() - started:.0f} s; tuning {model}", flush=True)
    result["arms"] = tuned(args, model)
    write(args.out, result)
    for arm in result["arms"].values():
        if "adapter" in arm:
            arm["answer_loss_without_fp8"] = answer_loss(model, Path(arm["adapter"]), args)
            write(args.out, result)
    print(f"{time.monotonic() - started:.0f} s\n\n{table(result['arms'])}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--books", type=Path, help="folder of .txt files to pre-train on")
    parser.add_argument("--gsm8k", type=Path, required=True, help="folder of GSM8K's train.jsonl and test.jsonl")
    parser.add_argument("--work", type=Path, required=True, help="folder of texts, checkpoints and runs")
    parser.add_argument("--out", type=Path, required=True, help="folder of what was found")
    parser.add_argument("--shape", choices=SHAPES, default="180m")
    parser.add_argument("--model", type=Path, help="a checkpoint to tune, instead of pre-training one")
    parser.add_argument("--documents", type=int, default=160_000, help="generated texts to pre-train on")
    parser.add_argument("--pretrain_steps", type=int, default=400)
    parser.add_argument("--pretrain_batch", type=int, default=128, help="blocks of 512 tokens in a step")
    parser.add_argument("--pretrain_seconds", type=int, default=200, help="stop there, and tune what there is then")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--one_by_one", action="store_true", help="tune in turn, not side by side")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch_size", type=int, default=32, help="rows in a step of tuning")
    parser.add_argument("--learning_rate", type=float, default=2e-4)
    parser.add_argument("--logging_steps", type=int, default=10)
    parser.add_argument("--eval_rows", type=int, default=320, help="of GSM8K's test set")
    parser.add_argument("--tune_seconds", type=int, default=240, help="arms that are not done by then are given up")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    args = parser.parse_args()
    if args.model is None and args.books is None:
        parser.error("--books FOLDER is needed to pre-train on, or --model FOLDER to pre-train nothing")
    return args


def pretrained(args: argparse.Namespace, result: dict[str, Any]) -> Path:
    """The folder of the pre-trained weights; says in `result` how they came about."""
    runs = args.work / "pretrain"
    found = sorted(runs.glob("*/pretrain/final")) or sorted(runs.glob("*/pretrain/checkpoint-*"))
    if not found:
        texts = args.work / "texts"
        maker = [sys.executable, str(ROOT / "scripts/nano/generate.py"), "--output", str(texts)]
        subprocess.run([*maker, "--documents", str(args.documents), "--conversations", "1000"], check=True)
        shutil.rmtree(runs, ignore_errors=True)
        books = len(list(args.books.glob("*.txt")))
        flags = (
            PRETRAIN
            | SHAPES[args.shape]
            | {
                # In a pass each book comes twice: there are fewer words in them than in the generated texts.
                "dataset": [f"{args.books.resolve()}#{2 * books}", texts / "pretrain.jsonl"],
                "tokenizer": ROOT / "swiftlite/models/nano",
                "vocab_size": 4096,
                "num_train_epochs": 1000,
                "max_steps": args.pretrain_steps,
                "batch_size": args.pretrain_batch,
                "output_dir": runs,
                "run_name": "pretrain",
                "device": args.device,
            }
        )
        child = start("pt", flags, args.out / "pretrain.log")
        try:
            child.wait(args.pretrain_seconds)
        except subprocess.TimeoutExpired:
            # It then saves where it is.
            child.send_signal(signal.SIGTERM)
            child.wait()
        found = sorted(runs.glob("*/pretrain/final")) or sorted(runs.glob("*/pretrain/checkpoint-*"))
    if not found:
        raise SystemExit(f"pre-training left no weights; see {args.out / 'pretrain.log'}")
    run = found[-1].parent
    shutil.copy(run / "log.jsonl", args.out / "pretrain.jsonl")
    log = read_log(run / "log.jsonl")
    trained, judged = [r for r in log if "loss" in r], [r for r in log if "eval_loss" in r]
    result["pretraining"] = {"first": trained[0], "last": trained[-1], "held out": judged[-1] if judged else None}
    result["environment"] = json.loads((run / "env.json").read_text(encoding="utf-8"))
    write(args.out, result)
    first, last = trained[0], trained[-1]
    print(f"pre-trained {last['step']} steps, {last['tokens']:,} tokens: {first['loss']:.3f} to {last['loss']:.3f}")
    return found[-1]


def tuned(args: argparse.Namespace, model: Path) -> dict[str, dict[str, Any]]:
    """Losses by arm: {"steps", "losses", "eval"}, or {"error"}."""
    common = TUNE | {
        "model": model,
        "dataset": args.gsm8k / "train.jsonl",
        "val_dataset": f"{args.gsm8k / 'test.jsonl'}#{args.eval_rows}",
        "max_steps": args.steps,
        "num_train_epochs": 1000,
        "batch_size": args.batch_size,
        "learning_rate": args.learning_rate,
        "logging_steps": args.logging_steps,
        "eval_steps": args.steps,
        "device": args.device,
    }
    children = {}
    for name in args.arms:
        runs = arm_folder(args, name)
        if not list(runs.glob("*/run/final")):
            shutil.rmtree(runs, ignore_errors=True)
            flags = common | ARMS[name] | {"output_dir": runs, "run_name": "run"}
            children[name] = start("sft", flags, args.out / f"{file_name(name)}.log")
            if args.one_by_one:
                _wait(children[name], args.tune_seconds)
    until = time.monotonic() + args.tune_seconds
    for child in children.values():
        _wait(child, until - time.monotonic())
    return {name: read_arm(args, name) for name in args.arms}


def _wait(child: subprocess.Popen, seconds: float) -> None:
    try:
        child.wait(max(seconds, 0))
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def read_arm(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """What an arm has logged so far."""
    logs = list(arm_folder(args, name).glob("*/run/log.jsonl"))
    if not logs:
        said = (args.out / f"{file_name(name)}.log").read_text(errors="replace").strip().splitlines()
        return {"error": said[-1][:200] if said else "ended without a word"}
    shutil.copy(logs[0], args.out / f"{file_name(name)}.jsonl")
    log = read_log(logs[0])
    arm: dict[str, Any] = {
        "steps": [r["step"] for r in log if "loss" in r],
        "losses": [r["loss"] for r in log if "loss" in r],
        "eval": [r["eval_loss"] for r in log if "eval_loss" in r],
    }
    final = logs[0].parent / "final"
    return arm | ({"adapter": str(final)} if final.is_dir() else {})


def answer_loss(model: Path, adapter: Path, args: argparse.Namespace) -> float:
    """Mean loss a token of the answers of GSM8K's test set, with the adapter on the base as it is, without fp8."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = torch.device(args.device)
    dtype = torch.bfloat16 if args.device == "cuda" else torch.float32
    tokenizer = AutoTokenizer.from_pretrained(str(adapter))
    base = AutoModelForCausalLM.from_pretrained(str(model), dtype=dtype).to(device)
    tuned_model = PeftModel.from_pretrained(base, str(adapter)).eval()
    total, tokens = torch.zeros((), device=device), 0
    for line in (args.gsm8k / "test.jsonl").read_text(encoding="utf-8").splitlines()[: args.eval_rows]:
        row = json.loads(line)
        prompt = tokenizer(f"<|im_start|>user\n{row['question']}<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
        answer = tokenizer(f"{row['answer']}<|im_end|>")["input_ids"]
        ids = torch.tensor([prompt + answer], device=device)
        with torch.no_grad():
            logits = tuned_model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
        total += torch.nn.functional.cross_entropy(logits, ids[0, len(prompt) :], reduction="sum")
        tokens += len(answer)
    return total.item() / tokens


def table(arms: dict[str, dict[str, Any]]) -> str:
    """Losses by step, and how far each arm is from the plain one."""
    plain = arms.get(PLAIN, {})
    others = {name: arm for name, arm in arms.items() if name != PLAIN and arm.get("losses")}
    if not plain.get("losses"):
        return f"no losses of the arm '{PLAIN}', nothing to compare with"
    off = {name: deviations(plain, arm) for name, arm in others.items()}
    lines = [f"| step | {PLAIN} | {' | '.join(f'{name} | deviation' for name in others)} |"]
    lines.append("|" + "---|" * (2 + 2 * len(others)))
    for i, (step, loss) in enumerate(zip(plain["steps"], plain["losses"])):
        cells = [f"{others[n]['losses'][i]:.4f} | {d[i]:+.2%}" if i < len(d) else "|" for n, d in off.items()]
        lines.append(f"| {step} | {loss:.4f} | {' | '.join(cells)} |")
    lines += ["", f"| arm | log lines | mean | mean size | largest | above {AIM:.1%} | held out | without fp8 |"]
    lines.append("|" + "---|" * 8)
    for name, arm in arms.items():
        if "error" in arm:
            lines.append(f"| {name} | {arm['error']} |" + " |" * 6)
            continue
        found = off.get(name, [0.0] * len(arm["losses"]))
        sizes = [abs(d) for d in found]
        held, without = (
            f"{value:.4f} ({value / base - 1:+.2%})" if value and base else "-"
            for value, base in (
                (arm["eval"][-1] if arm["eval"] else None, plain["eval"][-1] if plain["eval"] else None),
                (arm.get("answer_loss_without_fp8"), plain.get("answer_loss_without_fp8")),
            )
        )
        lines.append(
            f"| {name} | {len(found)} | {statistics.mean(found):+.2%} | {statistics.mean(sizes):.2%} "
            f"| {max(sizes):.2%} | {sum(s > AIM for s in sizes)} | {held} | {without} |"
        )
    lines += [f"\n{name}: {arm['error']}" for name, arm in arms.items() if "error" in arm]
    return "\n".join(lines)


def deviations(plain: dict[str, Any], arm: dict[str, Any]) -> list[float]:
    """(loss - plain loss) / plain loss at each log line that both have."""
    return [(loss - base) / base for base, loss in zip(plain["losses"], arm["losses"])]


def write(out: Path, result: dict[str, Any]) -> None:
    """What is known so far."""
    (out / "curve.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if "arms" in result:
        (out / "table.md").write_text(table(result["arms"]) + "\n", encoding="utf-8")


def start(command: str, flags: dict[str, Any], log: Path) -> subprocess.Popen:
    """Starts `swiftlite COMMAND` with the flags; what it says goes to `log`."""
    words = [sys.executable, "-m", "swiftlite", command]
    for name, value in flags.items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{name}", *(str(v).lower() if isinstance(v, bool) else str(v) for v in values)]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(paths)}
    with log.open("w") as said:
        return subprocess.Popen(words, env=environment, stdout=said, stderr=said)


def read_log(file: Path) -> list[dict[str, Any]]:
    """The lines of a log.jsonl; the last one may be cut off."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    return [json.loads(line) for line in lines]


def arm_folder(args: argparse.Namespace, name: str) -> Path:
    """Where an arm's run goes; other steps, rows or rates are other runs."""
    return args.work / f"tune-{args.steps}x{args.batch_size}-{args.learning_rate}" / file_name(name)


def file_name(arm: str) -> str:
    """An arm's name as that of a file."""
    return re.sub(r"[^a-z0-9]+", "-", arm)


if __name__ == "__main__":
    main()

"""`swiftlite doctor`: one screen on what this machine can run, and what to install for the rest."""

import dataclasses
import importlib.util
from collections.abc import Callable
from typing import ClassVar

import torch

from swiftlite.config.errors import UserError
from swiftlite.measure.environment import environment_stamp
from swiftlite.models.config import ModelConfig
from swiftlite.models.device import choose_device, choose_dtype, device_name
from swiftlite.speed.attention import choose_attention
from swiftlite.speed.config import DoctorConfig

_HOPPER_OR_ADA = (8, 9)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the screen: what was looked at, whether it runs here, and why or what to do."""

    name: str
    works: bool
    detail: str


@dataclasses.dataclass(frozen=True)
class DoctorResult:
    """All findings."""

    findings: list[Finding]
    exit_code: ClassVar[int] = 0


def run_doctor(config: DoctorConfig) -> DoctorResult:
    """Looks at versions, devices and optional packages, runs one small step on the device, and prints the screen."""
    stamp = environment_stamp()
    device = choose_device(ModelConfig())
    dtype = choose_dtype(ModelConfig(), device)
    packages = stamp["packages"]
    findings = [
        Finding("swiftlite", True, f"{stamp['swiftlite']} on Python {stamp['python']}, {stamp['os']}"),
        Finding("libraries", True, ", ".join(f"{n} {packages[n]}" for n in ("torch", "transformers", "peft"))),
        Finding(
            "device", True, f"{device_name(device)}; {stamp['cpu_cores']} CPU cores, {stamp['ram_gib']:.0f} GiB RAM"
        ),
        Finding("precision", True, f"--dtype auto means {dtype}: {_why_dtype(device)}"),
        _training_step(device, dtype),
        *_attention(device, dtype),
        Finding("loss", True, _loss(device)),
        _compile(device),
        _fp8(device),
        *[_package(name, what) for name, what in OPTIONAL.items()],
    ]
    width = max(len(f.name) for f in findings)
    for finding in findings:
        print(f"{'ok  ' if finding.works else 'no  '}{finding.name:<{width}}  {finding.detail}")
    return DoctorResult(findings)


# Package -> what it brings, for those that swiftlite uses when they are there.
OPTIONAL = {
    "flash_attn": "--attn_impl flash on a GPU (`pip install flash-attn`)",
    "tensorboard": "--report_to tensorboard (`pip install tensorboard`)",
    "wandb": "--report_to wandb (`pip install wandb`)",
    "swanlab": "--report_to swanlab (`pip install swanlab`)",
    "tiktoken": "Qwen-1's original tokenizer file (`pip install tiktoken`)",
    "sentencepiece": "original tokenizer.model files (`pip install sentencepiece`)",
}


def _package(name: str, what: str) -> Finding:
    installed = importlib.util.find_spec(name) is not None
    return Finding(name, installed, ("installed: " if installed else "not installed: ") + what)


def _why_dtype(device: torch.device) -> str:
    if device.type != "cuda":
        return f"half precision is slow or incomplete on {device.type}"
    major, minor = torch.cuda.get_device_capability(device)
    native = "has" if (major, minor) >= (8, 0) else "has no"
    return f"compute capability {major}.{minor} {native} fast bf16"


def _training_step(device: torch.device, dtype: str) -> Finding:
    """A forward and backward on the device in the precision a run would use."""

    def step() -> None:
        half = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[dtype]
        weight = torch.randn(64, 64, device=device, dtype=half, requires_grad=True)
        (torch.randn(8, 64, device=device, dtype=half) @ weight).float().square().mean().backward()
        assert weight.grad is not None and torch.isfinite(weight.grad).all()

    return _tried("a training step", step, f"forward and backward in {dtype} ran")


def _attention(device: torch.device, dtype: str) -> list[Finding]:
    findings = []
    for wanted in ("auto", "flash", "flash_attention_2"):
        try:
            chosen, why = choose_attention(wanted, device, dtype)
            findings.append(Finding(f"--attn_impl {wanted}", True, f"{chosen} ({why})"))
        except UserError as error:
            findings.append(Finding(f"--attn_impl {wanted}", False, str(error).split(": ", 1)[1]))
    return findings


def _compile(device: torch.device) -> Finding:
    if device.type != "cuda":
        return Finding("torch.compile", False, "not used: it pays on CUDA devices")
    triton = importlib.util.find_spec("triton") is not None
    detail = "triton is installed" if triton else "needs triton: `pip install triton`"
    return Finding("torch.compile", triton, f"{detail}; used for pt and for models above 300 million parameters")


def _loss(device: torch.device) -> str:
    if device.type != "cuda":
        return "plain cross-entropy on full logits; fused with the head it is no faster here"
    return "fused with the head, in chunks, where a model's head allows it"


def _fp8(device: torch.device) -> Finding:
    if device.type != "cuda":
        return Finding("fp8 matmuls", False, "need a CUDA device of compute capability 8.9 or above")
    capability = torch.cuda.get_device_capability(device)
    detail = f"compute capability {capability[0]}.{capability[1]}; this version does not use them yet"
    return Finding("fp8 matmuls", capability >= _HOPPER_OR_ADA, detail)


def _tried(name: str, action: Callable[[], None], success: str) -> Finding:
    try:
        action()
    except (RuntimeError, AssertionError) as error:
        return Finding(name, False, f"failed: {error}")
    return Finding(name, True, success)

"""`swiftlite export --merge_lora true`: base and adapter in, one model folder out, checked before it is written."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from swiftlite import __version__
from swiftlite.config.errors import UserError
from swiftlite.export.config import ExportConfig
from swiftlite.infer.loading import context_length
from swiftlite.models.device import DTYPES, choose_device, device_name
from swiftlite.models.layers import find_layers
from swiftlite.models.load import load_config, load_model, load_tokenizer
from swiftlite.models.new_tokens import fit_embedding
from swiftlite.models.source import CARD, ModelSource, resolve_model
from swiftlite.quant.bnb import to_nf4
from swiftlite.quant.fp8 import fp8_obstacle
from swiftlite.speed.linears import speed_up_linears
from swiftlite.train.saving import make_valid
from swiftlite.tuners.added import load_saved_adapters
from swiftlite.tuners.merging import Agreement, Merged, compare, logits_of, merge_adapter, probe_ids


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """The folder that was written, how near the merged model is to the adapter on its base, and the exit code.

    Attributes:
        quantised: the same for the quantised base that the adapter was trained on; None: it was not quantised, or
            that cannot run here.
    """

    path: Path
    agreement: Agreement
    quantised: Agreement | None = None
    exit_code: int = 0


def run_export(config: ExportConfig) -> ExportResult:
    """Folds an adapter into its base, compares both, and writes the model with tokenizer and card.

    Raises:
        UserError: there is no adapter, it does not fit or cannot be merged, or the folder exists.
    """
    config.refuse_not_yet()
    source = resolve_model(config.model, config.general.seed).one_adapter()
    if source.adapter is None:
        raise UserError(f"--merge_lora: {source.name} comes without an adapter to fold in; pass --adapters FOLDER")
    target = _target(config.export.output_dir, source.adapter)
    job = _Job.of(config, source)
    _say(f"{source.name} + {source.adapter}: {job.dtype_name} on {device_name(job.device)}")
    trained_on, quantised = job.logits_on_quantised_base(), None
    merged = merge_adapter(load_saved_adapters(job.load_base(), source.adapters), job.ids)
    for line in merged.lines():
        _say(line)
    if trained_on is not None:
        quantised = compare(trained_on, logits_of(merged.model, job.ids))
        _say(f"against the {source.card['quant_method']} base that it was trained on: {quantised.describe()}")
    _write(target, source, merged, job.tokenizer, quantised)
    _say(f"written to {target}; next: swiftlite infer --ckpt_dir {target}")
    return ExportResult(target, merged.agreement, quantised)


@dataclasses.dataclass(frozen=True)
class _Job:
    """What a base is loaded by, and the text that models are compared on: ids, (1, tokens)."""

    source: ModelSource
    model_config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    dtype_name: str
    ids: Tensor

    @classmethod
    def of(cls, config: ExportConfig, source: ModelSource) -> "_Job":
        device = choose_device(config.model)
        model_config, notes = load_config(source), []
        tokenizer = load_tokenizer(source, model_config.get_text_config().vocab_size, notes)
        for note in notes:
            _say(note)
        dtype = config.model.dtype if config.model.dtype != "auto" else _trained_dtype(source, model_config)
        ids = probe_ids(tokenizer, device, context_length(model_config))
        return cls(source, model_config, tokenizer, device, dtype, ids)

    def load_base(self) -> PreTrainedModel:
        base = load_model(self.source, self.model_config, DTYPES[self.dtype_name], self.device, "sdpa")
        fit_embedding(base, self.source.card.get("embedding_rows", 0))
        return base

    def logits_on_quantised_base(self) -> Tensor | None:
        """What the adapter says on the base as its training had it; None where that was as it is stored."""
        method = self.source.card.get("quant_method", "none")
        if method == "none":
            return None
        obstacle = fp8_obstacle(self.device, DTYPES[self.dtype_name]) if method == "fp8" else None
        if obstacle is not None:
            _say(f"not compared with the fp8 base that it was trained on: {obstacle}")
            return None
        base = self.load_base()
        if method == "bnb":
            try:
                to_nf4(base, find_layers(base) or (), self.device)
            except UserError as error:
                _say(f"not compared with the 4-bit base that it was trained on: {error}")
                return None
        model = load_saved_adapters(base, self.source.adapters)
        if method == "fp8":
            speed_up_linears(model, quant_method="fp8")
        return logits_of(model, self.ids)


def _trained_dtype(source: ModelSource, config: PretrainedConfig) -> str:
    """The precision of the run, else that of the base's files."""
    named = {str(dtype): name for name, dtype in DTYPES.items()}
    return source.card.get("dtype") or named.get(str(config.dtype), "fp32")


def _target(wanted: str | None, adapter: Path) -> Path:
    path = Path(wanted).expanduser() if wanted else adapter.with_name(f"{adapter.resolve().name}-merged")
    if path.exists():
        raise UserError(f"--output_dir: {path} exists and is not overwritten; name another folder, or move that one")
    return path


def _write(
    target: Path,
    source: ModelSource,
    merged: Merged,
    tokenizer: PreTrainedTokenizerBase,
    quantised: Agreement | None,
) -> None:
    """All of the folder or nothing."""
    assert source.adapter is not None
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if (source.adapter / "generation_config.json").is_file():
        merged.model.generation_config = GenerationConfig.from_pretrained(source.adapter)
    make_valid(merged.model.generation_config)
    agreement = {"before": dataclasses.asdict(merged.agreement)}
    if quantised is not None:
        agreement["quantised"] = dataclasses.asdict(quantised)
    card: dict[str, Any] = {
        "format": 1,
        **source.card,
        "swiftlite": __version__,
        "base": source.to_card(),
        "adapter": False,
        "merged": {"adapter": str(source.adapter.resolve()), "agreement": agreement},
    }
    try:
        merged.model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        (partial / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        partial.rename(target)
    except (OSError, RuntimeError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"--output_dir {target}: cannot be written: {error}") from error


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

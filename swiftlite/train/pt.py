"""`swiftlite pt`: pre-training on plain text, from scratch or going on; training a tokenizer; evaluating alone."""

import dataclasses
from typing import Any

from rich.console import Console

from swiftlite.chat.text import TextTemplate
from swiftlite.data.plain import read_texts
from swiftlite.measure.environment import environment_stamp
from swiftlite.models.device import DTYPES
from swiftlite.models.load import load_config, load_model, load_tokenizer
from swiftlite.models.new_tokens import fit_embedding
from swiftlite.parallel.launch import read_world
from swiftlite.parallel.strategy import make_strategy
from swiftlite.speed.attention import settle_attention
from swiftlite.speed.loss import choose_loss
from swiftlite.train.batches import Collator
from swiftlite.train.config import PtConfig
from swiftlite.train.decide import decide, decide_attention, make_repeatable
from swiftlite.train.evaluation import eval_loss, eval_record
from swiftlite.train.inputs import source_of
from swiftlite.train.model import isolate
from swiftlite.train.result import TrainResult
from swiftlite.train.run import run_training
from swiftlite.train.run_folder import RunFolder, start_run
from swiftlite.train.texts import load_texts, read_text_inputs, train_own_tokenizer
from swiftlite.tuners.adapter import load_adapter


def run_pt(config: PtConfig) -> TrainResult:
    """Pre-trains a model on texts; returns the run's folder, its metrics and the exit code.

    Raises:
        UserError: anything a user can mend; checkpoints saved before stay as they are.
    """
    if config.pretrain.eval_only:
        return _evaluate(config)
    if config.only_tokenizer:
        return _train_tokenizer(config)
    return run_training(config, read_text_inputs)


def _train_tokenizer(config: PtConfig) -> TrainResult:
    """Trains a tokenizer, writes it into a run folder, and says how short it makes the texts."""
    config.refuse_not_yet()
    tokenizer = train_own_tokenizer(config)
    run = RunFolder.create(config.run.output_dir, "tokenizer", config.run.run_name)
    tokenizer.save_pretrained(run.path)
    (run.path / "run.yaml").write_text(config.to_yaml(), encoding="utf-8")
    run.write_json("env.json", environment_stamp())
    tokens = size = 0
    for text in read_texts(config.data):
        tokens += len(tokenizer(text, verbose=False)["input_ids"])
        size += len(text.encode())
    metrics = {"vocab_size": len(tokenizer), "texts_bytes": size, "texts_tokens": tokens}
    run.write_json("metrics.json", metrics)
    _say(
        f"{len(tokenizer)} entries; the texts' {size:,} bytes are {tokens:,} tokens, {size / tokens:.2f} bytes each",
        f"tokenizer: {run.path}",
        f"next: swiftlite pt --from_scratch --tokenizer {run.path} ...",
    )
    return TrainResult(run.path, metrics, 0)


def _evaluate(config: PtConfig) -> TrainResult:
    """Loss, perplexity and bits per byte of each `--val_dataset` alone."""
    config.refuse_not_yet()
    world = read_world()
    device, notes = decide(config, world)
    make_repeatable(config)
    source = source_of(config)
    model_config = load_config(source)
    tokenizer = load_tokenizer(source, model_config.get_text_config().vocab_size, notes)
    decide_attention(config, device, model_config, notes)
    model: Any = load_model(source, model_config, DTYPES[config.model.dtype], device, config.model.attn_impl)
    config.set("attn_impl", settle_attention(model, notes))
    isolate(model, config, notes)
    if source.adapter is not None:
        fit_embedding(model, source.card.get("embedding_rows", 0))
        model = load_adapter(model, source.adapter, trainable=False)
    strategy = make_strategy(device, config.model.dtype, world)
    with strategy.autocast():
        loss = choose_loss(model, config.speed.loss_impl, notes)
    _say(*notes)
    rows = config.run.eval_batch_size or config.optim.batch_size
    metrics: dict[str, Any] = {}
    reports = []
    for spec in config.data.val_dataset:
        one = dataclasses.replace(config.data, dataset=[spec], val_dataset=[], split_dataset_ratio=0.0)
        data = load_texts(one, TextTemplate(tokenizer), tokenizer, world)
        reports += data.report["sources"]
        val = Collator(data.train, one, tokenizer.pad_token_id or 0, device, rows, data.packing)
        loss_value = eval_loss(loss, val, strategy, rows)
        record = eval_record(loss_value, val, data.train_bytes) | {"tokens": int(data.train.lengths.sum())}
        metrics[spec] = record
        _say(f"{spec}: " + "  ".join(f"{k.removeprefix('eval_')} {v:,.5g}" for k, v in record.items()))
    run = start_run(config, source.name, {"val_sources": reports}, strategy)
    if world.is_main:
        run.write_json("metrics.json", metrics)
        _say(f"run folder {run.path}")
    strategy.close()
    return TrainResult(run.path, metrics, 0)


def _say(*lines: str) -> None:
    Console(highlight=False, markup=False, soft_wrap=True).print("\n".join(lines))

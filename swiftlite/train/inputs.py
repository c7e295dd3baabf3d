"""What every training command reads before it spends anything: model settings, tokenizer, template, rows."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from swiftlite.chat.checks import check_encoding
from swiftlite.chat.encoded import Encoded
from swiftlite.chat.template import Template, choose_template
from swiftlite.chat.text import NAME as TEXT
from swiftlite.config.errors import UserError
from swiftlite.data.bins import pack_data
from swiftlite.data.loading import Data, load_data
from swiftlite.infer.loading import context_length
from swiftlite.models.load import load_config, load_tokenizer, template_of
from swiftlite.models.new_tokens import add_tokens
from swiftlite.models.source import ModelSource, resolve_model
from swiftlite.parallel.launch import World
from swiftlite.train.config import PtConfig, SftConfig, TrainConfig

_CHECKED_ROWS = 20


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The model that was meant, how it reads and writes, the tokenised rows, and the ids of `--add_tokens`.

    `chat_card` is what a checkpoint records of the chat: its template and system prompt.
    """

    source: ModelSource
    model_config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    template: Template
    data: Data
    new_tokens: list[int]
    chat_card: dict[str, Any]


def source_of(config: TrainConfig) -> ModelSource:
    """The model a run starts from.

    Raises:
        UserError: nothing of that name or path.
    """
    seed = config.general.seed
    if not isinstance(config, PtConfig) or not config.scratch.from_scratch:
        return resolve_model(config.model, seed).one_adapter()
    if config.model.model is None and config.model.model_type is None:
        o = config.scratch
        name = f"{o.architecture or 'llama'}-{o.num_layers}x{o.hidden_size}"
        return ModelSource(name, scratch_seed=seed, tokenizer=config.model.tokenizer)
    shape_only = dataclasses.replace(config.model, weights="dummy")
    return dataclasses.replace(resolve_model(shape_only, seed), dummy_seed=None, scratch_seed=seed)


def read_inputs(config: SftConfig, world: World, checkpoint: Path | None, notes: list[str]) -> Inputs:
    """Finds the model, tokenises the data and checks the first rows; `notes` gets what the header should say.

    Raises:
        UserError: the model or the data cannot be read, or the wrong tokens would be trained.
    """
    source = source_of(config)
    model_config = load_config(source)
    tokenizer = load_tokenizer(source, model_config.get_text_config().vocab_size, notes)
    new_tokens = add_tokens(tokenizer, config.model.add_tokens)
    config.set("template_date", config.chat.day().isoformat())
    own = template_of(source, model_config, tokenizer)
    # A base model pre-trained on text has no chat format yet: it learns one here.
    template = choose_template(source.chat_settings(config.chat), tokenizer, None if own == TEXT else own)
    # Before the processes meet: tokenising may take longer than their patience with each other.
    data = load_data(config.data, template, tokenizer=tokenizer, progress=say_progress, wait=world.local_rank > 0)
    # A row that was cut may well have lost its stop token; that is the cut's doing, not the template's.
    whole = [i for i in range(min(_CHECKED_ROWS, len(data.train))) if data.train.lengths[i] < config.data.max_length]
    for row in whole:
        check_encoding(template, encoded_row(data, row), tokenizer)
    check_validation(config, data)
    check_positions(model_config, data, notes)
    if config.data.packing:
        data = pack_data(data, config.data.max_length)
    config.set("template", template.name)
    card = {"template": template.name, "system": config.chat.system}
    return Inputs(source, model_config, tokenizer, template, data, new_tokens, card)


def check_validation(config: TrainConfig, data: Data) -> None:
    """Raises a UserError when early stopping has nothing to go by."""
    if config.run.early_stopping_patience and data.val is None:
        raise UserError(
            "--early_stopping_patience needs validation rows: pass --val_dataset, or a --split_dataset_ratio above 0"
        )


def check_positions(model_config: PretrainedConfig, data: Data, notes: list[str]) -> None:
    """Rows beyond the positions a model was made for: impossible with learned positions, doubtful with others."""
    reach = context_length(model_config)
    longest = int(data.train.lengths.max())
    if reach is None or longest <= reach:
        return
    if getattr(model_config.get_text_config(), "rope_parameters", None) is None:
        raise UserError(
            f"rows of up to {longest} tokens, but the model has only {reach} positions; pass --max_length {reach}"
        )
    notes.append(f"warning: rows of up to {longest} tokens; the model was made for {reach} positions")


def encoded_row(data: Data, row: int, limit: int | None = None) -> Encoded:
    """A training row, or its first `limit` tokens."""
    ids, weights = data.train[row]
    return Encoded(ids[:limit].tolist(), weights[:limit].tolist())


def say_progress(dataset: str, rows: int) -> None:
    """Rows tokenised so far, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{dataset}: {rows:,} rows tokenised", end="", file=sys.stderr, flush=True)

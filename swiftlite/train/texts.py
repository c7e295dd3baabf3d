"""What pre-training reads before it spends anything: a shape or a model, a tokenizer, texts in blocks."""

import dataclasses
from pathlib import Path

from transformers import PretrainedConfig
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from swiftlite.chat.text import NAME as TEXT
from swiftlite.chat.text import TextTemplate
from swiftlite.config.errors import UserError
from swiftlite.data.config import TextDataConfig
from swiftlite.data.loading import Data, load_data
from swiftlite.data.packing import load_blocks
from swiftlite.data.plain import read_texts
from swiftlite.infer.loading import context_length
from swiftlite.models.load import load_config, load_tokenizer
from swiftlite.models.new_tokens import add_tokens
from swiftlite.models.scratch import scratch_config
from swiftlite.models.source import ModelSource
from swiftlite.models.tokenizer_training import check_reads_back, train_tokenizer
from swiftlite.parallel.launch import World
from swiftlite.train.config import PtConfig
from swiftlite.train.inputs import Inputs, check_positions, check_validation, say_progress, source_of


def read_text_inputs(config: PtConfig, world: World, checkpoint: Path | None, notes: list[str]) -> Inputs:
    """Finds or makes model settings and tokenizer, tokenises and packs the texts.

    Args:
        checkpoint: of the run that is gone on with, which holds the tokenizer that it trained.

    Raises:
        UserError: the model or the texts cannot be read, or do not fit together.
    """
    source = source_of(config)
    if source.scratch_seed is None:
        model_config = load_config(source)
        tokenizer = load_tokenizer(source, model_config.get_text_config().vocab_size, notes)
    else:
        model_config, tokenizer = _from_scratch(config, source, checkpoint, notes)
    new_tokens = add_tokens(tokenizer, config.model.add_tokens)
    template = TextTemplate(tokenizer)
    data = load_texts(config.data, template, tokenizer, world)
    check_validation(config, data)
    check_positions(model_config, data, notes)
    return Inputs(source, model_config, tokenizer, template, data, new_tokens, _chat_card(source))


def load_texts(
    config: TextDataConfig, template: TextTemplate, tokenizer: PreTrainedTokenizerBase, world: World
) -> Data:
    """The texts of `config`, packed or one a row."""
    load = load_blocks if config.packing else load_data
    return load(config, template, tokenizer=tokenizer, progress=say_progress, wait=world.local_rank > 0)


def train_own_tokenizer(config: PtConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of `--train_tokenizer`, from the texts of `--dataset`; the same texts make the same one."""
    o = config.scratch
    return train_tokenizer(read_texts(config.data), o.tokenizer_kind, o.vocab_size, o.special_tokens)


def _from_scratch(
    config: PtConfig, source: ModelSource, checkpoint: Path | None, notes: list[str]
) -> tuple[PretrainedConfig, PreTrainedTokenizerBase]:
    no_limit = 2**31 - 1
    if not config.scratch.train_tokenizer:
        if not (source.tokenizer or source.location):
            raise UserError("--from_scratch needs a tokenizer: name one with --tokenizer, or pass --train_tokenizer")
        tokenizer = load_tokenizer(source, no_limit, notes)
    elif checkpoint is not None:
        tokenizer = load_tokenizer(dataclasses.replace(source, tokenizer=str(checkpoint)), no_limit, notes)
    else:
        tokenizer = train_own_tokenizer(config)
    named = config.model.model is not None or config.model.model_type is not None
    base = load_config(dataclasses.replace(source, dummy_seed=0)) if named else None
    model_config = scratch_config(config.scratch, base, tokenizer, notes)
    check_reads_back(tokenizer, model_config)
    tokenizer.model_max_length = context_length(model_config) or tokenizer.model_max_length
    return model_config, tokenizer


def _chat_card(source: ModelSource) -> dict[str, str | None]:
    """No chat format for a model that has only seen text; for others the one they had."""
    if source.scratch_seed is not None:
        return {"template": TEXT, "system": "auto"}
    return {"template": source.template, "system": source.card.get("system", "auto")}

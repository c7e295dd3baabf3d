"""From the flags, or a checkpoint's path alone, to a model that answers, with its tokenizer and template."""

import dataclasses
from typing import Any

from peft import PeftModel
from transformers import GenerationConfig, PretrainedConfig
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from swiftlite.chat.template import Template, choose_template
from swiftlite.config.errors import UserError
from swiftlite.infer.config import InferConfig
from swiftlite.models.device import DTYPES, choose_device, choose_dtype, device_name
from swiftlite.models.load import load_config, load_model, load_tokenizer, template_of
from swiftlite.models.new_tokens import fit_embedding
from swiftlite.models.source import BASE, ModelSource, resolve_model
from swiftlite.speed.attention import choose_attention
from swiftlite.speed.dora import has_dora
from swiftlite.speed.linears import speed_up_linears
from swiftlite.tuners.added import load_saved_adapters
from swiftlite.tuners.merging import merge_adapter, probe_ids


@dataclasses.dataclass(frozen=True)
class Loaded:
    """Everything an engine needs.

    Attributes:
        stop_ids: the template's stop tokens and those of the checkpoint's generation_config.
        adapters: names of the adapters, where there are several to choose from.
        context: tokens the model can read and write in all; None: no limit known.
        pads: prompts of several lengths can be one batch.
        header: lines that say what was loaded.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    template: Template
    stop_ids: list[int]
    adapters: list[str]
    context: int | None
    pads: bool
    header: list[str]


def load_parts(config: InferConfig) -> Loaded:
    """Loads what `config` names.

    Raises:
        UserError: it cannot be found, does not fit together, or cannot run here.
    """
    notes: list[str] = []
    device = choose_device(config.model)
    dtype = choose_dtype(config.model, device)
    source = resolve_model(config.model, config.general.seed)
    if config.infer.merge_lora and source.adapter is None:
        raise UserError(f"--merge_lora: {source.name} comes without an adapter to fold in; leave the flag away")
    if config.infer.merge_lora:
        source.one_adapter()
    model_config = load_config(source)
    attention, why = choose_attention(config.model.attn_impl, device, dtype, model_config, joined=False)
    tokenizer = load_tokenizer(source, model_config.get_text_config().vocab_size, notes)
    template = choose_template(
        source.chat_settings(config.chat), tokenizer, template_of(source, model_config, tokenizer)
    )
    model: Any = load_model(source, model_config, DTYPES[dtype], device, attention)
    stop_ids = list(dict.fromkeys([*template.stop_token_ids, *_as_list(model.generation_config.eos_token_id)]))
    # `generate` fills what a request leaves open from here: a checkpoint's own sampling settings stay out of it.
    model.generation_config = GenerationConfig()
    if source.adapter is not None:
        fit_embedding(model, source.card.get("embedding_rows", 0))
        model = load_saved_adapters(model, source.adapters)
        if config.infer.merge_lora:
            merged = merge_adapter(model, probe_ids(tokenizer, device, context_length(model_config)))
            model, notes = merged.model, [*notes, *merged.lines()]
        elif len(source.adapters) == 1 and has_dora(model):
            # PEFT's own layers make B·A, as large as the weights, for every token.
            notes += speed_up_linears(model)
    header = [
        f"{_describe(source, config.infer.merge_lora)}: {dtype} on {device_name(device)}, "
        f"attention {attention} ({why}), template {template.name}",
        *notes,
    ]
    learned: Any = model.active_peft_config if isinstance(model, PeftModel) else None
    context, pads = context_length(model_config), True
    if learned is not None and learned.is_prompt_learning:
        context = None if context is None else context - learned.num_virtual_tokens
        # PEFT puts learned embeddings before the padding: the text would be further away from them than in training.
        pads = learned.peft_type == "PREFIX_TUNING"
    several = list(source.adapters) if len(source.adapters) > 1 else []
    if several:
        header.append(
            f"adapters: {', '.join(several)}, or {BASE} for none; {several[0]} answers unless another is named"
        )
    return Loaded(model.eval(), tokenizer, template, stop_ids, several, context, pads, header)


def context_length(config: PretrainedConfig) -> int | None:
    """Positions that the model was made for, with its RoPE scaling; None where the config does not say."""
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    rope = getattr(text, "rope_parameters", None) or {}
    # Layers of different kinds may each have their own settings.
    scalings = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    reach = [
        s["factor"] * (s.get("original_max_position_embeddings") or positions) for s in scalings if s.get("factor")
    ]
    return int(max([positions, *reach]))


def _describe(source: ModelSource, merged: bool) -> str:
    words = source.name + (" with random weights" if source.dummy_seed is not None else "")
    if source.adapter is None:
        return words
    return " + ".join([words, *map(str, source.adapters.values())]) + (" (merged)" if merged else "")


def _as_list(ids: int | list[int] | None) -> list[int]:
    if ids is None:
        return []
    return ids if isinstance(ids, list) else [ids]

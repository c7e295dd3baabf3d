"""Which modules LoRA goes on: DEFAULT, ALL, EMBEDDING, LN and names, resolved against the model."""

import re
from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from swiftlite.config.errors import UserError
from swiftlite.config.options import closest
from swiftlite.models.registry import find_family


def target_modules(
    model: PreTrainedModel, names: list[str], regex: str | None, flag: str = "--lora_target_modules"
) -> list[str] | str:
    """PEFT's `target_modules` for the user's words: name suffixes, or a pattern.

    Raises:
        UserError: a word that matches no module, or DEFAULT for a family that has no default.
    """
    if regex is not None:
        return _checked_pattern(model, regex)
    suffixes: list[str] = []
    for name in names:
        if name == "ALL":
            suffixes += linear_names(model)
        elif name == "EMBEDDING":
            suffixes.append(embedding_name(model))
        elif name == "DEFAULT":
            suffixes += _family_default(model)
        else:
            suffixes.append(_checked_suffix(model, name, flag))
    return sorted(set(suffixes))


def modules_to_save(model: PreTrainedModel, names: list[str]) -> list[str] | None:
    """PEFT's `modules_to_save` for the user's words.

    Raises:
        UserError: a word that matches no module.
    """
    found: list[str] = []
    for name in names:
        if name == "EMBEDDING":
            found.append(embedding_name(model))
        elif name == "LN":
            found += _norm_names(model)
        else:
            found.append(_checked_suffix(model, name, "--lora_modules_to_save"))
    return sorted(set(found)) or None


def linear_names(model: PreTrainedModel) -> list[str]:
    """The shortest name suffixes that cover every linear layer but the head, and nothing else."""
    head = model.get_output_embeddings()
    wanted = {n for n, m in model.named_modules() if isinstance(m, (nn.Linear, Conv1D)) and m is not head}
    others = {n for n, _ in model.named_modules() if n} - wanted
    return sorted({_shortest_suffix(name, others) for name in wanted})


def matched(model: nn.Module, targets: list[str] | str) -> list[tuple[str, nn.Module]]:
    """Full names and modules of the linear layers that PEFT's `target_modules` (suffixes, or a pattern) mean."""
    linears = [(n, m) for n, m in model.named_modules() if isinstance(m, (nn.Linear, Conv1D))]
    if isinstance(targets, str):
        return [(n, m) for n, m in linears if re.fullmatch(targets, n)]
    return [(n, m) for n, m in linears if any(n == t or n.endswith("." + t) for t in targets)]


def embedding_name(model: PreTrainedModel) -> str:
    """The last part of the token embedding's module name."""
    embedding = model.get_input_embeddings()
    return next(n for n, m in model.named_modules() if m is embedding).split(".")[-1]


def token_rows(model: PreTrainedModel, ids: Sequence[int]) -> dict[str, list[int]] | None:
    """PEFT's `trainable_token_indices`: these rows of the embedding, and of the head where it is not tied to it."""
    if not ids:
        return None
    rows = {embedding_name(model): list(ids)}
    head = model.get_output_embeddings()
    if head is not None and head.weight is not model.get_input_embeddings().weight:
        rows[next(n for n, m in model.named_modules() if m is head).split(".")[-1]] = list(ids)
    return rows


def _shortest_suffix(name: str, others: set[str]) -> str:
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        suffix = ".".join(parts[-length:])
        if not any(o == suffix or o.endswith("." + suffix) for o in others):
            return suffix
    return name


def _norm_names(model: PreTrainedModel) -> list[str]:
    return sorted({n.split(".")[-1] for n, m in model.named_modules() if "norm" in type(m).__name__.lower()})


def _family_default(model: PreTrainedModel) -> list[str]:
    family = find_family(model.config.model_type)
    if family is None:
        raise UserError(
            f"--lora_target_modules DEFAULT: no default is known for {model.config.model_type}; pass ALL or "
            f"names out of {', '.join(linear_names(model))}"
        )
    return list(family.default_targets)


def _checked_suffix(model: PreTrainedModel, name: str, flag: str) -> str:
    names = [n for n, _ in model.named_modules() if n]
    if not any(n == name or n.endswith("." + name) for n in names):
        last = sorted({n.split(".")[-1] for n in names if not n.split(".")[-1].isdigit()})
        raise UserError(
            f"{flag}: no module of this model is called '{name}'{closest(name, last)} It has: "
            f"{', '.join(linear_names(model))}"
        )
    return name


def _checked_pattern(model: PreTrainedModel, regex: str) -> str:
    try:
        matched = any(re.fullmatch(regex, n) for n, _ in model.named_modules())
    except re.error as error:
        raise UserError(f"--target_regex: '{regex}' is not a regular expression: {error}") from None
    if not matched:
        example = next(n for n, m in model.named_modules() if isinstance(m, nn.Linear))
        raise UserError(f"--target_regex: '{regex}' matches no module's full name; one of them is {example}")
    return regex

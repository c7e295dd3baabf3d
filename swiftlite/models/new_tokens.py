"""Tokens a model does not know yet: added ones, and those of a template that its training never touched."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from swiftlite.config.errors import UserError

# A row that training never reached keeps its initial size, far under that of a used one, or equals its neighbours.
_SMALL = 0.2


def add_tokens(tokenizer: PreTrainedTokenizerBase, tokens: list[str]) -> list[int]:
    """Adds special tokens; returns the ids of all of them.

    Raises:
        UserError: one is in the vocabulary already, where it may have another meaning.
    """
    known = tokenizer.get_vocab()
    for token in tokens:
        if token in known:
            raise UserError(f"--add_tokens: '{token}' is in the tokenizer already (id {known[token]}); leave it away")
    tokenizer.add_tokens(tokens, special_tokens=True)
    return [tokenizer.convert_tokens_to_ids(token) for token in tokens]  # pyrefly: ignore


def fit_embedding(model: PreTrainedModel, rows: int) -> None:
    """Gives embedding and head at least `rows` rows; new ones start as the mean of the old. Tied ones stay tied."""
    embedding: Any = model.get_input_embeddings()
    before = embedding.weight.shape[0]
    if rows <= before:
        return
    model.resize_token_embeddings(rows, mean_resizing=False)
    with torch.no_grad():
        for module in (model.get_input_embeddings(), model.get_output_embeddings()):
            if module is not None:
                weight: Any = module.weight
                weight[before:] = weight[:before].float().mean(0).to(weight.dtype)


def untouched_tokens(embedding: nn.Module, ids: list[int]) -> list[int]:
    """Those of `ids` whose embedding row looks as if training never reached it.

    A heuristic: a norm under a fifth of the median, or a row equal to that of another of these tokens.
    """
    weight = embedding.weight.detach()  # pyrefly: ignore
    norms = weight.float().norm(dim=1)
    typical = norms[torch.randperm(len(norms), generator=torch.Generator().manual_seed(0))[:4096]].median()
    found = []
    for i in ids:
        twin = any(j != i and torch.equal(weight[i], weight[j]) for j in ids)
        if norms[i] < _SMALL * typical or twin:
            found.append(i)
    return found

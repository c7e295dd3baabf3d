"""Qwen-1 past the length it was trained at: logn scaling and dynamic NTK, in eval and nowhere else."""

import json

import pytest
import torch
import torch.nn.functional as F

from swiftlite.models.load import load_config, load_model
from swiftlite.models.source import ModelSource
from tests.models.native_originals import QWEN, VOCAB, random_weights, write_original
from tests.models.native_reference import reference

CPU = torch.device("cpu")
TRAINED = 8  # seq_length of the models here


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_original(tmp_path_factory.mktemp("qwen"), "qwen", seq_length=TRAINED)


def load(folder, **changes):
    source = ModelSource("m", path=folder)
    config = load_config(source)
    for name, value in changes.items():
        setattr(config, name, value)
    return load_model(source, config, torch.float32, CPU, "sdpa").eval()


def ids_of(length, seed=0):
    return torch.randint(3, VOCAB, (length,), generator=torch.Generator().manual_seed(seed))


def expected(ids, alpha=1.0, logn=True):
    return reference("qwen", random_weights("qwen"), ids, ntk_alpha=alpha, logn_from=TRAINED if logn else 0)


def close(a, b):
    return (a - b).abs().max() < 3e-5


# Dynamic NTK: alpha = 2^ceil(log2(length / trained) + 1) - 1 beyond the trained length.
@pytest.mark.parametrize(("length", "alpha"), [(7, 1), (8, 1), (9, 3), (16, 3), (17, 7), (32, 7), (33, 15)])
def test_long_rows_in_eval_get_logn_and_ntk(folder, length, alpha):
    ids = ids_of(length)
    assert close(load(folder)(ids[None]).logits[0], expected(ids, alpha))


@pytest.mark.parametrize(("logn", "ntk"), [(False, True), (True, False), (False, False)])
def test_each_of_them_can_be_off(folder, logn, ntk):
    ids = ids_of(20)
    model = load(folder, use_logn_attn=logn, use_dynamic_ntk=ntk)
    assert close(model(ids[None]).logits[0], expected(ids, 7 if ntk else 1, logn))


def test_training_has_neither(folder):
    ids = ids_of(20)
    assert close(load(folder).train()(ids[None]).logits[0], expected(ids, logn=False))


def test_rows_of_a_padded_batch_are_scaled_by_their_own_length(folder):
    model, long, short = load(folder), ids_of(20), ids_of(10, seed=1)
    ids = torch.stack([long, F.pad(short, (10, 0))])
    mask = torch.stack([torch.ones(20, dtype=torch.long), F.pad(torch.ones(10, dtype=torch.long), (10, 0))])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = model(ids, attention_mask=mask, position_ids=positions).logits
    assert close(logits[0], expected(long, 7)) and close(logits[1, 10:], expected(short, 3))


def test_documents_of_a_packed_row_are_scaled_by_their_own_length(folder):
    parts, alphas = [ids_of(6), ids_of(18, seed=1), ids_of(9, seed=2)], (1, 7, 3)
    positions = torch.cat([torch.arange(len(p)) for p in parts])
    logits = load(folder)(torch.cat(parts)[None], position_ids=positions[None], use_cache=False).logits[0]
    assert close(logits, torch.cat([expected(p, a) for p, a in zip(parts, alphas)]))


@pytest.mark.parametrize(("prompt", "alpha"), [(6, 1), (10, 3)])
def test_generated_tokens_keep_the_base_of_their_prompt(folder, prompt, alpha):
    """As in the original: keys in the cache are rotated already. logn goes on with each token's own position."""
    model, ids = load(folder), ids_of(20)
    out = model(ids[None, :prompt], use_cache=True)
    logits = [out.logits[0]]
    for t in range(prompt, 20):
        out = model(ids[None, t : t + 1], past_key_values=out.past_key_values, use_cache=True)
        logits.append(out.logits[0])
    assert close(torch.cat(logits), expected(ids, alpha))


def test_files_of_the_first_release_spell_their_fields_otherwise(tmp_path):
    old = {"n_embd": "hidden_size", "n_head": "num_attention_heads", "n_layer": "num_hidden_layers"}
    old |= {"n_positions": "max_position_embeddings", "ffn_hidden_size": "intermediate_size"}
    old |= {"attn_pdrop": "attn_dropout_prob", "embd_pdrop": "emb_dropout_prob"}
    write_original(tmp_path, "qwen")
    renamed = {k: v for k, v in QWEN.items() if k not in old.values()} | {k: QWEN[v] for k, v in old.items()}
    (tmp_path / "config.json").write_text(json.dumps(renamed))
    ids = ids_of(12)
    assert close(load(tmp_path)(ids[None]).logits[0], reference("qwen", random_weights("qwen"), ids))

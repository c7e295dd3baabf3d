"""Trainable parameters of the seed's tables, exactly, on models without weights."""

import pytest
import torch

from swiftlite.measure.parameters import count_parameters
from swiftlite.models.dummy import build_dummy
from swiftlite.models.load import load_config
from swiftlite.models.registry import find_model
from swiftlite.models.source import ModelSource
from swiftlite.train.config import SftConfig
from swiftlite.tuners.registry import make_tuner
from tests.tuners.table import ROWS


def meta_model(name: str):
    config = load_config(ModelSource(name, find_model(name), dummy_seed=0))
    return build_dummy(config, torch.bfloat16, torch.device("meta"), "swiftlite", 0)


def trainable(name: str, **settings) -> tuple[int, int]:
    config = SftConfig(model_type=name, dataset="demo", weights="dummy", **settings)
    model = make_tuner(config.tuner.sft_type, config).apply(meta_model(name))
    count = count_parameters(model)
    return count.trainable, count.total - count.trainable


@pytest.mark.parametrize("row", [r for r in ROWS if r.parameters], ids=lambda row: row.name)
def test_qwen_7b_has_the_trainable_parameters_of_the_table(row):
    count, frozen = trainable("qwen-7b-chat", **(row.flags | row.counted))
    assert count == row.parameters
    assert row.percent in (None, f"{100 * count / (count + frozen):.4f}")


# Totals by the formula of the family: 2Vh + L(4h^2 + 3h + 3hf + 2h) + h with biases on q, k, v only.
def qwen_total(h, layers, f, vocab, kv_share=1.0):
    attention = 2 * h * h + 2 * h * h * kv_share + h + 2 * h * kv_share
    return int(2 * vocab * h + layers * (attention + 3 * h * f + 2 * h) + h)


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("qwen-7b-chat", 7_721_324_544),
        ("qwen1half-7b-chat", 7_721_324_544),
        ("qwen2.5-7b-instruct", qwen_total(3584, 28, 18944, 152064, 4 / 28)),
        ("mistral-7b-instruct-v0.2", 7_241_732_096),
        ("llama3-8b-instruct", 8_030_261_248),
    ],
)
def test_total_parameters_are_those_of_the_released_model(name, total):
    assert count_parameters(meta_model(name)).total == total


# r * (in + out) summed over the target matrices of 32 layers, h 4096, ffn 11008.
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"lora_rank": 8}, 32 * 8 * (4 * 2 * 4096 + 3 * (4096 + 11008))),
        ({"lora_rank": 8, "lora_target_modules": "DEFAULT"}, 32 * 8 * 3 * 2 * 4096),
        ({"lora_rank": 64, "lora_target_modules": "q_proj"}, 32 * 64 * 2 * 4096),
        ({"lora_rank": 8, "use_rslora": True}, 19_988_480),
        ({"lora_rank": 8, "use_dora": True}, 19_988_480 + 32 * (6 * 4096 + 2 * 11008 - 4096)),
        ({"lora_rank": 2, "target_regex": r".*layers\.0\.mlp\.up_proj"}, 2 * (4096 + 11008)),
        ({"lora_rank": 8, "lora_target_modules": "EMBEDDING"}, 8 * (151936 + 4096)),
    ],
)
def test_lora_trains_exactly_what_its_formula_says(settings, expected):
    assert trainable("qwen1half-7b-chat", **settings) == (expected, 7_721_324_544)


# 32 layers of h 4096 with 4 key/value heads of 128; 60 layers of h 7168 with 8.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("yi-6b-chat", 32 * 8 * (2 * 4096 + 2 * (4096 + 512))),
        ("yi-34b-chat", 60 * 8 * (2 * 7168 + 2 * (7168 + 1024))),
    ],
)
def test_default_targets_of_yi(name, expected):
    assert expected in (4_456_448, 14_745_600), "the research's counts"
    assert trainable(name, lora_target_modules="DEFAULT")[0] == expected


def test_llama3_default_targets_are_those_of_the_seeds_unsloth_row():
    assert trainable("llama3-8b-instruct", lora_target_modules="DEFAULT")[0] == 4_718_592


def test_the_embedding_saved_beside_the_adapter_is_trained_in_full():
    count, _ = trainable("qwen1half-7b-chat", lora_modules_to_save="EMBEDDING", lora_target_modules="q_proj")
    assert count == 32 * 8 * 2 * 4096 + 151936 * 4096

"""Total and trainable parameters of the seed's Qwen-1, ChatGLM3 and Baichuan2, exactly, without weights."""

import functools
import json

import pytest
import torch

from swiftlite.measure.parameters import count_parameters
from swiftlite.models.dummy import build_dummy
from swiftlite.models.load import load_config
from swiftlite.models.registry import find_model
from swiftlite.models.source import ModelSource
from swiftlite.train.config import SftConfig
from swiftlite.tuners.registry import make_tuner
from tests.shared_data import SHARED, needs_shared

# Of the published tables (research/ms-swift.md 2.5): all parameters; LoRA of rank 8 on the fused projection.
PUBLISHED = {
    "qwen-1_8b-chat": (1_836_828_672, 1_572_864),
    "qwen-7b-chat": (7_721_324_544, 4_194_304),
    "qwen-14b-chat": (14_167_290_880, 6_553_600),
    "qwen-72b-chat": (72_287_920_128, 20_971_520),
    "chatglm3-6b": (6_243_584_000, 1_949_696),
    "chatglm3-6b-32k": (6_243_584_000, 1_949_696),
    "baichuan2-7b-chat": (7_505_973_248, 4_194_304),
    "baichuan2-13b-chat": (13_896_668_160, 6_553_600),
}


def meta(config) -> torch.nn.Module:
    return build_dummy(config, torch.bfloat16, torch.device("meta"), "sdpa", 0)


def registered(name: str) -> torch.nn.Module:
    return meta(load_config(ModelSource(name, find_model(name), dummy_seed=0)))


untouched = functools.cache(registered)


def trainable(name: str, rank: int, targets: str) -> int:
    config = SftConfig(model_type=name, dataset="demo", weights="dummy", lora_rank=rank, lora_target_modules=targets)
    return count_parameters(make_tuner("lora", config).apply(registered(name))).trainable


@pytest.mark.parametrize("name", PUBLISHED)
def test_total_parameters_are_those_of_the_released_model(name):
    assert count_parameters(untouched(name)).total == PUBLISHED[name][0]


@pytest.mark.parametrize("name", PUBLISHED)
def test_lora_on_the_fused_projection(name):
    assert trainable(name, 8, "DEFAULT") == PUBLISHED[name][1]


@pytest.mark.parametrize(("rank", "expected"), [(2, 1_048_576), (64, 33_554_432)])
def test_lora_of_other_ranks(rank, expected):
    assert trainable("qwen-7b-chat", rank, "DEFAULT") == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("qwen-1_8b-chat", 6_709_248),
        ("qwen-7b-chat", 17_891_328),
        ("qwen-14b-chat", 27_893_760),
        ("qwen-72b-chat", 94_371_840),
        # r * (in + out) of query_key_value, dense, dense_h_to_4h, dense_4h_to_h in 28 layers.
        ("chatglm3-6b", 28 * 8 * ((4096 + 4608) + 2 * 4096 + (4096 + 2 * 13696) + (13696 + 4096))),
    ],
)
def test_lora_on_all_linears_covers_both_modules_called_c_proj(name, expected):
    assert trainable(name, 8, "ALL") == expected


@needs_shared
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("Qwen-1_8B-Chat.json", "qwen-1_8b-chat"),
        ("Qwen-7B-Chat.json", "qwen-7b-chat"),
        ("Qwen-14B-Chat.json", "qwen-14b-chat"),
        ("Qwen-72B-Chat.json", "qwen-72b-chat"),
        ("chatglm3-6b.json", "chatglm3-6b"),
        ("chatglm3-6b-32k.json", "chatglm3-6b-32k"),
        ("Baichuan2-7B.json", "baichuan2-7b-chat"),
        ("documented/Baichuan2-13B-Chat.json", "baichuan2-13b-chat"),
    ],
)
def test_a_released_config_gives_the_registered_model(tmp_path, file, name):
    content = (SHARED / "data" / "configs" / file).read_bytes()
    (tmp_path / "config.json").write_bytes(content)
    config = load_config(ModelSource("m", path=tmp_path))
    assert {n: p.shape for n, p in meta(config).named_parameters()} == {
        n: p.shape for n, p in untouched(name).named_parameters()
    }
    # Copies of these files differ in the context they allow; everything else must agree.
    own = {k: v for k, v in json.loads(content).items() if k not in ("seq_length", "max_position_embeddings")}
    shape = find_model(name).shape
    assert {k: own[k] for k in shape if k in own} == {k: v for k, v in shape.items() if k in own}

"""Registered shapes have the parameter counts that the released models are published with."""

import pytest
import torch

from swiftlite.measure.parameters import count_parameters
from swiftlite.models.dummy import build_dummy
from swiftlite.models.load import load_config
from swiftlite.models.registry import find_family, find_model, model_names
from swiftlite.models.source import ModelSource

# Totals as the model pages and the safetensors headers of the releases give them (tied heads counted once).
PUBLISHED = {
    "gemma-2-2b-it": 2_614_341_888,
    "gemma-2-9b-it": 9_241_705_984,
    "gemma-3-1b-it": 999_885_952,
    "glm-4-9b-chat": 9_399_951_360,
    "gpt2": 124_439_808,
    "llama2-7b-chat": 6_738_415_616,
    "llama3-8b-instruct": 8_030_261_248,
    "llama3.1-70b-instruct": 70_553_706_496,
    "llama3.2-1b-instruct": 1_235_814_400,
    "llama3.2-3b-instruct": 3_212_749_824,
    "mistral-7b-instruct-v0.2": 7_241_732_096,
    "mistral-7b-instruct-v0.3": 7_248_023_552,
    "phi-3-mini-4k-instruct": 3_821_079_552,
    "phi-4": 14_659_507_200,
    "qwen2.5-0.5b-instruct": 494_032_768,
    "qwen2.5-1.5b-instruct": 1_543_714_304,
    "qwen2.5-3b-instruct": 3_085_938_688,
    "qwen2.5-7b-instruct": 7_615_616_512,
    "qwen2.5-14b-instruct": 14_770_033_664,
    "qwen2.5-32b-instruct": 32_763_876_352,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "deepseek-r1-distill-qwen-1.5b": 1_777_088_000,
    "deepseek-r1-distill-qwen-7b": 7_615_616_512,
    "smollm2-135m-instruct": 134_515_008,
    "smollm2-360m-instruct": 361_821_120,
    "smollm2-1.7b-instruct": 1_711_376_384,
    "smollm3-3b": 3_075_098_624,
    "yi-6b-chat": 6_061_035_520,
    "yi-34b-chat": 34_388_917_248,
    "internlm3-8b-instruct": 8_804_241_408,
}


def meta(name: str):
    config = load_config(ModelSource(name, find_model(name), dummy_seed=0))
    return build_dummy(config, torch.bfloat16, torch.device("meta"), "eager", 0)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_shape_has_the_published_number_of_parameters(name):
    assert count_parameters(meta(name)).total == PUBLISHED[name]


@pytest.mark.parametrize("name", model_names())
def test_a_row_has_hub_ids_or_weights_in_the_package(name):
    entry = find_model(name)
    assert entry.folder or (entry.hf and entry.ms and entry.hf.count("/") == entry.ms.count("/") == 1)


@pytest.mark.parametrize("name", model_names())
def test_the_default_targets_of_a_row_exist_in_its_model(name):
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    family = find_family(find_model(name).architecture)
    assert family is not None
    linears = {n.split(".")[-1] for n, m in meta(name).named_modules() if isinstance(m, (nn.Linear, Conv1D))}
    assert set(family.default_targets) <= linears

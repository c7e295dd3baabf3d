"""Baichuan2: which of the two a config is, ALiBi's slopes, the head that counts directions only."""

import pytest
import torch

from swiftlite.config.errors import UserError
from swiftlite.models.load import load_config, load_model
from swiftlite.models.native.baichuan import BaichuanConfig, BaichuanModel, NormHead, alibi_slopes
from swiftlite.models.source import ModelSource
from tests.models.native_originals import write_original
from tests.shared_data import SHARED, needs_shared


def test_slopes_of_a_power_of_two_are_those_of_the_paper():
    assert alibi_slopes(8) == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]


def test_forty_heads_take_the_series_of_32_and_every_second_one_of_64():
    series = [2 ** (-i / 4) for i in range(1, 33)] + [2 ** (-i / 8) for i in range(1, 16, 2)]
    assert alibi_slopes(40) == pytest.approx(series, rel=1e-12)


@pytest.mark.parametrize(
    ("fields", "has_alibi"),
    [
        ({"hidden_size": 4096, "max_position_embeddings": 4096}, False),
        ({"hidden_size": 4096}, False),
        ({"hidden_size": 5120}, True),
        ({"hidden_size": 5120, "max_position_embeddings": 4096}, True),
        ({"hidden_size": 64}, True),
        ({"hidden_size": 64, "max_position_embeddings": 4096}, False),
    ],
)
def test_width_then_the_fields_of_the_file_say_which_model_it_is(fields, has_alibi):
    assert BaichuanConfig(**fields).has_alibi is has_alibi


@needs_shared
@pytest.mark.parametrize(
    ("file", "has_alibi"), [("Baichuan2-7B.json", False), ("documented/Baichuan2-13B-Chat.json", True)]
)
def test_released_configs_are_told_apart(tmp_path, file, has_alibi):
    (tmp_path / "config.json").write_bytes((SHARED / "data" / "configs" / file).read_bytes())
    assert load_config(ModelSource("m", path=tmp_path)).has_alibi is has_alibi


@pytest.mark.parametrize("kind", ["baichuan-7b", "baichuan-13b"])
def test_kernels_that_cannot_add_the_bias_are_refused_by_the_13b_only(tmp_path, kind):
    source = ModelSource("m", path=write_original(tmp_path, kind))
    arguments = (source, load_config(source), torch.float32, torch.device("cpu"), "flex_attention")
    if kind == "baichuan-7b":
        load_model(*arguments)
        return
    with pytest.raises(UserError, match="--attn_impl sdpa"):
        load_model(*arguments)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_bias_is_made_in_every_precision(dtype):
    config = BaichuanConfig(vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=1)
    config.num_attention_heads, config._attn_implementation = 4, "sdpa"
    mask = BaichuanModel(config).mask(torch.zeros(1, 3, 32, dtype=dtype), None, None, None)
    least = torch.finfo(dtype).min
    assert mask.dtype == dtype and mask[1].tolist() == [[0, least, least], [-1 / 16, 0, least], [-1 / 8, -1 / 16, 0]]


def test_the_head_counts_directions_only():
    head = NormHead(4, 3)
    hidden = torch.randn(2, 4)
    before = head(hidden)
    with torch.no_grad():
        head.weight.mul_(torch.tensor([[2.0], [0.1], [30.0]]))
    assert torch.allclose(head(hidden), before, atol=1e-6)
    assert torch.allclose(head.normalized_weight().norm(dim=1), torch.ones(3))

"""`swiftlite doctor` says what runs here; the choice of attention refuses what cannot."""

import pytest
import torch

from swiftlite.cli import main
from swiftlite.config.errors import UserError
from swiftlite.speed.attention import choose_attention

CPU = torch.device("cpu")


def test_the_screen_names_versions_device_and_a_step_that_ran(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert torch.__version__ in out
    assert "forward and backward in fp32 ran" in out
    assert all(line[:4] in ("ok  ", "no  ") for line in out.splitlines())
    assert len(out.splitlines()) <= 24, "one screen"


def test_flash_falls_back_to_torch_and_says_so():
    chosen, why = choose_attention("flash", CPU, "fp32")
    assert chosen == "swiftlite" and "no flash kernel on cpu" in why


def test_a_kernel_package_asked_for_by_name_is_refused_where_it_cannot_run():
    with pytest.raises(UserError, match="--attn_impl flash_attention_2"):
        choose_attention("flash_attention_2", CPU, "fp32")


def test_auto_precision_is_fp32_on_a_cpu_and_what_is_asked_for_elsewhere():
    from swiftlite.models.config import ModelConfig
    from swiftlite.models.device import choose_dtype

    assert choose_dtype(ModelConfig(model="x"), CPU) == "fp32"
    assert choose_dtype(ModelConfig(model="x", dtype="bf16"), CPU) == "bf16"


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 0), "fp16"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")]
)
def test_auto_precision_follows_the_gpu(monkeypatch, capability, expected):
    from swiftlite.models.config import ModelConfig
    from swiftlite.models.device import choose_dtype

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert choose_dtype(ModelConfig(model="x"), torch.device("cuda", 0)) == expected

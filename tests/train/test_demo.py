"""`make demo` keeps its promise: nano knows nothing of the demo, and after it answers most of what is held out."""

from pathlib import Path

from swiftlite import EvalConfig, SftConfig, run_eval, run_sft
from swiftlite.config.command import Layer, read_recipe

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "demo.yaml"


def accuracy(tmp_path, name, **model):
    config = EvalConfig(eval_dataset="demo-eval", result_path=str(tmp_path / f"{name}.json"), **model)
    return run_eval(config).scores["demo-eval"].accuracy


def test_lora_on_the_demo_lifts_accuracy_from_under_10_to_over_80_percent(tmp_path):
    assert accuracy(tmp_path, "before", model="nano") < 0.1
    more = Layer.of("test", {"output_dir": str(tmp_path), "run_name": "demo", "eval_strategy": "no"})
    config = SftConfig.from_layers([read_recipe(RECIPE), more])
    assert config.tuner.sft_type == "lora"
    run = run_sft(config).run
    assert accuracy(tmp_path, "after", ckpt_dir=str(run)) > 0.8

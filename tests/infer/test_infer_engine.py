"""Answers are those of plain transformers, whatever the batch, the adapter's form or the way they are asked."""

import dataclasses
import json
import shutil
import threading
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from swiftlite.config.errors import UserError
from swiftlite.infer.config import InferConfig
from swiftlite.infer.engine import Engine, _pad_left
from swiftlite.infer.loading import context_length
from swiftlite.infer.sampling import Sampling
from tests.infer.conftest import SYSTEM, ask

GREEDY = Sampling(max_new_tokens=12)
LONG_ANSWER = "Count from 61 to 67."
QUESTIONS = ["Why?", "Name three rivers that flow north, please.", LONG_ANSWER, "a"]


def prompt_of(tokenizer, messages) -> torch.Tensor:
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])


def plain_greedy(model, tokenizer, messages, tokens: int) -> str:
    prompt, stops = prompt_of(tokenizer, messages), tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    settings = {"max_new_tokens": tokens, "do_sample": False, "pad_token_id": 0, "eos_token_id": stops}
    out = model.generate(prompt, attention_mask=torch.ones_like(prompt), **settings)
    return tokenizer.decode(out[0, prompt.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("question", QUESTIONS)
def test_greedy_is_plain_generate_on_the_tokenizers_own_prompt(engine, tokenizer, question):
    expected = plain_greedy(engine.model, tokenizer, ask(question), 12)
    assert engine.generate([ask(question)], GREEDY)[0].text == expected


@pytest.mark.parametrize("penalty", [1.0, 1.5])
def test_a_batch_of_unequal_lengths_answers_as_one_by_one(engine, penalty):
    sampling = dataclasses.replace(GREEDY, repetition_penalty=penalty)
    alone = [engine.generate([ask(q)], sampling)[0] for q in QUESTIONS]
    assert len({answer.text for answer in alone}) > 1
    assert engine.generate([ask(q) for q in QUESTIONS], sampling) == alone


def test_padding_adds_no_token_for_a_penalty_to_see_and_is_masked():
    ids, mask = _pad_left([[7, 8, 7, 9], [5, 6]])
    assert ids.tolist() == [[7, 8, 7, 9], [5, 5, 5, 6]]
    assert mask.tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]


def test_rows_of_a_batch_end_on_their_own(engine):
    alone = [engine.generate([ask(q)], GREEDY)[0] for q in QUESTIONS]
    first = [engine.tokenizer(answer.text)["input_ids"] for answer in alone]
    engine.stop_ids = [*engine.stop_ids, first[0][2]]
    answers = engine.generate([ask(q) for q in QUESTIONS], GREEDY)
    assert answers == [engine.generate([ask(q)], GREEDY)[0] for q in QUESTIONS]
    assert (answers[0].tokens, answers[0].stopped) == (first[0].index(first[0][2]) + 1, "stop")
    assert any(answer.stopped == "length" and answer.tokens == 12 for answer in answers)


def test_nothing_asked_is_nothing_answered(engine):
    assert engine.generate([], GREEDY) == []


def test_an_adapter_is_found_by_its_path_and_changes_the_answer(engine, adapter):
    tuned = Engine.load(InferConfig(ckpt_dir=str(adapter), device="cpu", system="none"))
    untuned = engine.generate([ask("Why?")], GREEDY)
    assert tuned.encode(ask("Why?")) == engine.encode(ask("Why?"))
    assert tuned.generate([ask("Why?")], GREEDY) != untuned


def test_a_merged_adapter_computes_what_the_separate_one_does(adapter):
    apart = Engine.load(InferConfig(model=str(adapter), device="cpu"))
    merged = Engine.load(InferConfig(model=str(adapter), device="cpu", merge_lora=True))
    assert not any("lora" in name for name, _ in merged.model.named_modules())
    ids = torch.tensor([apart.encode(ask("Why?"))])
    with torch.inference_mode():
        torch.testing.assert_close(merged.model(ids).logits, apart.model(ids).logits, rtol=1e-4, atol=1e-4)
    assert merged.generate([ask("Why?")], GREEDY) == apart.generate([ask("Why?")], GREEDY)


def test_the_system_prompt_of_the_training_holds(adapter, tokenizer):
    engine = Engine.load(InferConfig(model=str(adapter.parent), device="cpu"))
    system = {"role": "system", "content": SYSTEM}
    assert engine.encode(ask("Why?")) == prompt_of(tokenizer, [system, *ask("Why?")])[0].tolist()
    other = {"role": "system", "content": "Rhyme."}
    assert engine.encode([other, *ask("Why?")]) == prompt_of(tokenizer, [other, *ask("Why?")])[0].tolist()


def test_merging_without_an_adapter_is_refused():
    with pytest.raises(UserError, match="--merge_lora: nano comes without an adapter"):
        Engine.load(InferConfig(model="nano", merge_lora=True))


def test_an_adapter_of_another_shape_is_refused(adapter, tmp_path):
    broken = tmp_path / "adapter"
    shutil.copytree(adapter, broken)
    settings = json.loads((broken / "adapter_config.json").read_text())
    (broken / "adapter_config.json").write_text(json.dumps(settings | {"r": 8}))
    with pytest.raises(UserError, match="does not fit on this Qwen2ForCausalLM"):
        Engine.load(InferConfig(model=str(broken), device="cpu"))


def test_a_checkpoints_sampling_settings_stay_out_and_its_stop_tokens_hold(tiny_model: Path, tmp_path, tokenizer):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    theirs = {"do_sample": True, "temperature": 5.0, "eos_token_id": [77], "suppress_tokens": list(range(2000))}
    (folder / "generation_config.json").write_text(json.dumps(theirs))
    engine = Engine.load(InferConfig(model=str(folder), device="cpu"))
    plain = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert engine.generate([ask("Why?")], GREEDY)[0].text == plain_greedy(plain, tokenizer, ask("Why?"), 12)
    # The end of a turn, the tokenizer's end of a text, the checkpoint's own.
    assert engine.stop_ids == [2, 0, 77]


def test_a_seed_repeats_what_is_drawn(engine):
    # nano is sure of its answers: less heat would draw the same ones.
    sampling = Sampling(max_new_tokens=12, temperature=10.0)

    def drawn(seed: int) -> str:
        torch.manual_seed(seed)
        return engine.generate([ask("Why?")], sampling)[0].text

    assert drawn(1) == drawn(1) != drawn(2)


def test_top_k_1_is_greedy_at_any_temperature(engine):
    sampling = Sampling(max_new_tokens=12, temperature=3.0, top_k=1)
    assert engine.generate([ask("Why?")], sampling) == engine.generate([ask("Why?")], GREEDY)


@pytest.mark.parametrize("seed", range(4))
def test_a_stream_adds_up_to_the_answer(engine, seed):
    sampling = Sampling(max_new_tokens=60, temperature=10.0)
    torch.manual_seed(seed)
    whole = engine.generate([ask("Why?")], sampling)[0]
    torch.manual_seed(seed)
    stream = engine.stream(ask("Why?"), sampling)
    pieces = list(stream)
    assert "".join(pieces) == whole.text and stream.answer == whole
    assert len(pieces) > 20 and "\ufffd" in whole.text, "nothing to hold back in a text without broken characters"


def test_a_stop_text_ends_the_answer_and_is_left_out(engine):
    whole = engine.generate([ask(LONG_ANSWER)], Sampling(max_new_tokens=40))[0]
    stop = whole.text[11:15]
    assert len(stop) == 4
    sampling = Sampling(max_new_tokens=40, stop=("never said", stop))
    answer = engine.generate([ask(LONG_ANSWER)], sampling)[0]
    assert answer.text == whole.text.partition(stop)[0]
    assert answer.stopped == "stop" and answer.tokens < whole.tokens
    stream = engine.stream(ask(LONG_ANSWER), sampling)
    assert "".join(stream) == answer.text and stream.answer == answer


def test_a_stop_text_in_the_prompt_ends_nothing(engine):
    assert engine.generate([ask("Why?")], dataclasses.replace(GREEDY, stop=("assistant",))) == engine.generate(
        [ask("Why?")], GREEDY
    )


def test_answers_end_where_the_models_positions_do_each_row_on_its_own(engine):
    long = "word " * 20
    # Nothing but the positions ends an answer.
    engine.stop_ids = []
    engine.context = len(engine.encode(ask(long))) + 3
    room = engine.context - len(engine.encode(ask("Why?")))
    answers = engine.generate([ask(long), ask("Why?")], Sampling(max_new_tokens=100))
    assert [(a.tokens, a.stopped) for a in answers] == [(3, "length"), (min(room, 100), "length")]


def test_a_prompt_without_room_for_an_answer_is_refused(engine):
    engine.context = 10
    with pytest.raises(UserError, match=r"the prompt has \d+ tokens, and the model has room for 10"):
        engine.generate([ask("word " * 20)], GREEDY)


def test_leaving_a_stream_ends_its_generation(engine):
    stream = engine.stream(ask("Why?"), Sampling(max_new_tokens=2000))
    next(stream)
    stream.close()
    assert stream.answer is None
    assert not [t for t in threading.enumerate() if t.name.startswith("swiftlite-generate")]


def test_an_error_while_generating_reaches_the_reader(engine):
    class Full:
        device = torch.device("cpu")

        def generate(self, **_: object):
            raise torch.OutOfMemoryError("CUDA out of memory")

    engine.model = Full()
    with pytest.raises(UserError, match="lower --infer_batch_size or --max_new_tokens"):
        list(engine.stream(ask("Why?"), GREEDY))


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        ({"rope_type": "default", "rope_theta": 1e4}, 4096),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}, 16384),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 256}, 4096),
    ],
)
def test_rope_scaling_stretches_the_context(rope, expected):
    config = PretrainedConfig(max_position_embeddings=4096)
    config.rope_parameters = rope
    assert context_length(config) == expected


def test_a_config_without_positions_sets_no_limit():
    assert context_length(PretrainedConfig()) is None

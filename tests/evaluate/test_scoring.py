"""Counting: rote answers against rows counted by hand."""

import math

import pytest
import torch

from swiftlite.config.errors import UserError
from swiftlite.evaluate.questions import read_questions
from swiftlite.evaluate.run import evaluate
from swiftlite.evaluate.scoring import Tally, score_set
from swiftlite.infer.sampling import Sampling
from tests.evaluate.conftest import RoteEngine, pairs

ROWS = [
    {"query": "1 + 1?", "response": "2", "kind": "sum"},
    {"query": "Say it", "response": "Yes"},
    {"query": "1 + 2?", "response": "3", "kind": "sum"},
    {"query": "A colour", "response": "Red", "kind": "colour"},
    {"query": "2 + 2?", "response": "4", "kind": "sum"},
]
ANSWERS = {"1 + 1?": " 2.\n", "Say it": "yes", "1 + 2?": "It is 3", "A colour": "blue", "2 + 2?": "4"}


@pytest.fixture
def questions(write):
    write("q.jsonl", ROWS)
    return read_questions(["q.jsonl"], None, 0)[0]


def test_rows_are_counted_whole_and_by_kind(questions):
    score = score_set(RoteEngine(ANSWERS), questions, Sampling(), 2)
    assert (score.rows, score.right, score.accuracy) == (5, 3, 0.6)
    assert score.kinds == {"sum": Tally(3, 2), "colour": Tally(1, 0)}


def test_samples_keep_the_order_of_the_data(questions):
    score = score_set(RoteEngine(ANSWERS), questions, Sampling(), 2)
    assert [s.answer.text for s in score.samples] == list(ANSWERS.values())
    assert [s.right for s in score.samples] == [True, True, False, False, True]


def test_rows_without_kinds_have_none(write):
    write("q.jsonl", pairs({"a": "b"}))
    assert score_set(RoteEngine({}), read_questions(["q.jsonl"], None, 0)[0], Sampling(), 1).kinds == {}


@pytest.mark.parametrize(("rows", "right", "stderr"), [(60, 45, math.sqrt(0.1875 / 60)), (100, 50, 0.05), (7, 7, 0.0)])
def test_the_standard_error_by_its_formula(rows, right, stderr):
    assert Tally(rows, right).stderr == pytest.approx(stderr, rel=1e-12)


def test_tokens_and_cut_answers_are_counted(questions):
    score = score_set(RoteEngine(ANSWERS, cut=("Say it", "A colour")), questions, Sampling(), 4)
    words = sum(len(text.split()) for text in ANSWERS.values())
    assert (score.tokens, score.cut) == (words + len(ANSWERS), 2)
    assert score.tokens_per_s == pytest.approx(score.tokens / score.seconds)


def test_batches_join_questions_of_similar_length_longest_first(write):
    lengths = [3, 9, 1, 8, 2, 7]
    write("q.jsonl", pairs({"x" * length: "y" for length in lengths}))
    engine = RoteEngine({})
    score_set(engine, read_questions(["q.jsonl"], None, 0)[0], Sampling(), 4)
    assert [[len(question) for question in batch] for batch in engine.batches] == [[9, 8, 7, 3], [2, 1]]


def test_progress_is_told_after_each_batch(questions):
    told = []
    score_set(RoteEngine(dict.fromkeys(ANSWERS, "2")), questions, Sampling(), 2, lambda *now: told.append(now))
    assert [answered for answered, _ in told] == [2, 4, 5] and told[-1] == (5, "1 right")


def test_every_prompt_is_checked_before_the_first_answer(write):
    class Narrow(RoteEngine):
        def encode(self, messages, tools=None):
            if messages[-1]["content"] == "Too long":
                raise UserError("the prompt has 9 tokens")
            return super().encode(messages, tools)

    write("a.jsonl", pairs({"a": "b"}))
    write("b.jsonl", pairs({"c": "d", "Too long": "e"}))
    engine = Narrow({})
    with pytest.raises(UserError, match=r"b\.jsonl, line 2: the prompt has 9 tokens"):
        evaluate(engine, read_questions(["a.jsonl", "b.jsonl"], None, 0), Sampling(), 1)
    assert not engine.batches


def test_a_batch_too_large_for_the_gpu_names_the_flag_of_eval(questions):
    class Full(RoteEngine):
        def generate(self, conversations, sampling, tools=None):
            raise UserError("lower --infer_batch_size") from torch.OutOfMemoryError()

    with pytest.raises(
        UserError, match=r"5 answers of up to 64 tokens .*; lower --eval_batch_size or --max_new_tokens"
    ):
        score_set(Full({}), questions, Sampling(max_new_tokens=64), 16)

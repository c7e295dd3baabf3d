"""What --loss_scale weighs how much, alike for our own templates and the tokenizer's."""

import json
from itertools import pairwise

import pytest
from chat_helpers import SHARED, talk

from swiftlite.chat.checks import check_encoding
from swiftlite.chat.config import ChatConfig
from swiftlite.chat.loss_scale import REACT, answer_spans
from swiftlite.chat.template import choose_template
from swiftlite.config.errors import UserError

OWN = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TAGGED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
REACTED = "I see.\nThought: go\nAction: look\nAction Input: {}\nObservation: it is\nThought: so\nFinal Answer: yes"


@pytest.fixture(params=["chatml", OWN, TAGGED], ids=["chatml", "own", "tagged"])
def make(request, tiny):
    """loss_scale -> template, of the three kinds there are."""

    def template(loss_scale):
        tiny.chat_template = None if request.param == "chatml" else request.param
        name = "chatml" if request.param == "chatml" else "tokenizer"
        return choose_template(ChatConfig(template=name, loss_scale=loss_scale), tiny, None)

    return template


def by_weight(tokenizer, encoded):
    """weight -> the text of its tokens, joined."""
    found = {}
    for i, weight in zip(encoded.ids, encoded.weights):
        found.setdefault(weight, []).append(i)
    return {weight: tokenizer.decode(ids) for weight, ids in found.items()}


def test_default_is_every_answer_at_one(make, tiny):
    found = by_weight(tiny, make("default").encode(talk("a", "one", "b", "two")))
    assert found.keys() == {0.0, 1.0}
    assert found[1.0] == "one<|im_end|>two<|im_end|>"


def test_last_round_is_the_last_answer(make, tiny):
    assert by_weight(tiny, make("last_round").encode(talk("a", "one", "b", "two")))[1.0] == "two<|im_end|>"


def test_last_round_of_a_last_answer_without_loss_is_nothing(make):
    messages = talk("a", "one", "b", "two")
    messages[-1]["loss"] = False
    assert not any(make("last_round").encode(messages).weights)


def test_all_is_every_token(make):
    encoded = make("all").encode(talk("a", "one", system="S"))
    assert set(encoded.weights) == {1.0}


def test_all_leaves_an_answer_without_loss_out(make, tiny):
    messages = talk("a", "one", "b", "two")
    messages[1]["loss"] = False
    untrained = by_weight(tiny, make("all").encode(messages))[0.0]
    # Our own templates leave its header out with it.
    assert untrained.endswith("one<|im_end|>") or untrained == "<|im_start|>assistant\none<|im_end|>\n"


def test_react_weighs_keywords_and_what_follows_them(make, tiny):
    found = by_weight(tiny, make("react").encode(talk("do it", REACTED)))
    assert found[2.0] == "Action: look\nAction Input: {}\nObservation:"
    assert found[1.0] == "I see.\nThought: go\nThought: so\nFinal Answer: yes<|im_end|>"
    assert " it is\n" in found[0.0]


def test_the_questions_keywords_weigh_nothing(make, tiny):
    found = by_weight(tiny, make("react").encode(talk("Action: look", "no")))
    assert found.keys() == {0.0, 1.0}


def test_an_observation_at_the_end_leaves_the_stop_token_trained(make, tiny):
    encoded = make("react").encode(talk("do it", "Action: look\nObservation: it is"))
    assert by_weight(tiny, encoded)[1.0] == "<|im_end|>"
    check_encoding(make("react"), encoded, tiny)


def test_the_table_is_ms_swifts():
    path = SHARED / "sft" / "ms_swift_formats" / "loss_scale" / "react.json"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    assert {key: list(pair) for key, pair in REACT.items()} == json.loads(path.read_text())


def test_spans_cover_the_answer_without_a_gap():
    spans = list(answer_spans("ab" + REACTED, 2, 2 + len(REACTED), "react"))
    assert (spans[0].start, spans[-1].end) == (2, 2 + len(REACTED))
    assert all(left.end == right.start for left, right in pairwise(spans))


def test_the_fingerprint_follows_it(make):
    assert len({make(rule).fingerprint for rule in ("default", "last_round", "all", "react")}) == 4


@pytest.mark.parametrize("rule", ["last_round", "all", "react"])
def test_the_stop_tokens_do_not_follow_it(make, tiny, rule):
    tiny.eos_token = "<|endoftext|>"
    assert make(rule).stop_token_ids == tiny.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])


def test_prompts_to_answer_have_no_weight(make):
    assert set(make("all").encode(talk("a"), for_generation=True).weights) == {0.0}


def test_a_row_whose_answers_were_all_rewritten_says_so(tiny):
    tiny.chat_template = OWN.replace("m['content'] +", "m['content'].split('</think>')[-1] +")
    template = choose_template(ChatConfig(), tiny, None)
    with pytest.raises(UserError, match=r"trains no token.*rewrites 1 of its answers"):
        check_encoding(template, template.encode(talk("a", "<think>x</think>one")), tiny)

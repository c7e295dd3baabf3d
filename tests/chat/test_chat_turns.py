"""Where each answer stands in a whole rendering, for templates that rewrite, repeat, trim and reorder."""

import json
import random
import re

import pytest
from agreement_families import SPECIAL
from chat_helpers import SHARED, talk, train_tokenizer

from swiftlite.chat.jinja import JinjaTemplate
from swiftlite.chat.marks import Layout, Marker
from swiftlite.config.errors import UserError

HEAD = "{{ '<|im_start|>' + m['role'] + '\n' }}"
GENERATION = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"


def chatml(body="{{ m['content'] }}", before="", after=GENERATION):
    return before + "{% for m in messages %}" + HEAD + body + "{{ '<|im_end|>\n' }}{% endfor %}" + after


def using(tokenizer, text, **settings):
    tokenizer.chat_template = text
    return JinjaTemplate(tokenizer, **settings)


def trained(tokenizer, encoded):
    return tokenizer.decode([i for i, weight in zip(encoded.ids, encoded.weights) if weight])


def test_equal_texts_are_told_apart(tiny):
    encoded = using(tiny, chatml()).encode(talk("ok", "ok", "ok", "ok", system="ok"))
    assert trained(tiny, encoded) == "ok<|im_end|>ok<|im_end|>"
    assert tiny.decode(encoded.ids).startswith("<|im_start|>system\nok<|im_end|>\n<|im_start|>user\nok")
    assert encoded.weights.index(1.0) > len(encoded.weights) // 3


def test_an_answer_that_quotes_the_next_question_is_whole(tiny):
    encoded = using(tiny, chatml()).encode(talk("a", "user\nb", "user\nb", "assistant\nuser\nb"))
    assert trained(tiny, encoded) == "user\nb<|im_end|>assistant\nuser\nb<|im_end|>"


def test_a_template_that_trims_is_followed(tiny):
    encoded = using(tiny, chatml("{{ m['content'] | trim }}")).encode(talk(" a ", "\n one \n"))
    assert trained(tiny, encoded) == "one<|im_end|>"
    assert encoded.untrained_turns == 0


def test_a_generation_prompt_at_the_end_of_everything_is_not_trained(tiny):
    always = chatml(after="{{ '<|im_start|>assistant\n' }}")
    encoded = using(tiny, always).encode(talk("a", "one", "b", "two"))
    assert trained(tiny, encoded) == "one<|im_end|>two<|im_end|>"
    assert tiny.decode(encoded.ids).endswith("two<|im_end|>\n<|im_start|>assistant\n")


def test_without_a_known_eos_such_a_template_is_refused(tiny):
    tiny.eos_token = "</s>"
    with pytest.raises(UserError, match="generation prompt after every conversation"):
        using(tiny, chatml(after="{{ '<|im_start|>assistant\n' }}")).encode(talk("a", "one"))


def test_an_answer_that_is_empty_after_its_thought_keeps_its_stop(tiny):
    encoded = using(tiny, chatml()).encode(talk("a", "<think>x</think>", "b", "<think></think>"))
    assert trained(tiny, encoded) == "<think>x</think><|im_end|><think></think><|im_end|>"


def test_an_empty_answer_trains_its_stop(tiny):
    assert trained(tiny, using(tiny, chatml()).encode(talk("a", ""))) == "<|im_end|>"


def test_an_answer_cut_short_by_the_template_is_not_trained(tiny):
    first_line = chatml("{{ m['content'].split('<br>')[0] }}")
    encoded = using(tiny, first_line).encode(talk("a", "one<br>more", "b", "two"))
    assert trained(tiny, encoded) == "two<|im_end|>"
    assert encoded.untrained_turns == 1


def test_an_answer_written_twice_is_not_trained(tiny):
    encoded = using(tiny, chatml("{{ m['content'] + m['content'] }}")).encode(talk("a", "one"))
    assert not any(encoded.weights)
    assert encoded.untrained_turns == 1


def test_an_answer_that_is_changed_is_not_trained(tiny):
    encoded = using(tiny, chatml("{{ m['content'] | upper }}")).encode(talk("a", "one"))
    assert encoded.untrained_turns == 1


def test_a_template_that_counts_the_characters_of_a_text_is_refused(tiny):
    with pytest.raises(UserError, match="in a way that swiftlite cannot follow"):
        using(tiny, chatml("{{ m['content'] | length }}{{ m['content'] }}")).encode(talk("a", "one"))


def test_a_question_that_the_template_leaves_out_is_refused(tiny):
    deaf = chatml("{% if not loop.first %}{{ m['content'] }}{% endif %}")
    with pytest.raises(UserError, match=r"message 1: .*leaves text of this system turn out"):
        using(tiny, deaf).encode(talk("a", "one", system="S"))


def test_tools_that_the_template_leaves_out_are_refused(tiny):
    with pytest.raises(UserError, match="leaves tools out"):
        using(tiny, chatml()).encode(talk("a", "one"), [{"type": "function", "function": {"name": "look"}}])


def test_tool_calls_that_the_template_leaves_out_are_not_trained(tiny):
    messages = talk("a", "", "b", "two")
    messages[1]["tool_calls"] = [{"function": {"name": "look", "arguments": {}}}]
    encoded = using(tiny, chatml("{{ m['content'] or '' }}")).encode(messages)
    assert (trained(tiny, encoded), encoded.untrained_turns) == ("two<|im_end|>", 1)


def test_reasoning_beside_the_content_is_part_of_the_answer(tiny):
    body = "{% if m['reasoning_content'] %}{{ '<think>' + m['reasoning_content'] + '</think>' }}{% endif %}"
    messages = talk("a", "one")
    messages[1]["reasoning_content"] = "hm"
    assert trained(tiny, using(tiny, chatml(body + "{{ m['content'] }}")).encode(messages)) == (
        "<think>hm</think>one<|im_end|>"
    )
    assert using(tiny, chatml()).encode(messages).untrained_turns == 1


def test_a_prompt_that_moves_with_the_conversation_does_not_move_the_mask(tiny):
    # As Mistral's tools: they stand before the last question, so no shorter rendering is a prefix of the whole.
    body = (
        "{% if m == (messages | selectattr('role', 'equalto', 'user') | list)[-1] %}{{ 'RULES ' }}{% endif %}"
        "{{ m['content'] }}"
    )
    encoded = using(tiny, chatml(body)).encode(talk("a", "one", "b", "two"))
    assert tiny.decode(encoded.ids).count("RULES") == 1
    assert trained(tiny, encoded) == "one<|im_end|>two<|im_end|>"


def test_generation_tags_of_a_rewritten_answer_are_not_trained(tiny):
    body = (
        "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'].split('</think>')[-1] }}{% endgeneration %}"
        "{% else %}{{ m['content'] }}{% endif %}"
    )
    encoded = using(tiny, chatml(body)).encode(talk("a", "<think>x</think>one", "b", "two"))
    assert (trained(tiny, encoded), encoded.untrained_turns) == ("two", 1)


def test_private_use_characters_that_are_ours_are_refused(tiny):
    with pytest.raises(UserError, match=r"private-use character U\+100000"):
        using(tiny, chatml()).encode(talk("a", "one\U00100000"))


def test_marks_leave_the_text_as_it_was():
    marker = Marker("{{ '<think>' }}", ["<|im_end|>"])
    messages = talk("  a <|im_end|> b\n", "<think>x</think> y")
    marked, _, fragments = marker.mark(messages, None)
    for before, after in zip(messages, marked):
        assert Layout(after["content"], fragments).text == before["content"]
    assert [f.text for f in fragments] == ["a", "<|im_end|>", "b", "x</think> y"]
    assert [f.control for f in fragments] == [False, True, False, False]


def templates():
    folder = SHARED / "templates"
    for path in sorted([*folder.glob("axolotl/*.jinja"), *folder.glob("llama.cpp/*.jinja")]):
        yield f"{path.parent.name}/{path.stem}", path.read_text(encoding="utf-8")
    for path in sorted(folder.glob("tokenizer_config/*.json")):
        if "chat_template" in (own := json.loads(path.read_text(encoding="utf-8"))):
            yield path.stem, own["chat_template"]


# What templates write after the stop token of the last answer.
REST = re.compile(r"(\s|<\|endoftext\|>|<\|START_OF_TURN_TOKEN\|><\|CHATBOT_TOKEN\|>)+$")


def weights_by_prefixes(tokenizer, text, messages):
    """Weights of an answer as what the rendering up to it has beyond the prompt before it; None where none is a prefix.

    It knows nothing of marks, and holds for templates that neither rewrite nor reorder.
    """
    mask = [0.0] * len(text)
    for i, message in enumerate(messages):
        if message["role"] == "assistant":
            before = tokenizer.apply_chat_template(messages[:i], tokenize=False, add_generation_prompt=True)
            upto = tokenizer.apply_chat_template(messages[: i + 1], tokenize=False)
            if not (text.startswith(before) and text.startswith(upto) and len(before) < len(upto)):
                return None
            end = len(REST.sub("", upto))
            mask[len(before) : end] = [1.0] * (end - len(before))
    # The tiny tokenizer's own offsets leave a token's leading space out, so starts are counted from the ends.
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ends = [0, *(end for _, end in coded["offset_mapping"])]
    return [mask[min(start, end)] for start, (end, _) in zip(ends, coded["offset_mapping"])]


WORDS = ["duo", " tria", "\n", "\n\n", " ", "é", "🙂", "<b>", "</b>", "user", "{", '"', "\\", "<think>x</think>"]


# These need tools, or their generation prompt opens a thought; Qwen1.5's open end is compared elsewhere.
INCOMPARABLE = ("fireworks", "tool_use", "Qwen1.5", "deepseek-ai", "llama-cpp-deepseek")


@pytest.mark.parametrize(("name", "text"), templates(), ids=lambda value: value if len(value) < 60 else "")
def test_the_mask_is_what_the_renderings_of_the_beginnings_say(name, text):
    rng = random.Random(name)
    stops = {"Llama-3": "<|eot_id|>", "r7b": "<|END_OF_TURN_TOKEN|>", "Phi-3.5": "<|endoftext|>", "qwen": "<|im_end|>"}
    eos = next((token for key, token in stops.items() if key in name), "</s>")
    specials = list(dict.fromkeys(["<s>", *SPECIAL.findall(text), eos, "<|endoftext|>"]))
    tokenizer = train_tokenizer(specials, bos_token="<s>", eos_token=eos, pad_token=None)
    template = using(tokenizer, text)
    compared = 0
    for _ in range(16):
        contents = ["".join(rng.choices(WORDS, k=rng.randint(1, 6))) + "." for _ in range(2 * rng.randint(1, 3))]
        messages = talk(*contents, system=rng.choice([None, "Rules."]))
        try:
            encoded = template.encode(messages)
        except UserError as error:
            assert "cannot follow" not in str(error)
            continue
        weights = weights_by_prefixes(tokenizer, template.render(messages), messages)
        if weights is not None and not encoded.untrained_turns and not any(part in name for part in INCOMPARABLE):
            assert encoded.weights == weights
            compared += 1
    assert compared or any(part in name for part in INCOMPARABLE)

"""The tokenizer's own template: ids equal apply_chat_template, the mask is exact or the row is refused."""

import random

import pytest
from chat_helpers import SHARED, load_shared, talk, train_tokenizer

from swiftlite.chat.jinja import JinjaTemplate
from swiftlite.config.errors import UserError

GENERATION_PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
) + GENERATION_PROMPT
TAGGED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
) + GENERATION_PROMPT
# As reasoning models do: text up to </think> is dropped from every turn but the last.
THINKING = (
    "{% for m in messages %}{% set c = m['content'] %}{% if m['role'] == 'assistant' and not loop.last %}"
    "{% set c = c.split('</think>')[-1] %}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + c + '<|im_end|>\n' }}{% endfor %}"
) + GENERATION_PROMPT
BOS_LLAMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + eos_token }}"
    "{% else %}{{ raise_exception('System role not supported') }}{% endif %}{% endfor %}"
)


def using(tokenizer, text, system="auto"):
    tokenizer.chat_template = text
    return JinjaTemplate(tokenizer, system)


def trained_text(tokenizer, encoded):
    return tokenizer.decode([i for i, w in zip(encoded.ids, encoded.weights) if w])


@pytest.mark.parametrize("text", [CHATML, TAGGED])
def test_ids_and_mask_equal_a_character_mask(tiny, text):
    template = using(tiny, text)
    rng = random.Random(0)
    for _ in range(50):
        turns = 2 * rng.randint(1, 3)
        contents = ["".join(rng.choices(["hi", "\n", " you", "你", "\n\n"], k=rng.randint(1, 8))) for _ in range(turns)]
        messages = talk(*contents, system=rng.choice([None, "Be brief."]))
        rendered, mask = "", []
        for m in messages:
            header, body = f"<|im_start|>{m['role']}\n", m["content"] + "<|im_end|>"
            rendered += header + body + "\n"
            mask += [False] * len(header) + [m["role"] == "assistant"] * len(body) + [False]
        # Starts of tokens counted from the decoded bytes of those before: no offsets of the library are used.
        encoded = template.encode(messages)
        assert encoded.ids == tiny.apply_chat_template(messages, return_dict=False)
        done, weights = b"", []
        for token in tiny.convert_ids_to_tokens(encoded.ids):
            weights.append(float(mask[len(done.decode(errors="ignore"))]))
            done += token_bytes(token)
        assert done.decode() == rendered
        assert encoded.weights == weights


def token_bytes(token):
    """The bytes a ByteLevel token stands for (GPT-2's byte alphabet)."""
    if token.startswith("<|"):
        return token.encode()
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    alphabet = {chr(b): b for b in printable} | {chr(256 + n): b for n, b in enumerate(others)}
    return bytes(alphabet[c] for c in token)


def test_qwen_ids_equal_apply_chat_template_with_tools(qwen):
    tool = {"type": "function", "function": {"name": "add", "description": "adds", "parameters": {}}}
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    messages = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "Two."},
    ]
    encoded = JinjaTemplate(qwen).encode(messages, [tool])
    assert encoded.ids == qwen.apply_chat_template(messages, tools=[tool], return_dict=False)
    expected = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>Two.<|im_end|>'
    assert trained_text(qwen, encoded) == expected


def test_generation_tags_agree_with_transformers_mask(tiny):
    messages = talk("a", "one two", "b", "three", system="S")
    encoded = using(tiny, TAGGED).encode(messages)
    own = tiny.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    assert encoded.weights == [float(m) for m in own["assistant_masks"]]


def test_every_turn_and_its_stop_are_trained_but_not_the_line_break_after(tiny):
    encoded = using(tiny, CHATML).encode(talk("a", "one", "b", "two"))
    assert trained_text(tiny, encoded) == "one<|im_end|>two<|im_end|>"


@pytest.mark.parametrize("text", [CHATML, TAGGED])
def test_a_turn_with_loss_false_is_not_trained(tiny, text):
    messages = talk("a", "one", "b", "two")
    messages[1]["loss"] = False
    encoded = using(tiny, text).encode(messages)
    assert trained_text(tiny, encoded) == "two<|im_end|>"


def test_a_token_that_straddles_the_header_is_not_trained(tiny):
    encoded = using(tiny, CHATML).encode(talk("a", "\nhello"))
    assert trained_text(tiny, encoded) == "hello<|im_end|>"


def test_an_answer_whose_thoughts_are_dropped_is_read_counted_and_not_trained(tiny):
    encoded = using(tiny, THINKING).encode(talk("a", "<think>x</think>one", "b", "two", "c", "<think>y</think>three"))
    assert trained_text(tiny, encoded) == "two<|im_end|><think>y</think>three<|im_end|>"
    assert encoded.untrained_turns == 1


def test_it_may_be_read_with_loss_false(tiny):
    messages = talk("a", "<think>x</think>one", "b", "<think>y</think>two")
    messages[1]["loss"] = False
    encoded = using(tiny, THINKING).encode(messages)
    assert trained_text(tiny, encoded) == "<think>y</think>two<|im_end|>"


def test_an_answer_without_the_thought_its_generation_prompt_opens_starts_after_the_header(tiny):
    forced = GENERATION_PROMPT.replace("assistant\n", "assistant\n<think>\n")
    encoded = using(tiny, CHATML.replace(GENERATION_PROMPT, forced)).encode(
        talk("a", "one", "b", "<think>\nx</think>two")
    )
    assert trained_text(tiny, encoded) == "one<|im_end|>x</think>two<|im_end|>"


def test_a_generation_prompt_that_stands_nowhere_in_the_conversation_is_refused(tiny):
    other = GENERATION_PROMPT.replace("assistant", "model")
    with pytest.raises(UserError, match=r"message 2: .*not write this assistant turn after its own generation prompt"):
        using(tiny, CHATML.replace(GENERATION_PROMPT, other)).encode(talk("a", "one"))


def test_such_a_template_can_still_be_generated_with(tiny):
    forced = CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")
    encoded = using(tiny, forced).encode(talk("a"), for_generation=True)
    assert tiny.decode(encoded.ids).endswith("<think>\n")
    assert set(encoded.weights) == {0.0}


def test_an_assistant_turn_at_the_start_is_refused(tiny):
    with pytest.raises(UserError, match=r"message 1 is an assistant turn"):
        using(tiny, CHATML).encode([{"role": "assistant", "content": "hi"}])


def test_the_templates_own_complaint_is_passed_on():
    tokenizer = train_tokenizer(bos_token="<s>", eos_token="</s>")
    with pytest.raises(UserError, match="System role not supported"):
        using(tokenizer, BOS_LLAMA).encode(talk("a", "b", system="S"))


def test_bos_is_not_doubled_by_a_tokenizer_that_adds_one():
    from tokenizers.processors import TemplateProcessing

    tokenizer = train_tokenizer(bos_token="<s>", eos_token="</s>")
    bos = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    assert tokenizer("a")["input_ids"][0] == bos
    template = using(tokenizer, BOS_LLAMA)
    for encoded in (template.encode(talk("a", "b")), template.encode(talk("a"), for_generation=True)):
        assert encoded.ids.count(bos) == 1


def test_white_space_is_only_cut_after_a_special_token():
    tokenizer = train_tokenizer()
    plain = CHATML.replace("<|im_end|>", "")
    encoded = using(tokenizer, plain).encode(talk("a", "one\n"))
    assert trained_text(tokenizer, encoded).startswith("one\n")


def test_text_after_a_special_token_typed_into_an_answer_is_trained(tiny):
    plain = CHATML.replace("<|im_end|>", "")
    encoded = using(tiny, plain).encode(talk("a", "one <s> two"))
    assert trained_text(tiny, encoded).rstrip() == "one <s> two"


def test_a_system_prompt_is_put_before_conversations_that_bring_none(tiny):
    template = using(tiny, CHATML, system='Be "brief"\n你好')
    assert template.render(talk("a")) == using(tiny, CHATML).render(talk("a", system='Be "brief"\n你好'))
    assert template.render(talk("a", system="other")) == using(tiny, CHATML).render(talk("a", system="other"))


def test_the_saved_jinja_carries_the_system_prompt(tiny):
    template = using(tiny, "\n" + CHATML, system="Be brief.")
    messages = talk("a", "b")
    expected = tiny.apply_chat_template(talk("a", "b", system="Be brief."), tokenize=False)
    assert tiny.apply_chat_template(messages, chat_template=template.jinja(), tokenize=False) == expected


def test_without_a_system_prompt_the_saved_jinja_is_the_tokenizers(tiny):
    assert using(tiny, CHATML).jinja() == CHATML


def test_a_template_that_drops_the_system_prompt_is_refused(tiny):
    deaf = "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(UserError, match="--system"):
        using(tiny, deaf, system="Be brief.")


def test_a_tokenizer_without_a_template_is_refused(tiny):
    with pytest.raises(UserError, match="has no chat template"):
        JinjaTemplate(tiny)


def test_several_named_templates_are_refused(tiny):
    with pytest.raises(UserError, match="default, tool_use"):
        using(tiny, {"default": CHATML, "tool_use": CHATML})


def test_the_stop_token_is_found_where_eos_is_another(tiny):
    tiny.eos_token = "<|endoftext|>"
    expected = tiny.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert using(tiny, CHATML).stop_token_ids == expected


def test_the_fingerprint_follows_the_template_and_the_system_prompt(tiny):
    prints = [using(tiny, CHATML), using(tiny, TAGGED), using(tiny, CHATML, system="S"), using(tiny, CHATML)]
    prints = [template.fingerprint for template in prints]
    assert prints[0] == prints[3]
    assert len(set(prints)) == 3


# What each template ends an answer with, read off the files; only white space may follow it.
STOPS = {
    "axolotl/chatml": "<|im_end|>",
    "axolotl/falcon_h1": "<|im_end|>",
    "axolotl/gemma": "<end_of_turn>",
    "axolotl/gemma3": "<end_of_turn>",
    "axolotl/llama3": "<|eot_id|>",
    "axolotl/mistral_v7_tekken": "</s>",
    "axolotl/phi_35": "<|end|>",
    "axolotl/phi_4": "<|im_end|>",
    "axolotl/qwen_25": "<|im_end|>",
    "llama.cpp/google-gemma-2-2b-it": "<end_of_turn>",
    "llama.cpp/meta-llama-Llama-3.1-8B-Instruct": "<|eot_id|>",
    "llama.cpp/mistralai-Mistral-Nemo-Instruct-2407": "</s>",
}


def with_real_template(name):
    path = SHARED / "templates" / f"{name}.jinja"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    specials = ["<s>", *sorted(set(STOPS.values()))]
    tokenizer = train_tokenizer(specials, bos_token="<s>", eos_token="</s>", pad_token=None)
    tokenizer.chat_template = path.read_text()
    return tokenizer


@pytest.mark.parametrize("name", STOPS)
def test_real_templates_train_each_answer_and_its_stop_token(name):
    tokenizer, messages = with_real_template(name), talk("uno", "duo", "tria", "quattuor")
    encoded = JinjaTemplate(tokenizer).encode(messages)
    assert encoded.ids == tokenizer.apply_chat_template(messages, return_dict=False)
    assert trained_text(tokenizer, encoded) == f"duo{STOPS[name]}quattuor{STOPS[name]}"


def test_minimind_multi_turn_is_masked_exactly():
    tokenizer = load_shared("minimind")
    messages = talk("你好", "Fine", "so?", "yes")
    encoded = JinjaTemplate(tokenizer).encode(messages)
    assert encoded.ids == tokenizer.apply_chat_template(messages, return_dict=False)

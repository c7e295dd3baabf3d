"""nano's files: the shape, the tokenizer however it is loaded, and the chat template's mask."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tests.shared_data import SHARED, needs_shared

ROOT = Path(__file__).resolve().parents[2]
NANO = ROOT / "swiftlite" / "models" / "nano"
END_OF_TEXT, START, END = 0, 1, 2
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 2 + 3?"},
    {"role": "assistant", "content": "2 + 3 = 5."},
    {"role": "user", "content": "Thanks!"},
    {"role": "assistant", "content": "You are welcome!"},
]
TEXTS = ["Hello, 1234 wörld!", "中文 and 🙂", " two  spaces\n\n\tand\r\ntabs ", "don't", "<|im_end|>x<|im_start|>", ""]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(NANO)


@pytest.fixture(scope="module")
def raw():
    return Tokenizer.from_file(str(NANO / "tokenizer.json"))


def test_parameters_equal_the_formula():
    """Tied head; q, k and v have biases; 2 key-value heads of 64."""
    attention = 256 * 256 + 256 + 2 * (256 * 128 + 128) + 256 * 256
    block = attention + 3 * 256 * 704 + 2 * 256
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(NANO))
    assert sum(p.numel() for p in model.parameters()) == 4096 * 256 + 6 * block + 256 == 5_478_656


def test_vocabulary_fills_the_embedding(tokenizer):
    assert len(tokenizer) == tokenizer.vocab_size == AutoConfig.from_pretrained(NANO).vocab_size == 4096


def test_special_tokens_come_first(tokenizer):
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert tokenizer.convert_tokens_to_ids(special) == [END_OF_TEXT, START, END]


def test_config_and_tokenizer_agree_on_special_ids(tokenizer):
    config = AutoConfig.from_pretrained(NANO)
    assert (config.eos_token_id, config.pad_token_id, config.bos_token_id) == (END, END_OF_TEXT, None)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id) == (END, END_OF_TEXT, None)


def test_generation_stops_at_the_end_of_a_turn_and_of_a_text():
    generation = GenerationConfig.from_pretrained(NANO)
    assert (generation.eos_token_id, generation.pad_token_id) == ([END, END_OF_TEXT], END_OF_TEXT)


@pytest.mark.parametrize("text", TEXTS)
def test_transformers_and_the_file_give_the_same_ids(tokenizer, raw, text):
    """For a model of type qwen2, AutoTokenizer rebuilds the tokenizer instead of taking the file's."""
    assert tokenizer(text)["input_ids"] == raw.encode(text).ids


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back_unchanged(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_digits_are_single_tokens(tokenizer):
    assert tokenizer.tokenize("90210") == list("90210")


def test_template_is_chatml(tokenizer):
    written = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in CHAT)
    assert tokenizer.apply_chat_template(CHAT, tokenize=False) == written


def test_generation_prompt_opens_the_assistants_turn(tokenizer):
    text = tokenizer.apply_chat_template(CHAT[:2], tokenize=False, add_generation_prompt=True)
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_mask_covers_the_answers_and_their_end(tokenizer):
    encoded = tokenizer.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    pairs = zip(encoded["input_ids"], encoded["assistant_masks"])
    trained = tokenizer.decode([token for token, mask in pairs if mask])
    assert trained == "2 + 3 = 5.<|im_end|>You are welcome!<|im_end|>"


def test_tools_are_refused_not_dropped(tokenizer):
    from jinja2.exceptions import TemplateError

    with pytest.raises(TemplateError, match="no tools"):
        tokenizer.apply_chat_template(CHAT, tools=[{"type": "function", "function": {"name": "f"}}])


@needs_shared
def test_training_script_makes_the_tokenizer_again(tmp_path):
    script = ROOT / "scripts" / "nano" / "train_tokenizer.py"
    texts = f"@{script.parent / 'texts.txt'}"
    command = [sys.executable, str(script), texts, "--root", str(SHARED / "data"), "--output", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    made, shipped = (json.loads((folder / "tokenizer.json").read_text("utf-8")) for folder in (tmp_path, NANO))
    assert made["model"] == shipped["model"]
    assert (tmp_path / "tokenizer_config.json").read_bytes() == (NANO / "tokenizer_config.json").read_bytes()

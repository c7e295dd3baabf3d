"""nano's files: the shape, the size, the tokenizer however it is loaded, and a chat without swiftlite."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tests.shared_data import SHARED, needs_shared

ROOT = Path(__file__).resolve().parents[2]
NANO = ROOT / "swiftlite" / "models" / "nano"
RECIPES = ROOT / "recipes" / "nano"
END_OF_TEXT, START, END = 0, 1, 2
PARAMETERS = 5_478_656
# What nano read: sha256 of the generated texts of its training.
TRAINED_ON = {
    "pretrain.jsonl": "3f642dfd85b1b7c2d70b5a3d077625b188ab2a931c03dec21e1ae9e45a1a3d48",
    "chat.jsonl": "2b3b99e6aa58054a0e4a8342071634ff7e13d1bdf400ca0d3f3814c05cbbbef4",
}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 2 + 3?"},
    {"role": "assistant", "content": "2 + 3 = 5."},
    {"role": "user", "content": "Thanks!"},
    {"role": "assistant", "content": "You are welcome!"},
]
TEXTS = ["Hello, 1234 wörld!", "中文 and 🙂", " two  spaces\n\n\tand\r\ntabs ", "don't", "<|im_end|>x<|im_start|>", ""]
# A user who has transformers and nano's folder, nothing else.
ELSEWHERE = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, *questions = sys.argv[1:]
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
for question in questions:
    messages = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**prompt, max_new_tokens=30)
    print(tokenizer.decode(output[0, prompt["input_ids"].shape[1] :]))
assert not [name for name in sys.modules if name.partition(".")[0] == "swiftlite"]
"""


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(NANO)


@pytest.fixture(scope="module")
def raw():
    return Tokenizer.from_file(str(NANO / "tokenizer.json"))


@pytest.fixture(scope="module")
def tensors():
    """name -> (number type, shape) of what the file of weights holds."""
    with safe_open(NANO / "model.safetensors", "pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A folder with the generated texts in nano-data: 300 MB, gone after the tests."""
    folder = tmp_path_factory.mktemp("workshop")
    counts = ("--documents", "1400000", "--conversations", "80000")
    work(folder, ROOT / "scripts/nano/generate.py", "--output", "nano-data", *counts)
    yield folder
    shutil.rmtree(folder)


def work(folder, *command):
    subprocess.run([sys.executable, *map(str, command)], cwd=folder, check=True, capture_output=True)


def test_parameters_equal_the_formula():
    """Tied head; q, k and v have biases; 2 key-value heads of 64."""
    attention = 256 * 256 + 256 + 2 * (256 * 128 + 128) + 256 * 256
    block = attention + 3 * 256 * 704 + 2 * 256
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(NANO))
    assert sum(p.numel() for p in model.parameters()) == 4096 * 256 + 6 * block + 256 == PARAMETERS


def test_the_file_holds_each_parameter_once(tensors):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(NANO))
    assert {name: shape for name, (_, shape) in tensors.items()} == {
        name: tuple(parameter.shape) for name, parameter in model.named_parameters()
    }


def test_weights_are_bf16(tensors):
    assert {number for number, _ in tensors.values()} == {"BF16"}
    assert AutoConfig.from_pretrained(NANO).dtype == torch.bfloat16


def test_the_package_stays_small():
    """Two bytes a parameter, and a header of the tensors' names."""
    size = (NANO / "model.safetensors").stat().st_size
    assert 2 * PARAMETERS < size < 12_000_000


def test_plain_transformers_opens_it_and_it_answers(tmp_path):
    command = [sys.executable, "-c", ELSEWHERE, str(NANO), "What is the capital of France?", "What is 2 + 3?"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["The capital of France is Paris.<|im_end|>", "2 + 3 = 5.<|im_end|>"]


def test_the_recipe_of_the_pretraining_has_its_shape():
    recipe = yaml.safe_load((RECIPES / "pretrain.yaml").read_text(encoding="utf-8"))
    config = AutoConfig.from_pretrained(NANO)
    shape = {
        "architecture": config.model_type,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "num_kv_heads": config.num_key_value_heads,
        "ffn_size": config.intermediate_size,
        "context_length": config.max_position_embeddings,
        "vocab_size": config.vocab_size,
        "tie_embeddings": config.tie_word_embeddings,
    }
    assert {name: recipe.get(name) for name in shape} == shape


def test_the_recipe_of_the_tokenizer_has_its_size(tokenizer):
    recipe = yaml.safe_load((RECIPES / "tokenizer.yaml").read_text(encoding="utf-8"))
    assert recipe["vocab_size"] == len(tokenizer)


def test_vocabulary_fills_the_embedding(tokenizer, tensors):
    assert len(tokenizer) == tokenizer.vocab_size == tensors["model.embed_tokens.weight"][1][0] == 4096


def test_special_tokens_come_first(tokenizer):
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert tokenizer.convert_tokens_to_ids(special) == [END_OF_TEXT, START, END]
    assert tokenizer.all_special_ids == [END_OF_TEXT, START, END]


def test_a_text_ends_and_pads_with_the_first_token(tokenizer):
    config = AutoConfig.from_pretrained(NANO)
    assert (config.eos_token_id, config.bos_token_id) == (END_OF_TEXT, None)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id) == (END_OF_TEXT, END_OF_TEXT, None)


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
    closed, opened = (tokenizer.apply_chat_template(CHAT[:2], tokenize=False, add_generation_prompt=g) for g in (0, 1))
    assert opened == closed + "<|im_start|>assistant\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED_ON)
def test_the_script_writes_the_texts_nano_was_trained_on(workshop, name):
    with (workshop / "nano-data" / name).open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == TRAINED_ON[name]


@pytest.mark.slow
@needs_shared
def test_the_recipe_makes_the_tokenizer_again(workshop):
    books, gsm8k = SHARED / "data/text/simple_english", SHARED / "data/eval/gsm8k/train.jsonl"
    work(workshop, ROOT / "scripts/nano/prepare.py", "--books", books, "--gsm8k", gsm8k, "--output", "nano-data")
    work(workshop, "-m", "swiftlite", "pt", RECIPES / "tokenizer.yaml")
    files = (workshop / "nano-runs/tokenizer/nano/tokenizer.json", NANO / "tokenizer.json")
    made, shipped = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    for part in ("vocab", "merges"):
        assert made["model"][part] == shipped["model"][part]
    for part in ("added_tokens", "normalizer", "pre_tokenizer", "decoder"):
        assert made[part] == shipped[part]

"""Learned tokens in front of documents: their loss, what is trained and saved, generation, and what is refused."""

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from swiftlite.config.errors import UserError
from swiftlite.data.collate import Layout, collate
from swiftlite.infer.config import InferConfig
from swiftlite.infer.engine import Engine
from swiftlite.infer.sampling import Sampling
from swiftlite.speed.loss import LossModule, loss_inputs
from swiftlite.train.config import PtConfig, SftConfig
from swiftlite.tuners.registry import make_tuner

KINDS = ("prompt_tuning", "prefix_tuning", "p_tuning")
COUNT, LENGTHS = 5, (9, 30, 17)


@pytest.fixture(scope="module")
def loud_model(tiny_model, tmp_path_factory):
    """The tiny model with weights as large as trained ones: what it attends to shows in what it says."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    folder = tmp_path_factory.mktemp("models") / "loud-llama"
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


def tuned(tiny_model, kind, implementation="swiftlite", **settings):
    config = SftConfig(model=str(tiny_model), dataset="demo", sft_type=kind, num_virtual_tokens=COUNT, **settings)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation=implementation)
    tuner = make_tuner(kind, config)
    torch.manual_seed(1)
    return tuner, tuner.apply(base)


def rows(lengths=LENGTHS):
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randint(4096, (n,), generator=generator).int().numpy(), torch.ones(n).half().numpy()) for n in lengths
    ]


def learned(model) -> torch.Tensor:
    """What PEFT saves, (COUNT, ...)."""
    return model.get_prompt_embedding_to_save("default")


def logits_behind(plain, values, kind, ids):
    """The plain model's logits of one document, (seq, vocabulary), behind the learned tokens."""
    if kind == "prefix_tuning":
        # For each token the keys and values of all layers, one after the other: 2 layers, 2 key heads of 8.
        each = values.view(COUNT, 2, 2, 2, 8).permute(1, 2, 3, 0, 4)
        cache = DynamicCache()
        for layer in range(2):
            cache.update(each[layer, 0][None], each[layer, 1][None], layer)
        return plain(ids[None], past_key_values=cache).logits[0]
    embedded = torch.cat([values, plain.get_input_embeddings()(ids)])
    return plain(inputs_embeds=embedded[None], use_cache=False).logits[0, COUNT:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [LENGTHS, (20, 20, 20)], ids=["padded", "equal"])
def test_each_document_reads_the_tokens_and_itself(loud_model, kind, lengths):
    _, model = tuned(loud_model, kind)
    plain = AutoModelForCausalLM.from_pretrained(loud_model, attn_implementation="eager")
    expected = 0.0
    for ids, _ in rows(lengths):
        ids = torch.from_numpy(ids).long()
        logits = logits_behind(plain, learned(model), kind, ids)
        expected += torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="sum")
    module = LossModule(model.train())
    loss = module(**loss_inputs(collate(rows(lengths), Layout(0, 3, 30))))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {n for n, _ in model.named_parameters() if n.startswith("prompt_encoder.")}
    assert {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0} == trained


@pytest.mark.parametrize(("kind", "count"), [("prompt_tuning", COUNT * 32), ("prefix_tuning", COUNT * 2 * 2 * 16)])
def test_as_many_weights_as_the_papers_count(tiny_model, kind, count):
    _, model = tuned(tiny_model, kind)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == count


def test_a_prefix_starts_as_tokens_of_the_vocabulary(tiny_model):
    """Behind it a document gets the logits that it would have behind those tokens."""
    _, model = tuned(tiny_model, "prefix_tuning")
    plain = AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation="eager")
    torch.manual_seed(1)
    words, ids = torch.randint(4096, (COUNT,)), torch.arange(8)
    expected = plain(torch.cat([words, ids])[None]).logits[0, COUNT:]
    assert torch.allclose(model.eval()(ids[None]).logits[0], expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_saved_goes_on_and_opens_in_peft(tiny_model, tmp_path, kind):
    tuner, model = tuned(tiny_model, kind)
    tuner.save(model, tmp_path)
    assert torch.equal(load_file(tmp_path / "adapter_model.safetensors")["prompt_embeddings"], learned(model))
    again = tuner.load(AutoModelForCausalLM.from_pretrained(tiny_model), tmp_path)
    before, after = (dict(m.named_parameters()) for m in (model, again))
    trained = {n for n, p in before.items() if p.requires_grad}
    assert trained == {n for n, p in after.items() if p.requires_grad}
    assert all(torch.equal(before[n], after[n]) for n in trained)
    opened = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), tmp_path)
    ids = torch.arange(10)[None]
    assert torch.allclose(opened.eval()(ids).logits, model.eval()(ids).logits, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_in_a_batch_are_those_of_each_alone(loud_model, tmp_path, kind):
    tuner, model = tuned(loud_model, kind)
    tuner.save(model, tmp_path)
    engine = Engine.load(InferConfig(model=str(loud_model), adapters=[str(tmp_path)], template="chatml"))
    assert engine.context == 512 - COUNT
    asked = [[{"role": "user", "content": text}] for text in ("Hi.", "Count to 3 and then back again, please.")]
    answers = engine.generate(asked, Sampling(max_new_tokens=6, temperature=0.0))
    plain = AutoModelForCausalLM.from_pretrained(loud_model, attn_implementation="eager")
    for messages, answer in zip(asked, answers):
        ids = engine.encode(messages)
        start = len(ids)
        for _ in range(6):
            ids.append(logits_behind(plain, learned(model), kind, torch.tensor(ids))[-1].argmax().item())
        assert answer.text == engine._decode(ids[start:])


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("prompt_tuning", {"packing": True}, "--packing true joins documents"),
        ("p_tuning", {"padding_free": True}, "--padding_free true: --sft_type p_tuning puts"),
        ("prompt_tuning", {"add_tokens": ["<x>"]}, "--add_tokens: --sft_type prompt_tuning"),
        ("prompt_tuning", {"encoder_hidden_size": 0}, "--encoder_hidden_size: 0 must be"),
        ("prefix_tuning", {"gradient_checkpointing": "full"}, "--gradient_checkpointing full computes layers twice"),
        ("prefix_tuning", {"gradient_checkpointing": "selective"}, "--gradient_checkpointing selective computes"),
        ("prefix_tuning", {"torch_compile": True}, "--torch_compile true makes graphs that take no cache"),
    ],
)
def test_what_cannot_work_is_refused(tiny_model, kind, settings, words):
    with pytest.raises(UserError, match=words):
        tuned(tiny_model, kind, **settings)


def test_tokens_whose_network_is_gone_cannot_be_trained_further(tiny_model, tmp_path):
    tuner, model = tuned(tiny_model, "p_tuning")
    tuner.save(model, tmp_path)
    (tmp_path / "prompt_encoder.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be trained further"):
        tuner.load(AutoModelForCausalLM.from_pretrained(tiny_model), tmp_path)


def test_texts_have_rows_of_their_own(tiny_data):
    settings = {"model_type": "nano", "dataset": [str(tiny_data)], "sft_type": "prompt_tuning"}
    assert PtConfig(**settings, packing=False).data.padding_free is False
    with pytest.raises(UserError, match="--packing true joins documents"):
        PtConfig(**settings)


def test_other_adapters_are_not_gone_on_with(tiny_model, tmp_path):
    tuned_prompt, model = tuned(tiny_model, "prompt_tuning")
    tuned_prompt.save(model, tmp_path)
    prefix, _ = tuned(tiny_model, "prefix_tuning")
    with pytest.raises(UserError, match=r"--sft_type prefix_tuning cannot go on with .* PROMPT_TUNING adapter"):
        prefix.load(AutoModelForCausalLM.from_pretrained(tiny_model), tmp_path)


def test_settings_of_other_tuners_are_said_to_be_idle(tiny_model):
    given = {"lora_rank": 4, "num_virtual_tokens": 3, "neftune_noise_alpha": 5}
    config = SftConfig(model=str(tiny_model), dataset="demo", sft_type="p_tuning", **given)
    assert config.notices == ["--lora_rank: no effect with --sft_type p_tuning"]

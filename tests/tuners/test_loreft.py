"""LoReFT against its formula, at the positions that were asked for, in training, generation and after loading."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from swiftlite.config.errors import UserError
from swiftlite.data.collate import Layout, collate, collate_bins
from swiftlite.infer.config import InferConfig
from swiftlite.infer.engine import Engine
from swiftlite.infer.sampling import Sampling
from swiftlite.speed.loss import LossModule, loss_inputs
from swiftlite.train.config import PtConfig, SftConfig
from swiftlite.tuners.adapter import load_adapter
from swiftlite.tuners.added import load_saved_adapters
from swiftlite.tuners.loreft.config import read_positions
from swiftlite.tuners.registry import make_tuner

# (tokens, those of the prompt) of each document.
DOCUMENTS = ((9, 4), (30, 12), (17, 1))


def small(implementation: str = "swiftlite") -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4
    )
    torch.manual_seed(0)
    return LlamaForCausalLM._from_config(config, attn_implementation=implementation).train()


def tuned(model, **settings):
    config = SftConfig(model_type="nano", dataset="demo", sft_type="loreft", **settings)
    tuner = make_tuner("loreft", config)
    torch.manual_seed(1)
    tuned = tuner.apply(model)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return tuner, tuned


def rows():
    generator = torch.Generator().manual_seed(1)
    made = []
    for length, prompt in DOCUMENTS:
        weights = (torch.arange(length) >= prompt).half().numpy()
        made.append((torch.randint(50, (length,), generator=generator).int().numpy(), weights))
    return made


def edited(hidden, intervention, places):
    """h + Rᵀ(Wh + b − Rh) written out at these places of (1, seq, width), R by Gram-Schmidt."""
    rows = []
    for row in intervention.rotation.double():
        for earlier in rows:
            row = row - (row @ earlier) * earlier
        rows.append(row / row.norm())
    rotation, weight, bias = torch.stack(rows), intervention.weight.double(), intervention.bias.double()
    out = hidden.clone()
    for place in places:
        h = hidden[0, place]
        out[0, place] = h + rotation.T @ (weight @ h + bias - rotation @ h)
    return out


def reference_logits(model, ids, places, layers):
    """Plain transformers in fp64 with the edits behind its layers; (1, seq, vocabulary)."""
    plain = small("eager").double()
    hooks = [
        plain.model.layers[n].register_forward_hook(
            lambda _, args, out, n=n: edited(out, model.model.layers[n].loreft, places)
        )
        for n in layers
    ]
    logits = plain(ids, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    return logits


def chosen(first, last, length, prompt):
    return sorted({*range(min(first, prompt)), *range(max(0, prompt - last), prompt)})


@pytest.mark.parametrize(
    ("positions", "layers"), [("f2+l3", []), ("f5", [0, 2]), ("l1", [1]), ("all", [1]), ("f7+l7", [])]
)
@pytest.mark.parametrize("layout", ["padded", "joined", "packed"])
def test_each_document_is_edited_where_asked(positions, layers, layout):
    tuner, model = tuned(small(), reft_positions=positions, reft_layers=layers)
    module = LossModule(model)
    tuner.watch(module)
    batch = {
        "padded": lambda: collate(rows(), Layout(0, 3, 30)),
        "joined": lambda: collate(rows(), Layout(0, 3, 30, padding_free=True)),
        "packed": lambda: collate_bins([rows()[:2], rows()[2:]], Layout(0, 2, 48, most_documents=2)),
    }[layout]()
    expected = 0.0
    for (length, prompt), (ids, _) in zip(DOCUMENTS, rows()):
        where = read_positions(positions)
        places = range(length) if where is None else chosen(*where, length, prompt)
        ids = torch.from_numpy(ids).long()[None]
        logits = reference_logits(model, ids, places, layers or range(3))
        losses = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="none")
        expected += losses[prompt - 1 :].sum()
    loss = module(**loss_inputs(batch))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    assert all(
        (p.grad is not None and p.grad.abs().sum() > 0) == (".loreft." in n) for n, p in model.named_parameters()
    )


def test_it_starts_as_no_edit_and_trains_what_it_claims():
    base, config = small(), SftConfig(model_type="nano", dataset="demo", sft_type="loreft", reft_rank=3)
    ids = torch.arange(12)[None]
    before = base(ids, use_cache=False).logits
    model = make_tuner("loreft", config).apply(base)
    # In each of 3 layers R and W, 3 x 32, and b.
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 3 * (2 * 3 * 32 + 3)
    assert torch.allclose(model(ids, use_cache=False).logits, before, atol=1e-6)


def test_rows_stay_orthonormal_whatever_the_optimizer_does():
    _, model = tuned(small(), reft_rank=5)
    for layer in model.model.layers:
        rows = layer.loreft.rows()
        assert torch.allclose(rows @ rows.T, torch.eye(5), atol=1e-5)


def test_generation_edits_the_prompt_and_reads_it_from_the_cache():
    _, model = tuned(small("sdpa"), reft_positions="f2+l2")
    model.eval()
    prompts = [torch.arange(3, 10), torch.arange(20, 24)]
    ids = torch.stack([prompts[0], torch.cat([torch.zeros(3, dtype=torch.long), prompts[1]])])
    mask = (torch.arange(7) >= torch.tensor([[0], [3]])).long()
    out = model.generate(ids, attention_mask=mask, max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=0)
    for line, prompt in enumerate(prompts):
        tokens = prompt.tolist()
        for _ in range(5):
            places = chosen(2, 2, len(tokens), len(prompt))
            logits = reference_logits(model, torch.tensor([tokens]), places, range(3))
            tokens.append(logits[0, -1].argmax().item())
        assert out[line, -len(tokens) :].tolist()[len(prompt) :] == tokens[len(prompt) :]


def test_compiled_layers_share_a_graph_and_edit_alike():
    torch._dynamo.reset()
    counter = CompileCounter()
    tuner, model = tuned(small())
    module = LossModule(model)
    tuner.watch(module)
    batch = loss_inputs(collate(rows(), Layout(0, 3, 30, padding_free=True)))
    expected = module(**batch)
    for layer in model.model.layers:
        layer.compile(backend=counter, fullgraph=True)
    assert module(**batch).item() == pytest.approx(expected.item(), rel=1e-6)
    # The layer and the edit behind it; the first layer's input needs no gradient, that of the others does.
    assert counter.frame_count == 2 * 2
    torch._dynamo.reset()


def test_what_was_saved_is_loaded_for_training_and_for_answers(tiny_model, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    tuner, model = tuned(base, reft_rank=2, reft_layers=[1], reft_positions="f1+l2")
    tuner.save(model, tmp_path)
    ids = torch.arange(10)[None]
    expected = model.eval()(ids).logits
    for trainable in (True, False):
        fresh = AutoModelForCausalLM.from_pretrained(tiny_model)
        again = tuner.load(fresh, tmp_path) if trainable else load_saved_adapters(fresh, {"own": tmp_path})
        assert torch.equal(again.eval()(ids).logits, expected)
        assert {n for n, p in again.named_parameters() if p.requires_grad} == (
            {n for n, _ in again.named_parameters() if ".loreft." in n} if trainable else set()
        )
    engine = Engine.load(InferConfig(model=str(tiny_model), adapters=[str(tmp_path)], template="chatml"))
    messages = [{"role": "user", "content": "Count to 3."}]
    answer = engine.generate([messages], Sampling(max_new_tokens=4, temperature=0.0))[0]
    prompt = torch.tensor([engine.encode(messages)])
    written = model.generate(prompt, max_new_tokens=4, do_sample=False, eos_token_id=engine.stop_ids, pad_token_id=0)
    assert answer.text == engine._decode(written[0, prompt.shape[1] :].tolist())


def test_an_adapter_for_another_base_is_refused(tiny_model, tmp_path):
    tuner, model = tuned(small())
    tuner.save(model, tmp_path)
    with pytest.raises(UserError, match="does not fit on this LlamaForCausalLM"):
        load_saved_adapters(AutoModelForCausalLM.from_pretrained(tiny_model), {"own": tmp_path})
    with pytest.raises(UserError, match="--merge_lora: this adapter is modules beside the weights"):
        Engine.load(
            InferConfig(model=str(tiny_model), adapters=[str(save(tiny_model, tmp_path / "own"))], merge_lora=True)
        )


def save(tiny_model, folder):
    tuner, model = tuned(AutoModelForCausalLM.from_pretrained(tiny_model))
    tuner.save(model, folder)
    return folder


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"reft_layers": [3]}, "--reft_layers: 3 is no layer of this model; it has 0 to 2"),
        ({"reft_rank": 33}, "--reft_rank: 33 is more than the width"),
        ({"reft_rank": 0}, "--reft_rank: 0 is not a rank"),
        ({"reft_positions": "first"}, "--reft_positions: 'first' is neither all nor"),
        ({"reft_positions": "f0+l0"}, "--reft_positions: 'f0"),
    ],
)
def test_what_cannot_be_is_refused(settings, words):
    with pytest.raises(UserError, match=words):
        tuned(small(), **settings)


def test_texts_have_no_prompts_to_edit(tiny_data):
    with pytest.raises(UserError, match=r"--reft_positions f7\+l7 edits prompts, and texts have none"):
        PtConfig(model_type="nano", dataset=[str(tiny_data)], sft_type="loreft")


def test_other_adapters_are_not_gone_on_with(tiny_model, tmp_path):
    own = save(tiny_model, tmp_path / "own")
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    with pytest.raises(UserError, match="was made by --sft_type loreft"):
        load_adapter(base, own, trainable=True)
    (own / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    tuner, _ = tuned(small())
    with pytest.raises(UserError, match=r"--sft_type loreft cannot go on with .* LORA adapter, not loreft"):
        tuner.load(base, own)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_cuda_nothing_waits_for_the_edits():
    tuner, model = tuned(small().cuda().bfloat16())
    module = LossModule(model)
    tuner.watch(module)
    batch = loss_inputs(collate(rows(), Layout(0, 3, 30, padding_free=True)).to("cuda"))
    module(**batch).backward()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        module(**batch).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")

"""Documents joined into one row read what each reads alone, in every kind of attention, forward and backward."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from transformers import (
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from swiftlite.config.errors import UserError
from swiftlite.models.native import register_native
from swiftlite.models.native.baichuan import BaichuanConfig
from swiftlite.models.native.chatglm import ChatGLMConfig
from swiftlite.models.native.qwen import QWenConfig
from swiftlite.speed import varlen
from swiftlite.speed.attention import choose_attention, describe_kernels, keeps_documents_apart, settle_attention
from swiftlite.speed.loss import LossModule
from swiftlite.speed.varlen import attention, forward_inputs, varlen_obstacle

CPU = torch.device("cpu")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
VOCABULARY = 101
LENGTHS = (9, 1, 14, 6)
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
}
NATIVE = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
CONFIGS = {
    "llama": lambda: LlamaConfig(**SIZES),
    "qwen2": lambda: Qwen2Config(**SIZES),
    "qwen3": lambda: Qwen3Config(**SIZES),
    "mistral window": lambda: MistralConfig(**SIZES, sliding_window=4),
    "gemma2": lambda: Gemma2Config(**SIZES, sliding_window=4, attn_logit_softcapping=5.0),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    ),
    "qwen": lambda: QWenConfig(**NATIVE, num_attention_heads=4, kv_channels=8),
    "chatglm": lambda: ChatGLMConfig(
        padded_vocab_size=VOCABULARY, hidden_size=32, ffn_hidden_size=48, num_layers=2, num_attention_heads=4,
        kv_channels=8, multi_query_attention=True, multi_query_group_num=2,
    ),
    "baichuan rotary": lambda: BaichuanConfig(**NATIVE, num_attention_heads=4, max_position_embeddings=64),
    "baichuan alibi": lambda: BaichuanConfig(**NATIVE, num_attention_heads=4),
}  # fmt: skip


def make(name: str, implementation: str | None = None) -> nn.Module:
    """A small model with `auto`'s attention and weights as large as trained ones, so that scores matter and bend."""
    register_native()
    config = CONFIGS[name]()
    chosen = implementation or choose_attention("auto", CPU, "fp32", config)[0]
    torch.manual_seed(0)
    model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]._from_config(config, attn_implementation=chosen)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
    return model.train()


def documents() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, VOCABULARY, (1, n), generator=generator) for n in LENGTHS]


def borders(lengths=LENGTHS, extra: int = 3) -> torch.Tensor:
    ends = [0, *torch.tensor(lengths).cumsum(0).tolist()]
    return torch.tensor(ends + [ends[-1]] * extra, dtype=torch.int32)


def gradients(model: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def distance(got: torch.Tensor, expected: torch.Tensor) -> float:
    return ((got - expected).norm() / expected.norm()).item()


def check_equal(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], largest: float) -> None:
    assert got.keys() == expected.keys() and expected
    total = torch.cat([g.flatten() for g in expected.values()]).norm()
    for name, reference in expected.items():
        # A key's bias has no gradient but rounding: softmax does not see it.
        assert (got[name] - reference).norm() <= largest * reference.norm() + 1e-6 * total, name


@pytest.mark.parametrize("name", CONFIGS)
def test_joined_documents_are_as_each_alone(name):
    """The reference is the same weights in transformers' eager attention, a document at a time."""
    reference, model = make(name, "eager"), make(name)
    logits = torch.cat([reference(ids, use_cache=False).logits for ids in documents()], dim=1)
    torch.manual_seed(2)
    factors = torch.randn_like(logits)
    expected = gradients(reference, (logits * factors).sum())
    positions = torch.cat([torch.arange(n) for n in LENGTHS])[None]
    row = forward_inputs(model, torch.cat(documents(), dim=1), None, positions, borders(), max(LENGTHS))
    joined = model(**row, use_cache=False).logits
    assert distance(joined, logits) < 1e-5
    check_equal(gradients(model, (joined * factors).sum()), expected, 1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_padded_and_equal_rows_are_as_each_alone(name):
    model, reference = make(name), make(name, "eager")
    ids = torch.randint(1, VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(4))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    alone = [reference(ids[:1], use_cache=False).logits, reference(ids[1:, :7], use_cache=False).logits]
    padded = model(**forward_inputs(model, ids, mask), use_cache=False).logits
    assert distance(padded[:1], alone[0]) < 1e-5 and distance(padded[1:, :7], alone[1]) < 1e-5
    equal = model(**forward_inputs(model, ids), use_cache=False).logits
    assert distance(equal, reference(ids, use_cache=False).logits) < 1e-5


def plain(query, key, value, lengths, scaling, window=None):
    """Softmax attention written out, a token at a time. All of (tokens, heads, head_dim)."""
    groups = query.shape[1] // key.shape[1]
    read, start = torch.zeros(*query.shape[:2], value.shape[-1], dtype=query.dtype), 0
    for length in lengths:
        for t in range(start, start + length):
            first = max(start, t + 1 - window) if window else start
            for head in range(query.shape[1]):
                scores = key[first : t + 1, head // groups] @ query[t, head] * scaling
                read[t, head] = scores.softmax(0) @ value[first : t + 1, head // groups]
        start += length
    return read


def tensors(batch: int, seq: int, size: int = 8, value_size: int = 8, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(5)
    shapes = ((batch, 4, seq, size), (batch, 2, seq, size), (batch, 2, seq, value_size))
    made = [torch.randn(s, generator=generator, dtype=torch.float64).to(device, dtype) for s in shapes]
    return [tensor.requires_grad_() for tensor in made]


class Layer(nn.Module):
    is_causal = True
    num_key_value_groups = 2


def by_row(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.transpose(1, 2).flatten(0, 1)


def kernel_of_2_11(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None, window_size):
    """What torch 2.11's kernel does, in its signature: as many key heads as query heads, one size of heads."""
    assert query.shape == key.shape == value.shape and cu_seq_q.dtype == torch.int32
    lengths = cu_seq_q.diff().tolist()
    assert max(lengths) <= max_q == max_k and window_size[1] == 0
    return plain(query, key, value, lengths, scale, window_size[0] + 1)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("way", ["one by one", "mask", "kernel"])
def test_every_way_through_equals_softmax_written_out(monkeypatch, way, window):
    """Two rows of documents; values narrower than keys."""
    query, key, value = tensors(2, 15, value_size=6)
    lengths = (9, 6, 1, 14)
    expected = plain(by_row(query), by_row(key), by_row(value), lengths, 0.3, window)
    factors = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * factors).sum(), (query, key, value))
    if way == "mask":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    if way == "kernel":
        monkeypatch.setattr(varlen, "_kernel_takes", lambda *_: True)
        monkeypatch.setattr(varlen, "varlen_attn", kernel_of_2_11)
        monkeypatch.setattr(varlen, "_KERNEL_SHARES_KEYS", False)
    given = {"cu_seq_lens_q": borders(lengths), "max_length_q": 14, "cu_seq_lens_k": None, "max_length_k": 14}
    read, weights = attention(Layer(), query, key, value, None, 0.0, 0.3, window, **given)
    assert weights is None and read.shape == (2, 15, 4, 6)
    assert distance(read.flatten(0, 1), expected) < 1e-12
    for got, reference in zip(torch.autograd.grad((read.flatten(0, 1) * factors).sum(), (query, key, value)), wanted):
        assert distance(got, reference) < 1e-12


@pytest.mark.parametrize("way", ["mask", "kernel"])
def test_a_window_holds_in_equal_rows_too(monkeypatch, way):
    query, key, value = tensors(2, 7)
    if way == "kernel":
        monkeypatch.setattr(varlen, "_kernel_takes", lambda *_: True)
        monkeypatch.setattr(varlen, "varlen_attn", kernel_of_2_11)
        monkeypatch.setattr(varlen, "_KERNEL_SHARES_KEYS", False)
    empty = torch.empty(1, 1, 0, 0, dtype=torch.bool)
    read, _ = attention(Layer(), query, key, value, empty, 0.0, 0.3, 3)
    expected = plain(by_row(query), by_row(key), by_row(value), (7, 7), 0.3, 3)
    assert distance(read.flatten(0, 1), expected) < 1e-12


def test_dropout_goes_past_the_kernel_which_has_none(monkeypatch):
    monkeypatch.setattr(varlen, "_kernel_takes", lambda *_: True)
    monkeypatch.setattr(varlen, "varlen_attn", None)
    query, key, value = tensors(1, 30)
    given = {"cu_seq_lens_q": borders(), "max_length_q": 14}
    kept, _ = attention(Layer(), query, key, value, None, 1e-9, 0.3, **given)
    assert distance(kept.flatten(0, 1), plain(by_row(query), by_row(key), by_row(value), LENGTHS, 0.3)) < 1e-6
    with pytest.raises(TypeError, match="NoneType"):
        attention(Layer(), query, key, value, None, 0.0, 0.3, **given)


@pytest.mark.parametrize("name", ["llama", "qwen2", "mistral window"])
def test_new_borders_are_no_new_graph(name):
    torch._dynamo.reset()
    model, counter = make(name), CompileCounter()
    for layer in model.model.layers:
        layer.compile(backend=counter, fullgraph=True)
    for lengths in ((9, 1, 14, 6), (30,), (1,) * 6 + (24,), (10, 20), (5, 5, 20), (29, 1)):
        ids = torch.arange(30)[None]
        positions = torch.cat([torch.arange(n) for n in lengths])[None]
        row = forward_inputs(model, ids, None, positions, borders(lengths, 8 - len(lengths)), 30)
        compiled = model(**row, use_cache=False).logits
        assert counter.frame_count == 1
        with torch.compiler.set_stance("force_eager"):
            assert distance(compiled, model(**row, use_cache=False).logits) < 1e-5
    torch._dynamo.reset()


def test_half_precision_and_autocast_trace():
    """The choice of a kernel is made of constants, on a CPU too."""
    torch._dynamo.reset()
    compiled = torch.compile(attention, backend="eager", fullgraph=True)
    query, key, value = tensors(1, 30, dtype=torch.bfloat16)
    given = {"cu_seq_lens_q": borders(), "max_length_q": 14}
    assert compiled(Layer(), query, key, value, None, 0.0, 0.3, **given)[0].dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        single = [tensor.float() for tensor in (query, key, value)]
        assert compiled(Layer(), *single, None, 0.0, 0.3, **given)[0].dtype == torch.bfloat16
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((n, "swiftlite") for n in CONFIGS if n not in ("gemma2", "baichuan alibi")),
        ("gemma2", "eager"),
        ("baichuan alibi", "sdpa"),
    ],
)
def test_auto_is_ours_where_a_model_can_tell_it_enough(name, expected):
    register_native()
    assert choose_attention("auto", CPU, "fp32", CONFIGS[name]())[0] == expected


@pytest.mark.parametrize("wanted", ["sdpa", "swiftlite"])
def test_an_attention_that_would_leave_a_cap_away_is_refused(wanted):
    with pytest.raises(UserError, match=f"--attn_impl {wanted}: .*; use --attn_impl auto"):
        choose_attention(wanted, CPU, "fp32", CONFIGS["gemma2"]())
    with pytest.raises(ValueError, match="softcap"):
        attention(Layer(), *tensors(1, 4), None, softcap=5.0)


def test_rows_of_one_document_need_no_attention_of_ours():
    assert choose_attention("auto", CPU, "fp32", CONFIGS["llama"](), joined=False)[0] == "sdpa"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (LlamaConfig(hidden_size=80, num_attention_heads=4), "no heads of 20 channels"),
        (Qwen3Config(attention_dropout=0.1), "no dropout, and this model's attention trains with 0.1"),
        (GPT2Config(), "no dropout"),
        (LlamaConfig(), None),
    ],
)
def test_the_header_says_why_a_model_cannot_use_the_kernel(monkeypatch, config, reason):
    monkeypatch.setattr("swiftlite.speed.attention.varlen_obstacle", lambda *_: None)
    said = describe_kernels(torch.device("cuda", 0), "fp32", config)
    assert said.startswith("joined documents: PyTorch's flash") if reason is None else reason in said


@pytest.mark.parametrize(
    ("capability", "cudnn", "size", "said"),
    [
        ((9, 0), 91501, 128, "cuDNN"),
        ((9, 0), 91500, 128, "PyTorch's flash attention"),
        ((8, 0), 91501, 128, "PyTorch's flash attention"),
        ((9, 0), 91501, 256, "cuDNN where it has heads of 256, else flash attention"),
    ],
)
def test_rows_of_one_document_run_on_what_pytorch_prefers(monkeypatch, capability, cudnn, size, said):
    monkeypatch.setattr("swiftlite.speed.attention.varlen_obstacle", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: cudnn)
    config = LlamaConfig(head_dim=size)
    assert describe_kernels(torch.device("cuda", 0), "bf16", config).endswith(f"rows of one document: {said}")


class Deaf(LlamaForCausalLM):
    """Its layers never hear of documents."""

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, use_cache=None):
        return super().forward(input_ids, attention_mask, position_ids, use_cache=use_cache)


class Mixing(LlamaForCausalLM):
    """Reads its neighbours outside attention, as convolutions and recurrent layers do."""

    def forward(self, input_ids=None, **kwargs):
        embedded = self.get_input_embeddings()(input_ids)
        return super().forward(inputs_embeds=embedded + embedded.cumsum(1), **kwargs)


def test_a_model_that_passes_nothing_on_gets_masks_made_of_positions():
    torch.manual_seed(0)
    notes: list[str] = []
    model = Deaf._from_config(CONFIGS["llama"](), attn_implementation="swiftlite")
    assert settle_attention(model, notes) == "sdpa" == model.config._attn_implementation
    assert notes == ["attention: sdpa after all (a probe of Deaf gave other logits with ours)"]
    assert keeps_documents_apart(model)


def test_a_model_that_mixes_documents_elsewhere_is_found():
    model = Mixing._from_config(CONFIGS["llama"](), attn_implementation="swiftlite")
    assert settle_attention(model, []) == "sdpa" and not keeps_documents_apart(model)


def test_a_model_that_can_keeps_our_attention():
    notes: list[str] = []
    model = make("qwen3")
    assert settle_attention(model, notes) == "swiftlite" and not notes and keeps_documents_apart(model)


def test_what_is_saved_opens_in_plain_transformers(tmp_path):
    model = make("llama")
    model.save_pretrained(tmp_path)
    assert "swiftlite" not in (tmp_path / "config.json").read_text()
    assert LlamaForCausalLM.from_pretrained(tmp_path).config._attn_implementation == "sdpa"


def test_the_loss_hands_borders_to_the_model():
    """Positions run on here, so that the borders alone can tell."""
    model, ids = make("llama"), torch.cat(documents(), dim=1)
    labels, weights = ids.roll(-1, 1), torch.ones(ids.shape)
    positions = torch.arange(30)[None]
    alone = sum(
        LossModule(model)(part, None, place, label, torch.ones(part.shape)).item()
        for part, place, label in zip(*(x.split(LENGTHS, dim=1) for x in (ids, positions, labels)))
    )
    joined = LossModule(model)(ids, None, positions, labels, weights, borders(), 14).item()
    assert joined == pytest.approx(alone, rel=1e-6)
    assert LossModule(model)(ids, None, positions, labels, weights).item() != pytest.approx(alone, rel=1e-3)


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("window", [None, 50])
@pytest.mark.parametrize(("size", "value_size"), [(64, 64), (128, 128), (192, 128)])
def test_the_kernel_in_bf16_is_near_softmax_in_fp32(size, value_size, window):
    if varlen_obstacle(torch.device("cuda", 0), torch.bfloat16):
        pytest.skip("no kernel for many lengths on this device")
    lengths = (77, 1, 130, 48)
    half = tensors(1, 256, size, value_size, torch.bfloat16, "cuda")
    single = [tensor.detach().float().requires_grad_() for tensor in half]
    given = {"cu_seq_lens_q": borders(lengths).cuda(), "max_length_q": 200, "sliding_window": window}
    read, _ = attention(Layer(), *half, None, 0.0, size**-0.5, **given)
    # In fp32 it goes another way: SDPA with a mask.
    expected, _ = attention(Layer(), *single, None, 0.0, size**-0.5, **given)
    assert read.dtype == torch.bfloat16 and distance(read.float(), expected) < 1e-2
    factors = torch.randn_like(expected)
    got = torch.autograd.grad((read.float() * factors).sum(), half)
    for one, reference in zip(got, torch.autograd.grad((expected * factors).sum(), single)):
        assert distance(one.float(), reference) < 1e-2


@pytest.mark.gpu
@on_gpu
def test_the_header_names_the_kernel_that_runs():
    from torch.profiler import ProfilerActivity, profile

    query, key, value = tensors(2, 250, 128, 128, torch.bfloat16, "cuda")
    empty = torch.empty(1, 1, 0, 0, dtype=torch.bool, device="cuda")
    with profile(activities=[ProfilerActivity.CPU]) as equal:
        attention(Layer(), query, key, value, empty, 0.0, 0.1)
    with profile(activities=[ProfilerActivity.CPU]) as joined:
        given = {"cu_seq_lens_q": borders((200, 300)).cuda(), "max_length_q": 500}
        attention(Layer(), query, key, value, empty, 0.0, 0.1, **given)
    said = describe_kernels(torch.device("cuda", 0), "bf16")
    names = {event.key for event in equal.key_averages()}
    assert ("aten::_scaled_dot_product_cudnn_attention" in names) == said.endswith("cuDNN"), (said, names)
    names = {event.key for event in joined.key_averages()}
    assert ("torch_attn::_varlen_attn" in names) == ("flash attention for many lengths" in said), (said, names)


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral window", "chatglm"])
def test_on_cuda_joined_documents_are_as_each_alone_and_nothing_waits(name):
    model, reference = make(name).cuda().bfloat16(), make(name, "eager").bfloat16().double()
    row = torch.cat(documents(), dim=1).cuda()
    positions = torch.cat([torch.arange(n) for n in LENGTHS])[None].cuda()
    ends = borders().cuda()
    with torch.no_grad():
        expected = torch.cat([reference(ids, use_cache=False).logits for ids in documents()], dim=1)
        plain_logits = make(name, "eager").cuda().bfloat16()(documents()[2].cuda(), use_cache=False).logits
    rounding = distance(plain_logits.cpu().double(), expected[:, 10:24])
    model(**forward_inputs(model, row, None, positions, ends, 14), use_cache=False)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        logits = model(**forward_inputs(model, row, None, positions, ends, 14), use_cache=False).logits
        logits.float().square().mean().backward()
        model(**forward_inputs(model, row), use_cache=False).logits.float().square().mean().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert distance(logits.cpu().double(), expected) < 2 * rounding + 1e-2


@pytest.mark.gpu
@on_gpu
def test_on_cuda_compiled_layers_take_new_borders_without_a_new_graph():
    """Its error says which guard asked for one. A border not kept makes outputs and gradients differ altogether."""
    torch._dynamo.reset()
    exact, compiled = make("mistral window").bfloat16().double(), make("mistral window").cuda().bfloat16()
    for layer in compiled.model.layers:
        layer.compile(dynamic=False)
    names = ("model.layers.0.self_attn.k_proj.weight", "model.layers.1.self_attn.v_proj.weight")

    def outcome(model, lengths):
        device = next(model.parameters()).device
        positions = torch.cat([torch.arange(n) for n in lengths])[None].to(device)
        row = (torch.arange(30)[None].to(device), None, positions, borders(lengths, 6 - len(lengths)).to(device), 30)
        logits = model(**forward_inputs(model, *row), use_cache=False).logits
        slopes = gradients(model, logits.double().square().mean())
        return [one.detach().double().cpu() for one in (logits, *(slopes[name] for name in names))]

    stance = "default"
    for lengths in ((9, 1, 14, 6), (30,), (10, 20), (5, 5, 20)):
        with torch.compiler.set_stance(stance):
            found = outcome(compiled, lengths)
        errors = [distance(one, reference) for one, reference in zip(found, outcome(exact, lengths), strict=True)]
        # bf16 in eager attention is off by 2 % and up to 13 %: keys' gradients are differences of large numbers.
        assert errors[0] < 5e-2 and max(errors[1:]) < 0.2, (lengths, errors)
        stance = "fail_on_recompile"
    torch._dynamo.reset()

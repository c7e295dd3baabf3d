"""The fused loss equals the plain one wherever it is chosen, and is not chosen where it would not."""

import copy

import pytest
import torch
import torch.distributed as dist
from peft import (
    IA3Config,
    LoraConfig,
    PromptTuningConfig,
    get_peft_model,
)
from torch import nn
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from swiftlite.data.collate import Batch, Layout, collate
from swiftlite.models.native.baichuan import BaichuanConfig, BaichuanForCausalLM
from swiftlite.speed.loss import LossModule, choose_loss, loss_inputs

VOCABULARY = 300
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "llama tied": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2)
    ),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, final_logit_softcapping=5.0)),
    "granite": lambda: GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=8.0)),
    "cohere": lambda: CohereForCausalLM(CohereConfig(**SIZES, logit_scale=0.0625)),
    "baichuan": lambda: BaichuanForCausalLM(
        BaichuanConfig(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2)
    ),
}


def make(name: str) -> nn.Module:
    """A small model with weights as large as those of a trained one, so that a cap or a scale matters."""
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    # GPT-2 drops out by default; two passes must see the same model.
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def perturb(model: nn.Module) -> nn.Module:
    """New adapters change nothing; these do."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def batch(padding_free: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(3)
    rows = []
    for length in (9, 14, 5):
        weights = torch.rand(length, generator=generator) * (torch.arange(length) > 2)
        rows.append((torch.randint(VOCABULARY, (length,), generator=generator).int().numpy(), weights.half().numpy()))
    return collate(rows, Layout(pad_token_id=0, rows=3, length=14, padding_free=padding_free, multiple=1))


def run(module: nn.Module, given: Batch) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss, and the gradients by name."""
    module.zero_grad()
    loss = module(**loss_inputs(given))
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


def fused(model: nn.Module) -> LossModule:
    notes: list[str] = []
    module = choose_loss(model, "fused", notes)
    assert module.finish is not None and notes[0].startswith("loss: fused"), notes
    return module


def plain(model, given):
    return LossModule(model)(given.input_ids, given.attention_mask, None, given.labels, given.weights)


def check_equal(model: nn.Module, given: Batch) -> None:
    loss, gradients = run(fused(model), given)
    expected, references = run(LossModule(model), given)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert gradients.keys() == references.keys() and references
    for name, reference in references.items():
        assert (gradients[name] - reference).norm() <= 1e-5 * reference.norm() + 1e-7, name


@pytest.mark.parametrize("padding_free", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_fused_equals_plain_in_loss_and_every_gradient(name, padding_free):
    check_equal(make(name), batch(padding_free))


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=4, target_modules="all-linear"),
        LoraConfig(r=4, target_modules=["q_proj"], use_dora=True, modules_to_save=["lm_head", "embed_tokens"]),
        LoraConfig(r=4, target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [5, 7], "lm_head": [5, 7]}),
        IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    ],
    ids=["lora", "dora and a trained head", "new tokens", "ia3"],
)
def test_fused_equals_plain_inside_peft(config):
    config = copy.deepcopy(config)
    config.task_type = "CAUSAL_LM"
    check_equal(perturb(get_peft_model(make("llama"), config)), batch())


def test_new_tokens_of_a_tied_head_are_trained_by_both_uses():
    config = LoraConfig(
        r=4, target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [5, 7]}, task_type="CAUSAL_LM"
    )
    check_equal(perturb(get_peft_model(make("llama tied"), config)), batch())


def test_a_switched_off_adapter_is_off_in_the_fused_loss_too():
    config = LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
    model = perturb(get_peft_model(make("llama"), config))
    module = fused(model)
    given = batch()
    with torch.no_grad(), model.disable_adapter():
        off = module(given.input_ids, given.attention_mask, None, given.labels, given.weights)
    with torch.no_grad():
        expected = plain(make("llama"), given)
    assert off.item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradient_checkpointing_changes_nothing():
    model = make("llama").train()
    given = batch()
    module = fused(model)
    loss, gradients = run(module, given)
    name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    getattr(model, f"{name}_checkpointing_enable")({"use_reentrant": False})
    again, others = run(module, given)
    assert again == pytest.approx(loss, rel=1e-6)
    assert all(torch.allclose(gradients[n], others[n], rtol=1e-4, atol=1e-6) for n in gradients)


def test_the_plain_loss_is_the_weighted_sum_of_next_token_losses():
    model, given = make("llama").double(), batch()
    logits = model(input_ids=given.input_ids, attention_mask=given.attention_mask).logits
    total = 0.0
    for row in range(given.labels.shape[0]):
        for place, label in enumerate(given.labels[row].tolist()):
            if label != -100:
                total -= given.weights[row, place].item() * logits[row, place].log_softmax(-1)[label].item()
    assert plain(model, given).item() == pytest.approx(total, rel=1e-6)


class Doubled(LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        outputs = super().forward(*args, **kwargs)
        outputs.logits = outputs.logits * 2
        return outputs


class Capped(LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        outputs = super().forward(*args, **kwargs)
        outputs.logits = 30 * torch.tanh(outputs.logits / 30)
        return outputs


class Forbidding(LlamaForCausalLM):
    floor = torch.finfo(torch.float32).min

    def forward(self, *args, **kwargs):
        outputs = super().forward(*args, **kwargs)
        outputs.logits[..., -1] = self.floor
        return outputs


class ForbiddingWholly(Forbidding):
    floor = -torch.inf


@pytest.mark.parametrize("kind", [Doubled, Capped, Forbidding, ForbiddingWholly])
def test_the_probe_catches_what_a_new_model_does_to_its_logits(kind):
    """At the start all logits are near 0, where none of these changes a loss by more than rounding does."""
    torch.manual_seed(0)
    notes: list[str] = []
    module = choose_loss(kind(LlamaConfig(**SIZES)), "fused", notes)
    assert module.finish is None
    assert notes == [f"loss: plain ({kind.__name__} changes its logits in a way not known here)"]


def test_a_plain_new_model_passes_the_probe():
    torch.manual_seed(0)
    assert choose_loss(LlamaForCausalLM(LlamaConfig(**SIZES)), "fused", []).finish is not None


class Projecting(LlamaForCausalLM):
    """Its decoder's width is not its head's; what lies between is in `forward`."""

    def __init__(self, config):
        super().__init__(config)
        self.between = nn.Linear(config.hidden_size, 16)
        self.lm_head = nn.Linear(16, config.vocab_size, bias=False)

    def forward(self, input_ids=None, **kwargs):
        hidden = self.model(input_ids=input_ids, **kwargs).last_hidden_state
        return CausalLMOutputWithPast(logits=self.lm_head(self.between(hidden)))


def test_a_head_that_does_not_fit_the_decoder_gets_the_plain_loss():
    notes: list[str] = []
    module = choose_loss(Projecting(LlamaConfig(**SIZES)), "fused", notes)
    assert module.finish is None and notes[0].startswith("loss: plain (a probe failed: ")
    given = batch()
    module(given.input_ids, given.attention_mask, None, given.labels, given.weights).backward()


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (LoraConfig(r=4, target_modules=["q_proj", "lm_head"]), "its head is a peft.tuners.lora"),
        (PromptTuningConfig(num_virtual_tokens=3), "learned tokens stand in front"),
        (LoraConfig(r=4, target_modules=["q_proj"], alora_invocation_tokens=[5]), "aLoRA"),
    ],
    ids=["lora on the head", "prompt tuning", "alora"],
)
def test_what_the_fused_loss_cannot_do_gets_the_plain_one_and_a_reason(config, reason):
    config = copy.deepcopy(config)
    config.task_type = "CAUSAL_LM"
    notes: list[str] = []
    module = choose_loss(get_peft_model(make("llama"), config), "fused", notes)
    assert module.finish is None and notes[0].startswith("loss: plain (") and reason in notes[0], notes


def test_a_head_with_hooks_or_of_another_kind_gets_the_plain_loss():
    notes: list[str] = []
    hooked = make("llama")
    hooked.lm_head.register_forward_hook(lambda module, inputs, output: output * 2)
    assert choose_loss(hooked, "fused", notes).finish is None and "hooks" in notes[0]

    class Quantised(nn.Linear):
        pass

    other = make("llama")
    other.lm_head.__class__ = Quantised
    assert choose_loss(other, "fused", notes).finish is None and "Quantised" in notes[1]


def test_the_probe_leaves_modes_random_state_gradients_and_hooks_as_they_were():
    model = make("llama").train()
    model.model.layers[0].eval()
    before = [m.training for m in model.modules()]
    state = torch.get_rng_state()
    fused(model)
    assert [m.training for m in model.modules()] == before
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())
    assert not model.lm_head._forward_pre_hooks


def test_auto_is_plain_on_a_cpu_and_plain_is_plain():
    notes: list[str] = []
    assert choose_loss(make("llama"), "auto", notes).finish is None
    assert choose_loss(make("llama"), "plain", notes).finish is None
    assert notes[0].startswith("loss: plain") and "cpu" in notes[0] and "asked for" in notes[1]


def test_the_models_names_gain_one_prefix_and_nothing_else():
    model = make("llama tied")
    assert list(LossModule(model).state_dict()) == [f"model.{name}" for name in model.state_dict()]
    assert len(list(LossModule(model).parameters())) == len(list(model.parameters()))


def test_ddp_around_the_module_runs_its_hooks(tmp_path):
    """One process: the bucket hook sees every gradient of the fused loss, and leaves it as it is."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        model, given = make("llama tied"), batch()
        _, expected = run(LossModule(model), given)
        wrapped = nn.parallel.DistributedDataParallel(fused(model))
        reduced: list[int] = []

        def count(_, bucket):
            reduced.append(bucket.buffer().numel())
            future = torch.futures.Future()
            future.set_result(bucket.buffer())
            return future

        wrapped.register_comm_hook(None, count)
        _, gradients = run(wrapped, given)
        assert sum(reduced) == sum(p.numel() for p in model.parameters())
        for name, reference in expected.items():
            torch.testing.assert_close(gradients[f"module.{name}"], reference, rtol=1e-4, atol=1e-5)
    finally:
        dist.destroy_process_group()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", MODELS)
def test_on_cuda_in_bf16_fused_equals_plain(name):
    model, reference = make(name).cuda().bfloat16(), make(name).bfloat16().double()
    notes: list[str] = []
    given = batch()
    with torch.autocast("cuda", torch.bfloat16):
        module = choose_loss(model, "auto", notes)
        assert module.finish is not None, notes
        loss, gradients = run(module, given.to("cuda"))
    expected, references = run(LossModule(reference), given)
    with torch.autocast("cuda", torch.bfloat16):
        plain, plain_gradients = run(LossModule(model), given.to("cuda"))
    # Not worse than the plain loss in bf16, whose own rounding in the layers is the larger part.
    assert abs(loss - expected) <= abs(plain - expected) + 1e-3 * abs(expected)
    for key, exact in references.items():
        scale = exact.norm() + 1e-6
        error = (gradients[key].cpu().double() - exact).norm() / scale
        plain_error = (plain_gradients[key].cpu().double() - exact).norm() / scale
        assert error <= 1.2 * plain_error + 1e-2, key

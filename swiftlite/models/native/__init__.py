"""Our own classes for models whose files come with code of their own: Qwen-1, ChatGLM3, Baichuan2."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM


def register_native() -> None:
    """Makes transformers' Auto classes take ours for these `model_type`s; a folder's `auto_map` then never counts."""
    from swiftlite.models.native.baichuan import BaichuanConfig, BaichuanForCausalLM, BaichuanModel
    from swiftlite.models.native.chatglm import ChatGLMConfig, ChatGLMForConditionalGeneration, ChatGLMModel
    from swiftlite.models.native.qwen import QWenConfig, QWenLMHeadModel, QWenModel

    for config, base, causal in (
        (QWenConfig, QWenModel, QWenLMHeadModel),
        (ChatGLMConfig, ChatGLMModel, ChatGLMForConditionalGeneration),
        (BaichuanConfig, BaichuanModel, BaichuanForCausalLM),
    ):
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModel.register(config, base, exist_ok=True)
        AutoModelForCausalLM.register(config, causal, exist_ok=True)

"""The families that are compared with their real Jinja templates, and the conversations they are compared on."""

import re
from dataclasses import dataclass, field

from chat_helpers import talk

TOOL = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}}
CALL = {"id": "call12345", "type": "function", "function": {"name": "look", "arguments": {"at": "there"}}}
THOUGHT = "<think>\nho\n</think>\n\n"
CASES = {
    "single": talk("uno", "duo"),
    "multi": talk("uno", " duo", "tria ", "quattuor\n"),
    "system": talk("uno", "duo", "tria", "quattuor", system="Be brief."),
    "tool": [
        {"role": "user", "content": "where?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "there", "tool_call_id": "call12345"},
        {"role": "assistant", "content": "duo"},
    ],
    "thinking": talk("uno", "<think>\nhm\n</think>\n\nduo", "tria", THOUGHT + "quattuor"),
}
SPECIAL = re.compile(
    r"<\|[^|<>\s'+]+\|>|<｜[^｜]+｜>|<(?:start|end)_of_turn>|<reserved_10[67]>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]|</?think>|</?tool_call>"
)
HERMES = '<tool_call>\n{"name": "look", "arguments": {"at": "there"}}\n</tool_call>'
LLAMA_CALL = '{"name": "look", "parameters": {"at": "there"}}'
NEMO_CALL = '[TOOL_CALLS][{"name": "look", "arguments": {"at": "there"}, "id": "call12345"}]'


@dataclass(frozen=True)
class Family:
    """A family: our row, its real template and tokenizer under shared/data, and what is trained of its answers.

    `opening` and `stop` stand around each answer, `inner` instead of `stop` behind all but the last; `trim` says that
    the template trims answers; `ending` is what we add behind the reference so that the last answer is stopped;
    `trained` overrides what is trained of a case.
    """

    row: str | None = None
    template: str | None = None
    tokenizer: str | None = None
    stop: str = ""
    inner: str | None = None
    opening: str = ""
    trim: bool = False
    ending: str = ""
    call: str = ""
    bos: str | None = None
    eos: str | None = None
    trained: dict[str, str] = field(default_factory=dict)


IM = "<|im_end|>"
EMPTY = "<think>\n\n</think>\n\n"
ACTION = (
    "<|START_THINKING|><|END_THINKING|><|START_ACTION|>[\n"
    '    {"tool_call_id": "0", "tool_name": "look", "parameters": {"at": "there"}}\n'
    "]<|END_ACTION|><|END_OF_TURN_TOKEN|>"
)
FAMILIES = {
    "ChatML": Family("chatml", "axolotl/chatml.jinja", stop=IM),
    "Qwen, Qwen2": Family("qwen", "tokenizer_config/Qwen2.json", stop=IM, eos=IM),
    "Qwen1.5": Family(None, "tokenizer_config/Qwen1.5.json", stop=IM, eos=IM, ending=IM),
    "Qwen2.5": Family("qwen2_5", "llama.cpp/Qwen-Qwen2.5-7B-Instruct.jinja", "qwen2.5", IM, eos=IM, call=HERMES),
    "Qwen3": Family(
        None,
        "tokenizer_config/Qwen3-4B.json",
        stop=IM,
        eos=IM,
        trained={
            "single": f"{EMPTY}duo{IM}",
            "multi": f" duo{IM}{EMPTY}quattuor\n{IM}",
            "system": f"duo{IM}{EMPTY}quattuor{IM}",
            "tool": f"{HERMES}{IM}{EMPTY}duo{IM}",
            "thinking": f"{THOUGHT}quattuor{IM}",
        },
    ),
    "Yi": Family("yi", "tokenizer_config/Yi-6B-Chat.json", stop=IM, eos="<|endoftext|>"),
    "InternLM 2, 3": Family("internlm"),
    "SmolLM": Family(),
    "MiniCPM3": Family(None, "tokenizer_config/MiniCPM3-4B.json", stop=IM, eos=IM),
    "MiniMind": Family(
        None,
        "../tokenizers/minimind/tokenizer_config.json",
        "minimind",
        IM,
        eos=IM,
        trained={
            "tool": f"{HERMES}{IM}duo{IM}",
            "thinking": f"hm\n</think>\n\nduo{IM}ho\n</think>\n\nquattuor{IM}",
        },
    ),
    "Llama-2": Family(
        "llama", "chat_templates/llama-2-chat.jinja", stop=" </s>", opening=" ", trim=True, bos="<s>", eos="</s>"
    ),
    "Llama-3": Family("llama3", "axolotl/llama3.jinja", stop="<|eot_id|>", trim=True, bos="<|begin_of_text|>"),
    "Llama-3.1, 3.3": Family(
        "llama3_1",
        "llama.cpp/meta-llama-Llama-3.1-8B-Instruct.jinja",
        stop="<|eot_id|>",
        trim=True,
        bos="<|begin_of_text|>",
        call=LLAMA_CALL,
    ),
    "Llama-3.2": Family(
        None,
        "llama.cpp/meta-llama-Llama-3.2-3B-Instruct.jinja",
        stop="<|eot_id|>",
        trim=True,
        bos="<|begin_of_text|>",
        call=LLAMA_CALL,
    ),
    "Hermes-3": Family(
        None,
        "llama.cpp/NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja",
        stop=IM,
        bos="<|begin_of_text|>",
        eos=IM,
        call=HERMES,
    ),
    "Mistral-7B v0.2": Family(
        "mistral", "tokenizer_config/Mistral-7B-Instruct-v0.2.json", "mistral-v0.2", "</s>", bos="<s>", eos="</s>"
    ),
    "Mistral-Nemo": Family(
        None,
        "llama.cpp/mistralai-Mistral-Nemo-Instruct-2407.jinja",
        stop="</s>",
        bos="<s>",
        eos="</s>",
        call=NEMO_CALL,
    ),
    "Mistral-Small 3": Family(None, "axolotl/mistral_v7_tekken.jinja", stop="</s>", bos="<s>", eos="</s>"),
    "Zephyr": Family("zephyr", "chat_templates/zephyr.jinja", stop="</s>", trim=True, eos="</s>"),
    "OpenBuddy": Family("openbuddy"),
    "Gemma 2": Family(
        "gemma", "llama.cpp/google-gemma-2-2b-it.jinja", stop="<end_of_turn>", trim=True, bos="<bos>", eos="<eos>"
    ),
    "Gemma 3": Family("gemma3", "axolotl/gemma3.jinja", stop="<end_of_turn>", trim=True, bos="<bos>", eos="<eos>"),
    "Phi-3.5": Family("phi3", "llama.cpp/microsoft-Phi-3.5-mini-instruct.jinja", stop="<|end|>", eos="<|endoftext|>"),
    "Phi-4": Family("phi4", "axolotl/phi_4.jinja", stop=IM, eos=IM),
    "ChatGLM3": Family(
        "chatglm3",
        "tokenizer_config/chatglm3-6b.json",
        stop="<|user|>",
        opening=" \n ",
        ending="<|user|>",
    ),
    "GLM-4": Family("glm4"),
    "Baichuan2": Family("baichuan", "vllm/template_baichuan.jinja", stop="</s>", inner="", eos="</s>", ending="</s>"),
    "DeepSeek-R1 distills": Family(
        "deepseek_r1",
        "llama.cpp/deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja",
        stop="<｜end▁of▁sentence｜>",
        bos="<｜begin▁of▁sentence｜>",
        eos="<｜end▁of▁sentence｜>",
        trained={"thinking": f"{THOUGHT}quattuor<｜end▁of▁sentence｜>"},
    ),
    "Command-R7B": Family(
        None,
        "llama.cpp/CohereForAI-c4ai-command-r7b-12-2024-tool_use.jinja",
        stop="<|END_RESPONSE|><|END_OF_TURN_TOKEN|>",
        opening="<|START_RESPONSE|>",
        eos="<|END_OF_TURN_TOKEN|>",
        trained={"tool": f"{ACTION}<|START_RESPONSE|>duo<|END_RESPONSE|><|END_OF_TURN_TOKEN|>"},
    ),
    "default": Family("default"),
}

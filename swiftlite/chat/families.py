"""The chat formats of model families: one row of data each.

Rows follow the Jinja template that the family's makers publish, where there is one (docs/models.md says which agree
with it); the others follow ms-swift's. A family whose template no row can say (dates, rewritten turns) has none: its
tokenizer's own is used.
"""

from dataclasses import replace

from swiftlite.chat.formats import Pieces

_ALL = ("system", "user", "assistant")
_BUDDY = (
    "You are a helpful, respectful and honest INTP-T AI Assistant named Buddy. You are talking to a human User.\n"
    "Always answer as helpfully and logically as possible, while being safe. Your answers should not include any "
    "harmful, political, religious, unethical, racist, sexist, toxic, dangerous, or illegal content. Please ensure "
    "that your responses are socially unbiased and positive in nature.\n"
    "If a question does not make any sense, or is not factually coherent, explain why instead of answering something "
    "not correct. If you don't know the answer to a question, please don't share false information.\n"
    "You like to use emojis. You can speak fluently in many languages, for example: English, Chinese.\n"
    "You cannot access the internet, but you have vast knowledge, cutoff: 2021-09.\n"
    "You are trained by OpenBuddy team, (https://openbuddy.ai, https://github.com/OpenBuddy/OpenBuddy), you are based "
    "on LLaMA and Falcon transformers model, not related to GPT or OpenAI."
)

CHATML = Pieces(
    specials={"<|im_start|>": None, "<|im_end|>": None},
    system_prefix="<|im_start|>system\n{system}<|im_end|>\n",
    prompt="<|im_start|>user\n{query}<|im_end|>\n",
    response_prefix="<|im_start|>assistant\n",
    chat_sep="<|im_end|>\n",
    suffix="<|im_end|>\n",
    tools=True,
)

LLAMA2 = Pieces(
    specials={"<s>": None, "</s>": None},
    prefix="<s>[INST] ",
    system_prefix="<s>[INST] <<SYS>>\n{system}\n<</SYS>>\n\n",
    prompt="{query} [/INST]",
    opening=" ",
    chat_sep=" </s><s>[INST] ",
    suffix=" </s>",
    trim=_ALL,
)

LLAMA3 = Pieces(
    specials={"<|begin_of_text|>": None, "<|start_header_id|>": None, "<|end_header_id|>": None, "<|eot_id|>": None},
    prefix="<|begin_of_text|>",
    system_prefix="<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>",
    prompt="<|start_header_id|>user<|end_header_id|>\n\n{query}<|eot_id|>",
    response_prefix="<|start_header_id|>assistant<|end_header_id|>\n\n",
    chat_sep="<|eot_id|>",
    suffix="<|eot_id|>",
    trim=_ALL,
)
_LLAMA3_1 = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n{system}<|eot_id|>"
)

GEMMA = Pieces(
    specials={"<bos>": None, "<start_of_turn>": None, "<end_of_turn>": None},
    prefix="<bos><start_of_turn>user\n",
    prompt="{query}<end_of_turn>\n",
    response_prefix="<start_of_turn>model\n",
    chat_sep="<end_of_turn>\n<start_of_turn>user\n",
    suffix="<end_of_turn>\n",
    trim=("user", "assistant"),
)

# The token that opens the next turn ends an answer. The space before a text is the one that the original, slow
# tokenizer puts there by itself.
CHATGLM3 = Pieces(
    specials={
        "[gMASK]": 64790,
        "sop": 64792,
        "<|system|>": 64794,
        "<|user|>": 64795,
        "<|assistant|>": 64796,
    },
    prefix="[gMASK]sop<|user|>",
    system_prefix="[gMASK]sop<|system|> \n {system}<|user|>",
    prompt=" \n {query}",
    response_prefix="<|assistant|>",
    opening=" \n ",
    chat_sep="<|user|>",
    suffix="<|user|>",
)

FAMILIES: dict[str, Pieces] = {
    "chatml": CHATML,
    "qwen": replace(CHATML, default_system="You are a helpful assistant."),
    "qwen2_5": replace(CHATML, default_system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    "yi": replace(CHATML, tools=False),
    "internlm": replace(
        CHATML,
        specials={**CHATML.specials, "<s>": None},
        prefix="<s>",
        system_prefix=f"<s>{CHATML.system_prefix}",
        tools=False,
    ),
    "llama": LLAMA2,
    "llama2": LLAMA2,
    "llama3": LLAMA3,
    "llama3_1": replace(LLAMA3, system_prefix=_LLAMA3_1, prefix=_LLAMA3_1.replace("{system}", "")),
    "mistral": Pieces(
        specials={"<s>": None, "</s>": None},
        prefix="<s>",
        prompt="[INST] {query} [/INST]",
        chat_sep="</s>",
        suffix="</s>",
    ),
    "zephyr": Pieces(
        specials={"</s>": None},
        system_prefix="<|system|>\n{system}</s>\n",
        prompt="<|user|>\n{query}</s>\n",
        response_prefix="<|assistant|>\n",
        chat_sep="</s>\n",
        suffix="</s>\n",
        trim=_ALL,
    ),
    "gemma": GEMMA,
    "gemma3": replace(GEMMA, system_prefix="<bos><start_of_turn>user\n{system}\n\n"),
    "phi3": Pieces(
        specials={"<|system|>": None, "<|user|>": None, "<|assistant|>": None, "<|end|>": None, "<|endoftext|>": None},
        system_prefix="<|system|>\n{system}<|end|>\n",
        prompt="<|user|>\n{query}<|end|>\n",
        response_prefix="<|assistant|>\n",
        chat_sep="<|end|>\n",
        suffix="<|end|>\n<|endoftext|>",
    ),
    "phi4": Pieces(
        specials={"<|im_start|>": None, "<|im_sep|>": None, "<|im_end|>": None},
        system_prefix="<|im_start|>system<|im_sep|>{system}<|im_end|>",
        prompt="<|im_start|>user<|im_sep|>{query}<|im_end|>",
        response_prefix="<|im_start|>assistant<|im_sep|>",
        chat_sep="<|im_end|>",
        suffix="<|im_end|>",
    ),
    "chatglm3": CHATGLM3,
    "glm4": Pieces(
        specials=dict.fromkeys(["[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>"]),
        prefix="[gMASK]<sop><|user|>",
        system_prefix="[gMASK]<sop><|system|>\n{system}<|user|>",
        prompt="\n{query}",
        response_prefix="<|assistant|>",
        opening="\n",
        chat_sep="<|user|>",
        suffix="<|user|>",
    ),
    "baichuan": Pieces(
        specials={"<reserved_106>": 195, "<reserved_107>": 196},
        system_prefix="{system}",
        prompt="<reserved_106>{query}",
        response_prefix="<reserved_107>",
        suffix="{eos}",
    ),
    "deepseek_r1": Pieces(
        specials=dict.fromkeys(["<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"]),
        prefix="<｜begin▁of▁sentence｜>",
        system_prefix="<｜begin▁of▁sentence｜>{system}",
        prompt="<｜User｜>{query}",
        response_prefix="<｜Assistant｜>",
        generation="<think>\n",
        chat_sep="<｜end▁of▁sentence｜>",
        suffix="<｜end▁of▁sentence｜>",
        thinking=True,
    ),
    "openbuddy": Pieces(
        prefix="{bos}",
        system_prefix="{bos}{system}\n\n",
        prompt="User: {query}\n",
        response_prefix="Assistant:",
        opening=" ",
        chat_sep="\n",
        suffix="{eos}",
        default_system=_BUDDY,
    ),
    "default": Pieces(
        prefix="{bos}",
        system_prefix="{bos}{system}\n\n",
        prompt="### Human:\n{query}\n\n",
        response_prefix="### Assistant:\n",
        chat_sep="{eos}\n\n",
        suffix="{eos}",
        default_system="You are a helpful assistant.",
    ),
}

"""The data sets that have a name here: where they lie on the hubs, and what their columns mean."""

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from swiftlite.data.values import BadRow, checked_text

Kind = Literal["chat", "agent", "code", "math", "classification", "text", "preference"]
Row = dict[str, Any]


class LeftOut(BadRow):
    """A row that its data set's own rule leaves out: counted and listed, but nothing to stop for."""


@dataclass(frozen=True)
class DatasetInfo:
    """One registered name: a file, or hub ids.

    Attributes:
        file: path relative to swiftlite/data, or absolute.
        hf, ms: ids on huggingface.co and modelscope.cn.
        subset: the hub's name of a part; several are joined by `/`.
        split: the hub's name of a split; several are joined by `+`.
        columns: renames needed to recognise its rows, like --columns.
        adapt: rewrites a row of which no rename makes a conversation; raises BadRow or LeftOut.
        count: rows drawn where a user does not say #N; None: all.
        kind: what it is for; `swiftlite sft` refuses the rows of "preference".
    """

    name: str
    file: str | None = None
    hf: str | None = None
    ms: str | None = None
    subset: str | None = None
    split: str = "train"
    columns: dict[str, str] = field(default_factory=dict)
    adapt: Callable[[Row], Row] | None = None
    count: int | None = None
    kind: Kind = "chat"


def _python_turns(row: Row) -> Row:
    """The ModelScope files write a conversation as the text of a Python list."""
    turns = row.get("conversations")
    if not isinstance(turns, str):
        return row
    try:
        return {**row, "conversations": ast.literal_eval(turns)}
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return row  # perhaps JSON; if not, refused as such


def _ms_bench(row: Row) -> Row:
    """ms-swift's rule: the default system prompt goes, and so do conversations in which MOSS names itself."""
    turns = _python_turns(row).get("conversations")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return row
    if turns and turns[0].get("from") == "system" and turns[0].get("value") == "You are a helpful assistant.":
        turns = turns[1:]
    said = " ".join(str(turn.get("value")) for turn in turns).lower()
    if any(word in said for word in ("moss", "human:", "assistant:", "user:")):
        raise LeftOut("it speaks of MOSS or quotes another dialogue")
    return {**row, "conversations": turns}


def _dureader_robust(row: Row) -> Row:
    """`text1` holds the answer and its context; the question, `text2`, is what is asked for."""
    answer, separator, context = checked_text(row.get("text1"), "text1").partition("[SEP]")
    if not separator or "[SEP]" in context:
        raise BadRow("content of the wrong type", "text1 is not two texts", "ANSWER[SEP]CONTEXT")
    query = f"Task: Question Generation\nContext: {context}\nAnswer: {answer}\nQuestion:"
    return {"query": query, "response": row.get("text2")}


def _long_alpaca(row: Row) -> Row:
    """ms-swift's rule: `Answer:` before an answer is not part of it."""
    output = row.get("output")
    if isinstance(output, str) and output.startswith("Answer:"):
        return {**row, "output": output.removeprefix("Answer:").strip()}
    return row


_PROMPT_ANSWER = {"prompt": "query", "answer": "response"}
_QUESTION_ANSWER = {"question": "query", "answer": "response"}
_INSTRUCTION = {"instruction": "query", "output": "response"}
# Names, ids and columns: ms-swift 1.7 and 2.0 (swift/llm/utils/dataset.py, swift/llm/data/dataset_info.json).
CATALOGUE = (
    DatasetInfo("demo", file="embedded/demo.jsonl"),
    DatasetInfo("demo-eval", file="embedded/demo-eval.jsonl"),
    DatasetInfo("nano-eval", file="embedded/nano-eval.jsonl"),
    # general
    DatasetInfo("ms-bench", ms="iic/ms_bench", adapt=_ms_bench),
    DatasetInfo("ms-bench-mini", ms="iic/ms_bench", adapt=_ms_bench, count=20_000),
    DatasetInfo("alpaca-en", hf="vicgalle/alpaca-gpt4", ms="AI-ModelScope/alpaca-gpt4-data-en"),
    DatasetInfo("alpaca-zh", hf="llm-wizard/alpaca-gpt4-data-zh", ms="AI-ModelScope/alpaca-gpt4-data-zh"),
    DatasetInfo("alpaca-cleaned", hf="yahma/alpaca-cleaned", ms="AI-ModelScope/alpaca-cleaned"),
    DatasetInfo("long-alpaca-12k", hf="Yukang/LongAlpaca-12k", ms="AI-ModelScope/LongAlpaca-12k", adapt=_long_alpaca),
    DatasetInfo("multi-alpaca", ms="damo/nlp_polylm_multialpaca_sft", subset="ar/de/es/fr/id/ja/ko/pt/ru/th/vi"),
    DatasetInfo("cot-en", ms="YorickHe/CoT"),
    DatasetInfo("cot-zh", ms="YorickHe/CoT_zh"),
    DatasetInfo("gpt4all-en", ms="wyj123456/GPT4all"),
    DatasetInfo("instinwild", ms="wyj123456/instinwild", subset="default/subset"),
    DatasetInfo("instruct-en", ms="wyj123456/instruct"),
    DatasetInfo(
        "coig-cqia",
        ms="AI-ModelScope/COIG-CQIA",
        subset="chinese_traditional/coig_pc/exam/finance/douban/human_value/logi_qa/ruozhiba/segmentfault/wiki/"
        "wikihow/xhs/zhihu",
    ),
    DatasetInfo("tulu-v2-sft-mixture", hf="allenai/tulu-v2-sft-mixture", ms="AI-ModelScope/tulu-v2-sft-mixture"),
    DatasetInfo(
        "open-orca",
        hf="Open-Orca/OpenOrca",
        ms="AI-ModelScope/OpenOrca",
        columns={"system_prompt": "system", "question": "query"},
    ),
    DatasetInfo("slim-orca", hf="Open-Orca/SlimOrca", ms="swift/SlimOrca"),
    DatasetInfo("open-hermes", hf="teknium/OpenHermes-2.5", ms="swift/OpenHermes-2.5"),
    DatasetInfo("no-robots", hf="HuggingFaceH4/no_robots", ms="swift/no_robots"),
    DatasetInfo("ultrachat-200k", hf="HuggingFaceH4/ultrachat_200k", ms="swift/ultrachat_200k", split="train_sft"),
    DatasetInfo("sharegpt-gpt4", ms="AI-ModelScope/sharegpt_gpt4", subset="default/V3_format/zh_38K_format"),
    DatasetInfo("generated-chat-zh", hf="BelleGroup/generated_chat_0.4M", ms="AI-ModelScope/generated_chat_0.4M"),
    DatasetInfo("webnovel-zh", hf="zxbsmk/webnovel_cn", ms="AI-ModelScope/webnovel_cn"),
    DatasetInfo("finance-en", hf="ssbuild/alpaca_finance_en", ms="wyj123456/finance_en"),
    DatasetInfo(
        "medical-en",
        ms="swift/medical_zh",
        subset="en",
        split="train+val+test",
        columns={"input": "query", "output": "response"},
    ),
    DatasetInfo("medical-zh", ms="swift/medical_zh", subset="zh", split="train+val+test", columns=_INSTRUCTION),
    DatasetInfo("disc-med-sft-zh", hf="Flmc/DISC-Med-SFT", ms="AI-ModelScope/DISC-Med-SFT"),
    DatasetInfo(
        "disc-law-sft-zh",
        hf="ShengbinYue/DISC-Law-SFT",
        ms="AI-ModelScope/DISC-Law-SFT",
        columns={"input": "query", "output": "response"},
    ),
    DatasetInfo(
        "lawyer-llama-zh",
        hf="Skepsun/lawyer_llama_data",
        ms="AI-ModelScope/lawyer_llama_data",
        columns={**_INSTRUCTION, "history": "_"},
    ),
    # agents
    DatasetInfo("ms-agent", ms="iic/ms_agent", adapt=_python_turns, kind="agent"),
    DatasetInfo(
        "ms-agent-for-agentfabric",
        ms="AI-ModelScope/ms_agent_for_agentfabric",
        subset="default/addition",
        kind="agent",
    ),
    # code
    DatasetInfo("code-alpaca-en", hf="sahil2801/CodeAlpaca-20k", ms="wyj123456/code_alpaca_en", kind="code"),
    DatasetInfo(
        "codefuse-python-en",
        hf="codefuse-ai/CodeExercise-Python-27k",
        ms="codefuse-ai/CodeExercise-Python-27k",
        columns={"chat_rounds": "messages"},
        kind="code",
    ),
    DatasetInfo(
        "codefuse-evol-instruction-zh",
        hf="codefuse-ai/Evol-instruction-66k",
        ms="codefuse-ai/Evol-instruction-66k",
        columns=_INSTRUCTION,
        kind="code",
    ),
    DatasetInfo(
        "sql-create-context-en",
        hf="b-mc2/sql-create-context",
        ms="AI-ModelScope/sql-create-context",
        columns={"question": "instruction", "context": "input", "answer": "output"},
        kind="code",
    ),
    # mathematics
    DatasetInfo(
        "gsm8k", hf="openai/gsm8k", ms="modelscope/gsm8k", subset="main", columns=_QUESTION_ANSWER, kind="math"
    ),
    DatasetInfo("school-math-zh", hf="BelleGroup/school_math_0.25M", ms="AI-ModelScope/school_math_0.25M", kind="math"),
    DatasetInfo("open-platypus-en", hf="garage-bAInd/Open-Platypus", ms="AI-ModelScope/Open-Platypus", kind="math"),
    DatasetInfo("math-instruct", hf="TIGER-Lab/MathInstruct", ms="AI-ModelScope/MathInstruct", kind="math"),
    # classification and short answers
    DatasetInfo("cls-fudan-news-zh", ms="damo/zh_cls_fudan-news", columns=_PROMPT_ANSWER, kind="classification"),
    DatasetInfo("ner-jave-zh", ms="damo/zh_ner-JAVE", columns=_PROMPT_ANSWER, kind="classification"),
    DatasetInfo(
        "dureader-robust-zh",
        ms="modelscope/DuReader_robust-QG",
        split="train+validation",
        adapt=_dureader_robust,
        kind="classification",
    ),
    # plain text
    DatasetInfo(
        "wikipedia-zh",
        hf="pleisto/wikipedia-cn-20230720-filtered",
        ms="AI-ModelScope/wikipedia-cn-20230720-filtered",
        columns={"completion": "text"},
        kind="text",
    ),
    DatasetInfo(
        "pileval", hf="mit-han-lab/pile-val-backup", ms="swift/pile-val-backup", split="validation", kind="text"
    ),
    DatasetInfo("poetry-zh", ms="modelscope/chinese-poetry-collection", columns={"text1": "text"}, kind="text"),
    # preferences
    DatasetInfo("hh-rlhf", hf="Anthropic/hh-rlhf", ms="AI-ModelScope/hh-rlhf", kind="preference"),
    DatasetInfo("orca-dpo-pairs", hf="Intel/orca_dpo_pairs", ms="swift/orca_dpo_pairs", kind="preference"),
    DatasetInfo("zhihu-rlhf-zh", hf="liyucheng/zhihu_rlhf_3k", ms="AI-ModelScope/zhihu_rlhf_3k", kind="preference"),
)

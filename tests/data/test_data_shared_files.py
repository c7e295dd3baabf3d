"""Every public data set kept beside this repository is read whole, or refused with file, row and reason."""

from typing import Any

import pytest

from swiftlite.chat.encoded import Encoded
from swiftlite.config.errors import UserError
from swiftlite.data.loading import load_data

# file: (rows kept, rows dropped by reason), or a part of the sentence that refuses the file. Row counts are those of
# the data's INDEX.md; the two blank answers of alpaca_5k were counted apart.
TEST_PROMPT = "another kind of row: a function-calling test without an answer"
TEST_ANSWER = "another kind of row: the answers of a test without its questions"
TOOL_TESTS = "another kind of row: a ToolAlpaca tool with its tests"
INSTANCES = "another kind of row: a self-instruct task with a list of instances"
SENTENCE = "another kind of row: a labelled sentence"
ANSWER_ONLY = "another kind of row: an answer without a question"
SQUAD = "another kind of row: a SQuAD file in one piece"
UNKNOWN = "unknown fields"
MEDIA = "row with media: it has the field images"
PAIR = "preference row: a better and a worse answer, for rlhf"
JUDGED = "preference row: an answer judged good or bad, for rlhf"
OUTCOMES: dict[str, Any] = {
    "sft/agent/bfcl/BFCL_v4_irrelevance.json": (0, {TEST_PROMPT: 240}),
    "sft/agent/bfcl/BFCL_v4_multi_turn_base.json": (0, {UNKNOWN: 200}),
    "sft/agent/bfcl/BFCL_v4_multiple.json": (0, {TEST_PROMPT: 200}),
    "sft/agent/bfcl/BFCL_v4_parallel.json": (0, {TEST_PROMPT: 200}),
    "sft/agent/bfcl/BFCL_v4_simple_python.json": (0, {TEST_PROMPT: 400}),
    "sft/agent/bfcl/possible_answer/BFCL_v4_multi_turn_base.json": (0, {TEST_ANSWER: 200}),
    "sft/agent/bfcl/possible_answer/BFCL_v4_multiple.json": (0, {TEST_ANSWER: 200}),
    "sft/agent/bfcl/possible_answer/BFCL_v4_parallel.json": (0, {TEST_ANSWER: 200}),
    "sft/agent/bfcl/possible_answer/BFCL_v4_simple_python.json": (0, {TEST_ANSWER: 400}),
    "sft/agent/toolalpaca_eval_real.json": (0, {TOOL_TESTS: 11}),
    "sft/agent/toolalpaca_eval_simulated.json": (0, {TOOL_TESTS: 10}),
    "sft/alpaca/alpaca_5k.json": (4998, {"empty content: output": 2}),
    "sft/chatlm_mini_zh/my_test_dataset_2k.parquet": (2000, {}),
    "sft/chatlm_mini_zh/my_train_dataset_3k.parquet": (3000, {}),
    "sft/chatlm_mini_zh/my_valid_dataset_1k.parquet": (1000, {}),
    # A .txt file is one text.
    "sft/cls_zh/thucnews_class.txt": (1, {}),
    "sft/cls_zh/thucnews_dev.txt": (1, {}),
    "sft/cls_zh/tnews_dev_few_all.json": (0, {SENTENCE: 1098}),
    "sft/cls_zh/tnews_label_index2en2zh.json": (0, {UNKNOWN: 15}),
    "sft/cls_zh/tnews_test_public.json": (0, {SENTENCE: 2010}),
    "sft/cls_zh/tnews_train_few_all.json": (0, {SENTENCE: 1185}),
    "sft/dolly/dolly_3k.json": (2996, {}),
    "sft/llamafactory/DATA_FORMATS.md": "has the suffix '.md'; expected one of .json",
    "sft/llamafactory/alpaca_en_demo.json": (999, {}),
    "sft/llamafactory/alpaca_zh_demo.json": (1000, {}),
    "sft/llamafactory/dataset_info.json": (0, {UNKNOWN: 1}),
    "sft/llamafactory/glaive_toolcall_en_demo.json": (300, {}),
    "sft/llamafactory/glaive_toolcall_zh_demo.json": (300, {}),
    "sft/llamafactory/identity.json": (91, {}),
    "sft/llamafactory/reason_tool_use_demo_50.jsonl": (50, {}),
    "sft/llamafactory/v1_sft_demo.jsonl": (500, {}),
    "sft/mrc_zh/cmrc2018_trial.squad.json": (0, {SQUAD: 1}),
    "sft/ms_swift_formats/alpaca.csv": (3, {}),
    "sft/ms_swift_formats/alpaca.jsonl": (3, {}),
    "sft/ms_swift_formats/alpaca2.csv": (3, {}),
    "sft/ms_swift_formats/chatml.jsonl": (3, {}),
    "sft/ms_swift_formats/conversations.jsonl": (3, {}),
    "sft/ms_swift_formats/dataset_info.json": (0, {UNKNOWN: 111}),
    "sft/ms_swift_formats/loss_scale/agentflan.json": (0, {"content of the wrong type: query is": 1}),
    "sft/ms_swift_formats/loss_scale/alpha_umi.json": (0, {UNKNOWN: 1}),
    "sft/ms_swift_formats/loss_scale/ignore_empty_think.json": (0, {UNKNOWN: 1}),
    "sft/ms_swift_formats/loss_scale/qwen.json": (0, {UNKNOWN: 1}),
    "sft/ms_swift_formats/loss_scale/react.json": (0, {UNKNOWN: 1}),
    # Its media are text inside the questions: <img>https://...</img>.
    "sft/ms_swift_formats/multi_modal_1.jsonl": (3, {}),
    "sft/ms_swift_formats/multi_modal_2.jsonl": (0, {MEDIA: 3}),
    "sft/ms_swift_formats/multi_modal_3.jsonl": (0, {MEDIA: 3}),
    "sft/ms_swift_formats/sharegpt.jsonl": (3, {}),
    "sft/ms_swift_formats/swift_multi.json": (3, {}),
    "sft/ms_swift_formats/swift_multi.jsonl": (3, {}),
    "sft/ms_swift_formats/swift_pre.csv": (0, {ANSWER_ONLY: 3}),
    "sft/ms_swift_formats/swift_pre.jsonl": (0, {ANSWER_ONLY: 3}),
    "sft/ms_swift_formats/swift_single.csv": (3, {}),
    "sft/ms_swift_formats/swift_single.jsonl": (3, {}),
    "sft/multi_turn/fastchat_dummy_conversation.json": (500, {}),
    "sft/multi_turn/firefly_dummy_data.jsonl": (33, {}),
    "sft/oasst/oaast_sft_zh.json": (689, {}),
    "sft/self_instruct/seed_tasks.jsonl": (0, {INSTANCES: 175}),
    "sft/self_instruct/user_oriented_instructions.jsonl": (0, {INSTANCES: 252}),
    "pref/firefly_dummy_dpo.jsonl": (0, {PAIR: 16}),
    "pref/hh_rlhf/harmless-base.test.jsonl.gz": (0, {PAIR: 2312}),
    "pref/llamafactory/dpo_en_demo.json": (0, {PAIR: 300}),
    "pref/llamafactory/dpo_zh_demo.json": (0, {PAIR: 300}),
    "pref/llamafactory/kto_en_demo.json": (0, {JUDGED: 300}),
    "pref/llamafactory/v1_dpo_demo.jsonl": (0, {PAIR: 10}),
}


class TurnTemplate:
    """Three tokens for each turn, the last one trained in answers: quick, whatever the length of the texts."""

    name, fingerprint, stop_token_ids = "turns", "turns-1", (3,)

    def jinja(self) -> str:
        return "{{ message.reasoning_content }}"

    def encode_batch(self, conversations: list[dict[str, Any]]) -> list[Encoded]:
        ends = [[float(m["role"] == "assistant") for m in c["messages"]] for c in conversations]
        return [Encoded([1, 2, 3] * len(end), [w for e in end for w in (0.0, 0.0, e)]) for end in ends]


class OneToken:
    """A plain text is one token and the end."""

    eos_token_id = 2
    bos_token_id = None

    def __call__(self, texts: str | list[str], **_: Any) -> dict[str, Any]:
        return {"input_ids": [1] if isinstance(texts, str) else [[1]] * len(texts)}


def test_the_table_knows_every_file(shared):
    files = [path for folder in ("sft", "pref") for path in (shared / folder).rglob("*") if path.is_file()]
    assert {path.relative_to(shared).as_posix() for path in files} == set(OUTCOMES)


@pytest.mark.parametrize("file", OUTCOMES)
def test_shared_file(shared, file, config):
    path = shared / file
    expected = OUTCOMES[file]
    if isinstance(expected, str):
        with pytest.raises(UserError) as caught:
            load_data(config(str(path)), TurnTemplate(), tokenizer=OneToken())
        assert expected in str(caught.value) and str(path) in str(caught.value)
        return
    kept, dropped = expected
    options = {"on_bad_row": "drop", "max_length": 10_000}
    if kept:
        source = load_data(config(str(path), **options), TurnTemplate(), tokenizer=OneToken()).report["sources"][0]
        assert (source["kept"], source["rows"]) == (kept, kept + sum(dropped.values()))
        found = {entry["examples"][0]["reason"]: entry["count"] for entry in source["dropped"].values()}
        assert found == dropped
    else:
        ((reason, rows),) = dropped.items()
        with pytest.raises(UserError, match=f"all {rows} rows were dropped"):
            load_data(config(str(path), **options), TurnTemplate(), tokenizer=OneToken())
    for reason in dropped:
        with pytest.raises(UserError) as caught:
            load_data(config(str(path)), TurnTemplate(), tokenizer=OneToken())
        assert reason in str(caught.value)
        assert any(f"{path}, {unit} " in str(caught.value) for unit in ("line", "row"))


@pytest.mark.parametrize(
    ("file", "columns", "rows"),
    [
        ("sft/cls_zh/tnews_dev_few_all.json", {"sentence": "query", "label_desc": "response"}, 1098),
        ("sft/ms_swift_formats/swift_pre.csv", {"response": "text"}, 3),
        ("pref/firefly_dummy_dpo.jsonl", {"chosen": "_", "rejected": "_"}, 16),
        ("pref/hh_rlhf/harmless-base.test.jsonl.gz", {"chosen": "text", "rejected": "_"}, 2312),
        ("pref/llamafactory/kto_en_demo.json", {"label": "_"}, 300),
        ("pref/llamafactory/v1_dpo_demo.jsonl", {"chosen_messages": "messages", "rejected_messages": "_"}, 10),
    ],
)
def test_columns_make_a_refused_file_plain(shared, file, columns, rows, config):
    given = config(str(shared / file), columns=columns)
    assert len(load_data(given, TurnTemplate(), tokenizer=OneToken()).train) == rows


def test_tool_conversations_come_in_one_layout(shared, config):
    """LLaMA-Factory's sharegpt and its newer layout, both as OpenAI's messages."""
    seen = []

    class Watching(TurnTemplate):
        def encode_batch(self, conversations):
            seen.extend(conversations)
            return super().encode_batch(conversations)

    folder = shared / "sft" / "llamafactory"
    files = [str(folder / name) for name in ("glaive_toolcall_en_demo.json", "reason_tool_use_demo_50.jsonl")]
    load_data(config(*files), Watching())
    turns = [m for row in seen for m in row["messages"]]
    assert {m["role"] for m in turns} == {"system", "user", "assistant", "tool"}
    functions = [c["function"] for m in turns for c in m.get("tool_calls", ())]
    assert len(functions) > 200 and all(isinstance(f["arguments"], dict) for f in functions)
    tools = [tool for row in seen for tool in row.get("tools", ())]
    assert len(tools) > 200 and all(tool["type"] == "function" and tool["function"]["name"] for tool in tools)
    # 59 + 41 + 9 + 3 turns of the newer file think first (counted with a few lines of Python on the raw file).
    assert sum("reasoning_content" in m for m in turns) == 112

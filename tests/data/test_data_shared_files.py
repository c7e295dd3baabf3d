"""The public data sets kept beside this repository are read whole, or refused with a reason a row."""

from collections import Counter

import pytest

from swiftlite.data.formats import BadRow, convert_row
from swiftlite.data.readers import Unreadable, find_files, read_file


def outcome(path):
    """(conversations, plain texts, reasons of the others) of a file."""
    conversations, texts, refused = 0, 0, Counter()
    for file in find_files(path):
        for row, _ in read_file(file):
            try:
                if isinstance(row, Unreadable):
                    raise BadRow("not readable", row.reason)
                content = convert_row(row).content
            except BadRow as error:
                refused[error.kind] += 1
                continue
            conversations += "messages" in content
            texts += "text" in content
    return conversations, texts, dict(refused)


# Row counts are those of the data's INDEX.md; the two blank answers of alpaca_5k were counted apart.
@pytest.mark.parametrize(
    ("file", "conversations", "texts", "refused"),
    [
        ("alpaca/alpaca_5k.json", 4998, 0, {"empty content": 2}),
        ("chatlm_mini_zh/my_test_dataset_2k.parquet", 2000, 0, {}),
        ("chatlm_mini_zh/my_valid_dataset_1k.parquet", 1000, 0, {}),
        ("dolly/dolly_3k.json", 2996, 0, {}),
        ("llamafactory/alpaca_en_demo.json", 999, 0, {}),
        ("llamafactory/alpaca_zh_demo.json", 1000, 0, {}),
        ("llamafactory/glaive_toolcall_en_demo.json", 300, 0, {}),
        ("llamafactory/glaive_toolcall_zh_demo.json", 300, 0, {}),
        ("llamafactory/identity.json", 91, 0, {}),
        ("llamafactory/v1_sft_demo.jsonl", 500, 0, {}),
        ("ms_swift_formats/alpaca.csv", 3, 0, {}),
        ("ms_swift_formats/alpaca.jsonl", 3, 0, {}),
        ("ms_swift_formats/alpaca2.csv", 3, 0, {}),
        ("ms_swift_formats/chatml.jsonl", 3, 0, {}),
        ("ms_swift_formats/conversations.jsonl", 3, 0, {}),
        ("ms_swift_formats/multi_modal_1.jsonl", 3, 0, {}),
        ("ms_swift_formats/sharegpt.jsonl", 3, 0, {}),
        ("ms_swift_formats/swift_multi.json", 3, 0, {}),
        ("ms_swift_formats/swift_multi.jsonl", 3, 0, {}),
        ("ms_swift_formats/swift_single.csv", 3, 0, {}),
        ("ms_swift_formats/swift_single.jsonl", 3, 0, {}),
        ("multi_turn/fastchat_dummy_conversation.json", 500, 0, {}),
        ("oasst/oaast_sft_zh.json", 689, 0, {}),
        # Other kinds: refused by name.
        ("agent/bfcl/BFCL_v4_multiple.json", 0, 0, {"unknown fields": 200}),
        ("agent/bfcl/possible_answer/BFCL_v4_parallel.json", 0, 0, {"unknown fields": 200}),
        ("agent/toolalpaca_eval_real.json", 0, 0, {"unknown fields": 11}),
        ("cls_zh/tnews_dev_few_all.json", 0, 0, {"unknown fields": 1098}),
        ("llamafactory/dataset_info.json", 0, 0, {"unknown fields": 1}),
        ("llamafactory/reason_tool_use_demo_50.jsonl", 0, 0, {"content of the wrong type": 50}),
        ("mrc_zh/cmrc2018_trial.squad.json", 0, 0, {"unknown fields": 1}),
        ("ms_swift_formats/multi_modal_2.jsonl", 0, 0, {"row with media": 3}),
        ("ms_swift_formats/swift_pre.csv", 0, 0, {"unknown fields": 3}),
        ("ms_swift_formats/swift_pre.jsonl", 0, 0, {"unknown fields": 3}),
        ("self_instruct/seed_tasks.jsonl", 0, 0, {"unknown fields": 175}),
    ],
)
def test_shared_file(shared, file, conversations, texts, refused):
    assert outcome(shared / "sft" / file) == (conversations, texts, refused)


def test_every_shared_file_is_read_or_refused_without_a_traceback(shared):
    for folder in ("sft", "pref"):
        for path in find_files(shared / folder):
            if path.stat().st_size < 2_000_000:
                assert sum(map(bool, outcome(path))) >= 1, path

"""Names, paths and #N find their rows; an unknown name gets the closest one."""

import json
import sys
import types

import datasets
import pytest

from swiftlite.config.errors import UserError
from swiftlite.data import registry
from swiftlite.data.catalogue import CATALOGUE, DatasetInfo
from swiftlite.data.formats import convert_row
from swiftlite.data.loading import load_data
from swiftlite.data.readers import Omitted, Unreadable
from swiftlite.data.registry import dataset_names, register_dataset, resolve
from swiftlite.data.sources import FileSource, HubSource


def test_path_with_a_count(write, qa):
    path = write("a.jsonl", qa(3))
    source = resolve(path + "#2")
    assert (source.count, source.files, source.count_rows()) == (2, [path], 3)


def test_a_file_name_may_hold_the_sign(write, qa):
    path = write("a#1.jsonl", qa(3))
    assert resolve(path).count is None
    assert resolve(path + "#2").count == 2


@pytest.mark.parametrize("tail", ["0", "-1", "x", "1.5", ""])
def test_a_count_that_is_none(write, qa, tail):
    with pytest.raises(UserError, match="is not a number of rows"):
        resolve(write("a.jsonl", qa(1)) + "#" + tail)


def test_unknown_name_gets_the_closest_and_the_note_about_paths():
    with pytest.raises(UserError, match=r"no such path exists; did you mean gsm8k\?"):
        resolve("gsm8")


def test_missing_path_gets_the_closest_file(write, qa, tmp_path):
    write("train.jsonl", qa(1))
    with pytest.raises(UserError, match=r"did you mean train\.jsonl\?"):
        resolve(str(tmp_path / "trein.jsonl"))


def test_the_flag_is_named():
    with pytest.raises(UserError, match="--val_dataset nowhere"):
        resolve("nowhere", "val_dataset")


def test_an_existing_path_goes_before_a_name(write, qa, tmp_path, monkeypatch):
    write("gsm8k/a.jsonl", qa(1))
    monkeypatch.chdir(tmp_path)
    assert isinstance(resolve("gsm8k"), FileSource)


def test_the_demo_is_in_the_package():
    source = resolve("demo")
    assert source.files == [str(registry.PACKAGE / "embedded" / "demo.jsonl")]


def test_register_once(monkeypatch, write, qa):
    monkeypatch.setattr(registry, "_registry", {"taken": DatasetInfo("taken", hf="a/b")})
    register_dataset("mine", file=write("a.jsonl", qa(4)), columns={"a": "b"})
    assert (resolve("mine#3").count, resolve("mine").columns) == (3, {"a": "b"})
    with pytest.raises(ValueError, match="twice"):
        register_dataset("mine", hf="a/b")
    with pytest.raises(ValueError, match="either"):
        register_dataset("other")
    with pytest.raises(ValueError, match="letters"):
        register_dataset("a#b", hf="a/b")


def test_same_content_elsewhere_is_the_same(write, qa):
    one, two = write("d/a.jsonl", qa(3)), write("e/a.jsonl", qa(3))
    assert resolve(one).identity() == resolve(two).identity()


def test_other_content_in_the_same_place_is_another(write, qa):
    before = resolve(write("a.jsonl", qa(3))).identity()
    assert resolve(write("a.jsonl", qa(4))).identity() != before


def test_hub_rows_come_through_datasets(monkeypatch):
    asked = []

    def load(name, subset, split):
        asked.append((name, subset, split))
        return datasets.Dataset.from_list([{"question": "a", "answer": "b"}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    source = resolve("gsm8k#5")
    assert (source.count, asked) == (5, [])
    assert [(row, str(origin)) for row, origin in source.rows()] == [
        ({"question": "a", "answer": "b"}, "hf::openai/gsm8k/main/train, row 1")
    ]
    assert source.count_rows() == 1
    assert asked == [("openai/gsm8k", "main", "train")]


def test_any_hub_dataset_by_its_id():
    source = resolve("hf::owner/name:part#7")
    assert isinstance(source, HubSource)
    assert (source.files, source.count) == (["hf::owner/name/part/train"], 7)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Couldn't reach 'openai/gsm8k' on the Hub (OfflineModeIsEnabled)"),
        datasets.exceptions.DatasetNotFoundError("Dataset 'openai/gsm8k' doesn't exist"),
        RuntimeError("Dataset scripts are no longer supported"),
        ValueError("BuilderConfig 'main' not found"),
    ],
)
def test_unreachable_hub_says_the_ways_to_get_it(monkeypatch, error):
    def load(*args, **kwargs):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(UserError) as caught:
        resolve("gsm8k").identity()
    text = str(caught.value)
    page = "modelscope.cn/datasets/modelscope/gsm8k"
    assert all(part in text for part in (str(error), "HF_HOME", page, "--dataset gsm8k=FOLDER"))


# The seeds' names and more; ids as ms-swift 1.7, 2.0 and its dataset_info.json have them.
IDS = {
    "alpaca-en": ("vicgalle/alpaca-gpt4", "AI-ModelScope/alpaca-gpt4-data-en"),
    "alpaca-zh": ("llm-wizard/alpaca-gpt4-data-zh", "AI-ModelScope/alpaca-gpt4-data-zh"),
    "gsm8k": ("openai/gsm8k", "modelscope/gsm8k"),
    "ms-bench": (None, "iic/ms_bench"),
    "ms-bench-mini": (None, "iic/ms_bench"),
    "ms-agent": (None, "iic/ms_agent"),
    "cls-fudan-news-zh": (None, "damo/zh_cls_fudan-news"),
    "dureader-robust-zh": (None, "modelscope/DuReader_robust-QG"),
    "long-alpaca-12k": ("Yukang/LongAlpaca-12k", "AI-ModelScope/LongAlpaca-12k"),
}


@pytest.mark.parametrize("name", IDS)
def test_the_names_of_the_old_tables(name):
    source = resolve(name)
    assert isinstance(source, HubSource)
    assert (source.info.hf, source.info.ms) == IDS[name]


def test_names_are_told_apart():
    names = [info.name for info in CATALOGUE]
    assert len(set(names)) == len(names)
    assert set(names) <= set(dataset_names())


def test_every_name_has_a_place():
    for info in CATALOGUE:
        assert (info.file is None) == bool(info.hf or info.ms), info.name
        assert not info.file or (registry.PACKAGE / info.file).is_file()


def test_ids_are_those_of_ms_swift(shared):
    """Pairs of ids in ms-swift's own table are pairs here."""
    table = json.loads((shared / "sft" / "ms_swift_formats" / "dataset_info.json").read_text())
    pairs = {row["ms_dataset_id"]: row.get("hf_dataset_id") for row in table if "ms_dataset_id" in row}
    both = [info for info in CATALOGUE if info.ms in pairs]
    assert len(both) > 25
    for info in both:
        assert pairs[info.ms] in (info.hf, None), info.name


def test_a_mini_set_draws_its_own_count_unless_told():
    assert (resolve("ms-bench-mini").count, resolve("ms-bench-mini#7").count, resolve("ms-bench").count) == (
        20_000,
        7,
        None,
    )


def test_another_subset_of_a_name():
    assert resolve("coig-cqia:ruozhiba/wiki#3").files == [
        "ms::AI-ModelScope/COIG-CQIA/ruozhiba/train",
        "ms::AI-ModelScope/COIG-CQIA/wiki/train",
    ]


def test_files_at_hand_are_read_as_the_name_says(write, config, template):
    path = write("fudan.jsonl", [{"prompt": "a", "answer": "b"}])
    assert len(load_data(config(f"cls-fudan-news-zh={path}"), template).train) == 1
    moss = {"conversations": str([{"from": "user", "value": "who?"}, {"from": "assistant", "value": "I am MOSS"}])}
    said = {"conversations": str([{"from": "user", "value": "who?"}, {"from": "assistant", "value": "it's me"}])}
    path = write("bench.jsonl", [moss, said])
    source = load_data(config(f"ms-bench={path}"), template).report["sources"][0]
    assert (source["rows"], source["kept"]) == (2, 1)
    ((kind, entry),) = source["dropped"].items()
    assert (kind, entry["count"], entry["examples"][0]["line"]) == ("left out by its data set's own rule", 1, 1)


def test_the_rule_of_a_name_is_in_the_cache_key(write, config, template):
    turns = [{"from": "user", "value": "a"}, {"from": "assistant", "value": "b"}]
    path = write("a.jsonl", [{"conversations": turns}])
    load_data(config(path), template)
    assert load_data(config(f"ms-agent={path}"), template).report["sources"][0]["cache"] == "miss"
    assert load_data(config(path), template).report["sources"][0]["cache"] == "hit"


def adapted(name, row):
    """What the rule of a registered name makes of a row."""
    from swiftlite.data.sources import adapted

    return adapted(row, resolve(name).info.adapt)


def test_dureader_asks_for_the_question():
    row = adapted("dureader-robust-zh", {"text1": "answer[SEP]context", "text2": "question?"})
    asked, answer = convert_row(row).content["messages"]
    assert asked["content"] == "Task: Question Generation\nContext: context\nAnswer: answer\nQuestion:"
    assert answer["content"] == "question?"
    for bad in ({}, {"text1": 3}, {"text1": "x"}, {"text1": "a[SEP]b[SEP]c"}):
        assert isinstance(adapted("dureader-robust-zh", bad), Unreadable)


def test_long_alpaca_loses_the_word_answer():
    assert adapted("long-alpaca-12k", {"instruction": "a", "output": "Answer: b"})["output"] == "b"
    assert adapted("long-alpaca-12k", {"instruction": "a", "output": "b"})["output"] == "b"


@pytest.mark.parametrize("turns", [None, 3, "[", "nonsense", "[3]", [3], [{}], [{"from": "system"}]])
def test_the_rules_take_any_row(turns):
    for name in ("ms-bench", "ms-agent"):
        row = adapted(name, {"conversations": turns})
        assert isinstance(row, (dict, Unreadable))
        assert not isinstance(row, Omitted)


class _FakeHub:
    """ModelScope's package, which is no dependency: what its loader was asked for, and a row."""

    def __init__(self):
        self.asked = []

    def load(self, name, subset_name, split, use_streaming):
        self.asked.append((name, subset_name, split, use_streaming))
        return datasets.Dataset.from_list([{"prompt": split, "answer": "b"}])


def test_modelscope_rows_come_through_its_package(monkeypatch):
    hub = _FakeHub()
    module = types.ModuleType("modelscope.msdatasets")
    module.MsDataset = hub
    monkeypatch.setitem(sys.modules, "modelscope", types.ModuleType("modelscope"))
    monkeypatch.setitem(sys.modules, "modelscope.msdatasets", module)
    assert [row for row, _ in resolve("cls-fudan-news-zh").rows()] == [{"prompt": "train", "answer": "b"}]
    assert [row["prompt"] for row, _ in resolve("ms::a/b:part").rows(streaming=True)] == ["train"]
    assert len(list(resolve("medical-zh").rows())) == 3
    assert hub.asked == [
        ("damo/zh_cls_fudan-news", "default", "train", False),
        ("a/b", "part", "train", True),
        *(("swift/medical_zh", "zh", split, False) for split in ("train", "val", "test")),
    ]


def test_without_modelscope_the_ways_are_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "modelscope", None)
    with pytest.raises(UserError) as caught:
        list(resolve("cls-fudan-news-zh").rows())
    text = str(caught.value)
    page = "https://modelscope.cn/datasets/damo/zh_cls_fudan-news"
    assert all(part in text for part in ("pip install modelscope", page, "--dataset cls-fudan-news-zh=FOLDER"))


def test_a_hub_is_streamed_without_being_fetched(monkeypatch):
    asked = []

    def load(name, subset, split, streaming):
        asked.append((name, subset, split, streaming))
        return datasets.IterableDataset.from_generator(lambda: iter([{"question": split, "answer": "b"}]))

    monkeypatch.setattr(datasets, "load_dataset", load)
    info = DatasetInfo("x", hf="a/b", split="train+test")
    assert [row["question"] for row, _ in HubSource("x", info).rows(streaming=True)] == ["train", "test"]
    assert asked == [("a/b", None, "train", True), ("a/b", None, "test", True)]


IMPOSSIBLE = {
    "Windows": "C:\\nowhere\\a.jsonl",
    "NUL": "a\0b.jsonl",
    "long": "x" * 5000 + ".jsonl",
    "user": "~nobody-here/a.jsonl",
}


@pytest.mark.parametrize("name", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_paths_that_cannot_be(name):
    with pytest.raises(UserError):
        resolve(name)

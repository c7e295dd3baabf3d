"""Names, paths and #N find their rows; an unknown name gets the closest one."""

import datasets
import pytest

from swiftlite.config.errors import UserError
from swiftlite.data import registry
from swiftlite.data.registry import FileSource, HubSource, register_dataset, resolve


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
    monkeypatch.setattr(registry, "_registry", {})
    register_dataset("mine", file=write("a.jsonl", qa(4)), columns={"a": "b"})
    assert (resolve("mine#3").count, resolve("mine").columns) == (3, {"a": "b"})
    with pytest.raises(ValueError, match="twice"):
        register_dataset("mine", hf="a/b")
    with pytest.raises(ValueError, match="either"):
        register_dataset("other")


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
    assert all(part in text for part in (str(error), "HF_HOME", "modelscope.cn/datasets/modelscope/gsm8k", "PATH"))

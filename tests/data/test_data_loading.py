"""From flags to data sets: what is read, held out, reused and reported."""

import json

import pytest

from swiftlite.config.errors import UsageError, UserError
from swiftlite.data.config import DataConfig
from swiftlite.data.loading import load_data


def texts(dataset):
    """The answers of the samples, decoded from FakeTemplate's ids."""
    found = []
    for i in range(len(dataset)):
        ids, weights = dataset[i]
        found.append("".join(chr(t) for t, w in zip(ids, weights) if w and t != 2))
    return found


def test_rows_come_in_order_of_the_sources(config, write, qa, template):
    one = write("a.jsonl", [{"query": "q", "response": "first"}])
    two = write("b.jsonl", qa(2))
    assert texts(load_data(config(one, two), template).train) == ["first", "answer 0", "answer 1"]


def test_no_dataset(template):
    with pytest.raises(UsageError, match="--dataset is missing"):
        load_data(DataConfig(), template)


def test_the_second_load_encodes_and_parses_nothing(config, write, qa, template, monkeypatch):
    path = write("a.jsonl", qa(50))
    first = load_data(config(path), template)
    assert (template.rows_encoded, first.report["sources"][0]["cache"]) == (50, "miss")
    monkeypatch.setattr("swiftlite.data.sources.read_file", None)
    second = load_data(config(path), template)
    assert (template.rows_encoded, second.report["sources"][0]["cache"]) == (50, "hit")
    assert texts(second.train) == texts(first.train)
    assert second.report["sources"][0] == first.report["sources"][0] | {"cache": "hit"}


def test_a_hit_calls_no_progress(config, write, qa, template):
    path, calls = write("a.jsonl", qa(5)), []
    for _ in range(2):
        load_data(config(path), template, progress=lambda spec, done: calls.append((spec, done)))
    assert calls == [(path, 5)]


def test_other_flags_that_do_not_touch_tokens_still_hit(config, write, qa, template):
    path = write("a.jsonl", qa(50))
    load_data(config(path), template)
    load_data(config(path, split_dataset_ratio=0.1, data_seed=7, padding_free=True), template)
    assert template.rows_encoded == 50


@pytest.mark.parametrize(
    "change",
    [
        {"max_length": 50},
        {"truncation_strategy": "left"},
        {"on_bad_row": "drop"},
        {"columns": {"query": "question", "response": "answer"}},
    ],
)
def test_flags_that_touch_tokens_miss(config, write, qa, template, change):
    path = write("a.jsonl", qa(5))
    load_data(config(path), template)
    load_data(config(path, **change), template)
    assert template.rows_encoded == 10


def test_another_template_or_file_content_misses(config, write, qa, template):
    path = write("a.jsonl", qa(5))
    load_data(config(path), template)
    template.fingerprint = "fake-2"
    load_data(config(path), template)
    write("a.jsonl", qa(6))
    load_data(config(path), template)
    assert template.rows_encoded == 5 + 5 + 6


def test_a_moved_file_hits_and_its_drops_name_the_new_place(config, write, qa, template):
    rows = [*qa(2), {"query": "q", "response": ""}]
    load_data(config(write("one/a.jsonl", rows), on_bad_row="drop"), template)
    moved = write("two/a.jsonl", rows)
    source = load_data(config(moved, on_bad_row="drop"), template).report["sources"][0]
    assert source["cache"] == "hit"
    example = source["dropped"]["empty content"]["examples"][0]
    assert (example["file"], example["line"]) == (moved, 3)


def test_a_bad_row_stops_and_leaves_no_entry(config, write, qa, template, tmp_path):
    path = write("a.jsonl", [*qa(2), {"query": "q"}])
    with pytest.raises(UserError, match=r"a\.jsonl, line 3: unknown fields: query; expected .*--on_bad_row drop"):
        load_data(config(path), template)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_sample_of_the_rows(config, write, qa, template):
    data = load_data(config(write("a.jsonl", qa(100)) + "#10"), template)
    assert len(set(texts(data.train))) == 10
    assert template.rows_encoded == 10
    source = data.report["sources"][0]
    assert (source["rows_in_source"], source["rows"]) == (100, 10)


def test_more_than_there_are_repeats_them(config, write, qa, template):
    data = load_data(config(write("a.jsonl", qa(4)) + "#10"), template)
    counts = sorted(texts(data.train).count(f"answer {i}") for i in range(4))
    assert counts == [2, 2, 3, 3]
    assert template.rows_encoded == 4


def test_held_out_rows_are_in_no_repeat_of_the_training_set(config, write, qa, template):
    path = write("a.jsonl", qa(20))
    data = load_data(config(path + "#60", split_dataset_ratio=0.2), template)
    assert (len(data.val), len(data.train)) == (4, 48)
    assert not set(texts(data.val)) & set(texts(data.train))
    assert data.report["in_train_and_val"] == 0


def test_the_split_is_the_same_twice_and_moves_with_the_seed(config, write, qa, template):
    path = write("a.jsonl", qa(100))
    held = [texts(load_data(config(path, split_dataset_ratio=0.1, data_seed=seed), template).val) for seed in (1, 1, 2)]
    assert held[0] == held[1] != held[2]


def test_pieces_of_a_row_stay_on_one_side(config, write, template):
    rows = [{"query": "q", "response": chr(97 + i) * 40} for i in range(20)]
    options = {"max_length": 10, "truncation_strategy": "split", "split_dataset_ratio": 0.25}
    data = load_data(config(write("a.jsonl", rows), **options), template)
    sides = [{text[0] for text in texts(side) if text} for side in (data.train, data.val)]
    assert (len(sides[1]), sides[0] & sides[1]) == (5, set())


def test_nothing_is_held_out_of_one_row(config, write, qa, template):
    data = load_data(config(write("a.jsonl", qa(1)), split_dataset_ratio=0.5), template)
    assert (len(data.train), data.val, data.report["val"]) == (1, None, None)


def test_a_validation_set_leaves_the_training_set_whole(config, write, qa, template):
    train, val = write("a.jsonl", qa(10)), write("b.jsonl", qa(3))
    data = load_data(config(train, val_dataset=[val], split_dataset_ratio=0.5), template)
    assert (len(data.train), len(data.val)) == (10, 3)
    assert data.report["in_train_and_val"] == 3


def test_samples_of_the_whole(config, write, qa, template):
    paths = write("a.jsonl", qa(50)), write("b.jsonl", qa(50))
    options = {"train_dataset_sample": 7, "val_dataset_sample": 3, "split_dataset_ratio": 0.2}
    data = load_data(config(*paths, **options), template)
    assert (len(data.train), len(data.val)) == (7, 3)


def test_columns(config, write, template):
    path = write("a.jsonl", [{"q": "x", "a": "y"}])
    data = load_data(config(path, columns={"q": "query", "a": "response"}), template)
    assert texts(data.train) == ["y"]


def test_a_column_that_no_row_has(config, write, qa, template):
    path = write("a.jsonl", qa(2))
    for _ in range(2):  # on a hit too
        with pytest.raises(UsageError, match="--columns names 'qestion'"):
            load_data(config(path, columns={"qestion": "query"}), template)


def test_plain_text_with_a_tokenizer(config, write, template, tokenizer):
    path = write("a.txt", "abcdef")
    options = {"max_length": 4, "truncation_strategy": "split"}
    data = load_data(config(path, **options), template, tokenizer=tokenizer)
    assert [data.train[i][0].tolist() for i in range(2)] == [[97, 98, 99, 100], [101, 102, 2]]


def test_a_folder(config, write, qa, template, tmp_path):
    write("d/a.jsonl", qa(2))
    write("d/b.csv", "query,response\nx,y\n")
    data = load_data(config(str(tmp_path / "d")), template)
    assert texts(data.train) == ["answer 0", "answer 1", "y"]
    assert [entry["file"] for entry in data.report["sources"][0]["files"]] == [
        str(tmp_path / "d" / "a.jsonl"),
        str(tmp_path / "d" / "b.csv"),
    ]


def test_the_report_is_json_and_adds_up(config, write, qa, template):
    rows = [*qa(10), {"query": "q", "response": "x" * 100}, {"query": "q", "response": ""}]
    options = {"on_bad_row": "drop", "max_length": 40, "split_dataset_ratio": 0.2}
    report = load_data(config(write("a.jsonl", rows), **options), template).report
    assert json.loads(json.dumps(report)) == report
    source = report["sources"][0]
    assert source["rows"] == 12 == source["kept"] + sum(e["count"] for e in source["dropped"].values())
    assert report["train"]["samples"] + report["val"]["samples"] == source["samples"] == 10
    # Hand count: 1 q N 1 "answer N" 2 is 13 tokens, 9 of them trained.
    assert (report["train"]["tokens"], report["train"]["trained_tokens"]) == (8 * 13, 8 * 9)
    assert report["train"]["line"] == "13.0±0.0, min=13, max=13"


def test_the_demo_loads(config, template):
    assert len(load_data(config("demo"), template).train) > 100


def test_mixing_adds_to_the_training_rows_alone(config, write, qa, template):
    """ms-swift: int(ratio * training rows) rows of the other data; the validation rows stay what they are."""
    own, other = (
        write("a.jsonl", qa(20)),
        write("b.jsonl", [{"query": "x", "response": f"mixed {i}"} for i in range(50)]),
    )
    options = {"split_dataset_ratio": 0.25, "train_dataset_mix_ratio": 1.5, "train_dataset_mix_ds": [other]}
    plain, mixed = (load_data(config(own, **o), template) for o in ({"split_dataset_ratio": 0.25}, options))
    assert texts(mixed.val) == texts(plain.val)
    assert texts(mixed.train)[:15] == texts(plain.train)
    added = texts(mixed.train)[15:]
    assert len(set(added)) == len(added) == int(1.5 * 15)
    assert all(text.startswith("mixed") for text in added)
    assert mixed.report["mix"] == {"ratio": 1.5, "wanted": 22, "taken": 22}
    assert mixed.report["mix_sources"][0]["rows"] == 50


def test_mixing_draws_the_same_rows_twice_and_others_with_another_seed(config, write, qa, template):
    own, other = write("a.jsonl", qa(10)), write("b.jsonl", [{"query": "x", "response": f"m{i}"} for i in range(50)])
    options = {"train_dataset_mix_ratio": 1, "train_dataset_mix_ds": [other]}
    drawn = [texts(load_data(config(own, data_seed=s, **options), template).train)[10:] for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_fewer_rows_to_mix_than_asked_for_are_all_taken_and_reported(config, write, qa, template):
    own, one, two = write("a.jsonl", qa(20)), write("b.jsonl", qa(3)), write("c.jsonl", qa(4))
    options = {"train_dataset_mix_ratio": 2, "train_dataset_mix_ds": [one, two + "#2"]}
    data = load_data(config(own, **options), template)
    assert len(data.train) == 20 + 3 + 2
    assert data.report["mix"] == {"ratio": 2, "wanted": 40, "taken": 5}


def test_no_ratio_reads_no_other_data(config, write, qa, template):
    data = load_data(config(write("a.jsonl", qa(2)), train_dataset_mix_ds=["nowhere"]), template)
    assert (data.report["mix"], data.report["mix_sources"]) == (None, [])


def test_duplicates_are_counted_and_repeats_on_request_are_not(config, write, qa, template):
    twice = write("a.jsonl", [*qa(5), *qa(2)])
    assert load_data(config(twice), template).report["duplicates_in_train"] == 2
    # qa(5) is nothing but rows of the first file.
    assert load_data(config(twice, write("b.jsonl", qa(5))), template).report["duplicates_in_train"] == 7
    assert load_data(config(write("b.jsonl", qa(5)) + "#15"), template).report["duplicates_in_train"] == 0


def test_validation_rows_that_are_training_rows_are_counted(config, write, qa, template):
    data = load_data(config(write("a.jsonl", qa(5)), val_dataset=[write("b.jsonl", qa(8))]), template)
    assert data.report["in_train_and_val"] == 5


def cache_keys(config, path, *templates):
    return [load_data(config(path), template).report["sources"][0]["key"] for template in templates]


def test_everything_that_decides_tokens_is_in_the_cache_key(config, write, qa, monkeypatch):
    """Tokenizer, template, system prompt and mask rule come as the template's fingerprint; then length, code ..."""
    from swiftlite.chat.config import ChatConfig
    from swiftlite.chat.template import choose_template

    path, tokenizer = write("a.jsonl", qa(3)), nano_tokenizer()
    base = choose_template(ChatConfig(template="chatml"), tokenizer, None)
    grown = nano_tokenizer()
    grown.add_tokens(["<new>"])
    others = [
        choose_template(ChatConfig(template="tokenizer"), tokenizer, None),
        choose_template(ChatConfig(template="chatml", system="Be brief."), tokenizer, None),
        choose_template(ChatConfig(template="chatml"), grown, None),
        choose_template(ChatConfig(template="chatml", loss_scale="last_round"), tokenizer, None),
    ]
    keys = cache_keys(config, path, base, *others)
    monkeypatch.setattr("swiftlite.data.cache.code_version", lambda: "another")
    keys += cache_keys(config, path, base)
    assert len(set(keys)) == len(keys) == 6
    monkeypatch.undo()
    assert cache_keys(config, path, base) == keys[:1]


def nano_tokenizer():
    from transformers import AutoTokenizer

    from swiftlite.models.families.nano import FOLDER

    return AutoTokenizer.from_pretrained(FOLDER)


def test_reasoning_needs_a_template_that_writes_it(config, write, template, monkeypatch):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "r"}]
    path = write("a.jsonl", [{"messages": turns}])
    with pytest.raises(UserError, match=r"line 1: separate reasoning: the template fake has no place.*<think> text"):
        load_data(config(path), template)
    monkeypatch.setattr(template, "jinja", lambda: "{{ message.reasoning_content }}")
    assert len(load_data(config(path), template).train) == 1

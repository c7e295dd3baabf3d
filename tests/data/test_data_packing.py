"""Blocks of joined documents: every token once, borders, isolation, the stream's blocks, and bits per byte."""

import itertools
import json

import numpy as np
import pytest
import torch

from swiftlite.data.collate import Layout, collate_blocks
from swiftlite.data.config import TextDataConfig
from swiftlite.data.packing import BlockDataset, load_blocks
from swiftlite.data.sampler import EpochPlan
from swiftlite.data.stream import BEGINNING, Position
from swiftlite.data.tokens import Packing, TokenizedDataset

END, BOS = 2, 1


class Letters:
    """A tokenizer of one token a character, with or without a BOS."""

    eos_token_id = END
    chat_template = None

    def __init__(self, bos: bool = False):
        self.bos_token_id = BOS if bos else None
        self._lead = [BOS] if bos else []

    def __call__(self, text, **_):
        texts = [text] if isinstance(text, str) else text
        ids = [[*self._lead, *map(ord, t)] for t in texts]
        return {"input_ids": ids[0] if isinstance(text, str) else ids}

    def decode(self, ids, **_):
        return "".join(map(chr, ids))


class Template:
    name, fingerprint = "text", "letters"

    def encode_batch(self, rows):
        raise AssertionError("plain text only")


def documents(*texts, bos=False):
    rows = []
    for text in texts:
        ids = [*([BOS] if bos else []), *map(ord, text), END]
        rows.append((ids, [0.0 if bos and i == 0 else 1.0 for i in range(len(ids))]))
    return TokenizedDataset.from_rows(rows)


def line_of(texts, bos):
    """The line of tokens written down independently."""
    parts = [[*([BOS] if bos else []), *map(ord, t), END] for t in texts]
    return [*([] if bos else [END]), *itertools.chain.from_iterable(parts)]


def layout(packing, most_documents):
    return Layout(9, rows=2, length=packing.length, multiple=1, packing=packing, most_documents=most_documents)


TEXTS = ["abcdefg", "h", "ijklmnopqrst", "uv", "wxyzwxyzwxyz"]


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("length", [1, 4, 5, 7, 100])
def test_every_token_but_the_first_is_predicted_once_in_order(bos, length):
    blocks = BlockDataset(documents(*TEXTS, bos=bos), Packing(length, BOS if bos else END, bos, False))
    line = line_of(TEXTS, bos)
    read, predicted = [], []
    for i in range(len(blocks)):
        ids, _ = blocks[i]
        assert len(ids) == blocks.lengths[i] + 1
        read += ids[:-1].tolist()
        predicted += ids[1:].tolist()
    assert read == line[:-1]
    assert predicted == line[1:]


@pytest.mark.parametrize("bos", [False, True])
def test_trained_counts_every_predicted_token_but_given_ones(bos):
    blocks = BlockDataset(documents(*TEXTS, bos=bos), Packing(5, BOS if bos else END, bos, False))
    for i in range(len(blocks)):
        ids, weights = blocks[i]
        assert blocks.trained[i] == float(weights[1:].sum())
        assert list(weights[1:]) == [0.0 if bos and t == BOS else 1.0 for t in ids[1:]]


@pytest.mark.parametrize("bos", [False, True])
def test_isolated_positions_and_squares_follow_the_documents(bos):
    packing = Packing(6, BOS if bos else END, bos, True)
    blocks = BlockDataset(documents(*TEXTS, bos=bos), packing)
    batch = collate_blocks([blocks[i] for i in range(len(blocks))], layout(packing, blocks.most_documents))
    borders = [0]
    for i in range(len(blocks)):
        position, positions, lengths = -1, [], []
        for token in blocks[i][0][:-1]:
            if token == packing.separator or position < 0:
                position = 0
                lengths.append(0)
            positions.append(position)
            position += 1
            lengths[-1] += 1
        assert batch.position_ids[i, : len(positions)].tolist() == positions
        assert blocks.squares[i] == sum(n * n for n in lengths)
        padding = packing.length - len(positions)
        borders += (borders[-1] + np.cumsum([*lengths, *([padding] if padding else [])])).tolist()
    assert list(dict.fromkeys(batch.cu_seqlens.tolist())) == borders
    assert batch.cu_seqlens.dtype == torch.int32 and batch.max_seqlen == packing.length


@pytest.mark.parametrize("known", [True, False])
def test_the_borders_of_blocks_have_one_length_in_every_batch(known):
    packing = Packing(4, END, False, True)
    blocks = BlockDataset(documents("abcdefgh", "", "", "i"), packing)
    shape = layout(packing, blocks.most_documents if known else None)
    batches = [collate_blocks([blocks[i], blocks[i + 1]], shape) for i in (0, 2)]
    # The first two blocks hold 1 document each, the third 4, the last one and padding.
    sizes = [len(batch.cu_seqlens) for batch in batches]
    assert sizes == ([2 * (4 + 1) + 1] * 2 if known else [2 + 1, 8 + 1])
    assert all(batch.cu_seqlens[-1] == 8 for batch in batches)


def test_blocks_over_chosen_documents_of_several_shards():
    first, second = documents("abc", "de", "fgh"), documents("xy", "z")
    from swiftlite.data.tokens import concatenate

    chosen = concatenate([first.subset([0, 2]), second])
    blocks = BlockDataset(chosen, Packing(4, END, False, False))
    tokens = [t for i in range(len(blocks)) for t in blocks[i][0][1:].tolist()]
    assert tokens == line_of(["abc", "fgh", "xy", "z"], bos=False)[1:]


def test_collated_blocks_are_inputs_and_next_tokens():
    packing = Packing(4, END, False, False)
    blocks = BlockDataset(documents("abcde", "f"), packing)
    batch = collate_blocks([blocks[0], blocks[1]], layout(packing, 1))
    a, b, c, d, e, f = map(ord, "abcdef")
    assert batch.input_ids.tolist() == [[END, a, b, c], [d, e, END, f]]
    assert batch.labels.tolist() == [[a, b, c, d], [e, END, f, END]]
    assert (batch.attention_mask, batch.position_ids, batch.tokens) == (None, None, 8)
    short = collate_blocks([(blocks[1][0][:3], blocks[1][1][:3])], layout(packing, 1))
    assert short.labels.tolist() == [[e, END]]


@pytest.fixture
def corpus(tmp_path):
    """40 texts of 3 to 30 letters in two files."""
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(list("abcdefgh"), int(random.integers(3, 30)))) for _ in range(40)]
    for name, part in (("a.jsonl", texts[:25]), ("b.jsonl", texts[25:])):
        (tmp_path / name).write_text("".join(json.dumps({"text": t}) + "\n" for t in part))
    return tmp_path, texts


def config(folder, **values):
    values = {"split_dataset_ratio": 0.0, "max_length": 16, "cache_dir": str(folder / "cache")} | values
    return TextDataConfig(dataset=[str(folder / "a.jsonl"), str(folder / "b.jsonl")], **values)


def test_loading_joins_all_documents(corpus):
    folder, texts = corpus
    data = load_blocks(config(folder), Template(), tokenizer=Letters())
    tokens = [t for i in range(len(data.train)) for t in data.train[i][0][1:].tolist()]
    assert tokens == line_of(texts, bos=False)[1:]
    assert data.report["train"]["tokens"] == len(tokens)
    assert data.report["train"]["documents"] == 40


def test_validation_is_split_by_document_and_its_bytes_are_known(corpus):
    folder, texts = corpus
    data = load_blocks(config(folder, split_dataset_ratio=0.2), Template(), tokenizer=Letters())
    held = "".join(chr(t) for i in range(len(data.val)) for t in data.val[i][0][1:].tolist()).split(chr(END))[:-1]
    assert len(held) == 8 and set(held) <= set(texts)
    assert data.val_bytes == sum(len(t.encode()) for t in held)


def test_of_a_single_document_the_end_is_held_out(tmp_path):
    (tmp_path / "book.txt").write_text("é" + "0123456789" * 10)
    settings = TextDataConfig(
        dataset=[str(tmp_path / "book.txt")], split_dataset_ratio=0.1, max_length=8, cache_dir=str(tmp_path / "cache")
    )
    data = load_blocks(settings, Template(), tokenizer=Letters())
    held = [t for i in range(len(data.val)) for t in data.val[i][0][1:].tolist()]
    assert held == [*map(ord, "123456789"), END]  # a tenth of 102 tokens
    kept = [t for i in range(len(data.train)) for t in data.train[i][0][1:].tolist()]
    assert kept + held == line_of(["é" + "0123456789" * 10], bos=False)[1:]
    assert data.val_bytes == 9


@pytest.mark.parametrize(("text", "held"), [("a", None), ("ab", None), ("abc", [ord("c"), END])])
def test_a_document_too_small_to_split_is_trained_on_whole(tmp_path, text, held):
    (tmp_path / "small.txt").write_text(text)
    settings = TextDataConfig(dataset=[str(tmp_path / "small.txt")], max_length=8, cache_dir=str(tmp_path / "cache"))
    data = load_blocks(settings, Template(), tokenizer=Letters())
    assert (data.val[0][0][1:].tolist() if data.val else None) == held
    assert data.train[0][0][1:].tolist() == [*map(ord, text), END][: None if held is None else -2]


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("isolated", [False, True])
def test_a_stream_gives_the_same_blocks_as_loading(corpus, bos, isolated):
    folder, _ = corpus
    tokenizer = Letters(bos)
    whole = load_blocks(config(folder, isolate_documents=isolated), Template(), tokenizer=tokenizer)
    streamed = load_blocks(
        config(folder, isolate_documents=isolated, streaming=True, shuffle_buffer=0), Template(), tokenizer=tokenizer
    )
    samples = list(streamed.stream.samples(seed=0, epoch=0))
    held = streamed.stream.dataset(samples)
    assert [s.ids.tolist() for s in samples] == [whole.train[i][0].tolist() for i in range(len(whole.train))]
    assert held.lengths.tolist() == whole.train.lengths.tolist()
    assert held.trained.tolist() == whole.train.trained.tolist()
    assert held.squares.tolist() == whole.train.squares.tolist()


@pytest.mark.parametrize("buffer", [0, 7])
@pytest.mark.parametrize("bos", [False, True])
def test_a_stream_goes_on_from_any_block(corpus, buffer, bos):
    folder, _ = corpus
    settings = config(folder, streaming=True, shuffle_buffer=buffer)
    stream = load_blocks(settings, Template(), tokenizer=Letters(bos)).stream
    samples = list(stream.samples(seed=3, epoch=1))
    for at in (0, 1, len(samples) // 2, len(samples) - 2):
        rest = list(stream.samples(seed=3, epoch=1, start=Position(*samples[at].end)))
        assert [s.ids.tolist() for s in rest] == [s.ids.tolist() for s in samples[at + 1 :]]
        assert [s.end for s in rest] == [s.end for s in samples[at + 1 :]]
    assert samples[0].end != BEGINNING


def test_the_epoch_plan_takes_blocks(corpus):
    folder, _ = corpus
    blocks = load_blocks(config(folder), Template(), tokenizer=Letters()).train
    plan = EpochPlan(blocks.lengths, blocks.trained, 3, 2, 1, seed=0, epoch=0)
    seen = [i for k in range(plan.steps) for m in plan.step(k).micro_batches[0] for i in m.indices.tolist()]
    assert sorted(seen) == list(range(len(blocks)))
    assert sum(plan.step(k).denominator for k in range(plan.steps)) == blocks.trained.sum()


def test_a_long_text_file_comes_in_parts_that_end_with_lines(tmp_path, monkeypatch):
    from swiftlite.data import readers

    monkeypatch.setattr(readers, "LONGEST_TEXT", 1000)
    monkeypatch.setattr(readers, "TEXT_PART", 300)
    lines = [f"line {i}\n" + ("  indented\n" if i % 3 == 0 else "") for i in range(200)]
    file = tmp_path / "corpus.txt"
    file.write_text("".join(lines))
    rows = [row["text"] for row, _ in readers.read_file(file)]
    assert len(rows) > 5
    assert "".join(rows) == "".join(lines)
    assert all(r.endswith("\n") and not r[0].isspace() for r in rows)

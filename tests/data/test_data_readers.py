"""Files become rows with their lines, and a file that cannot be read is one clear sentence."""

import csv
import gzip
import json

import pytest

from swiftlite.config.errors import UserError
from swiftlite.data.readers import SUFFIXES, Unreadable, find_files, read_file


def records(path):
    return [record for file in find_files(path) for record in read_file(file)]


def rows(path):
    return [row for row, _ in records(path)]


def test_jsonl_gives_line_numbers_and_skips_blank_lines(write):
    path = write("a.jsonl", '{"text": "x"}\n\n{"text": "y"}\n')
    assert [(row, origin.line) for row, origin in records(path)] == [({"text": "x"}, 1), ({"text": "y"}, 3)]


def test_broken_jsonl_line_names_line_and_reason(write):
    good = '{"text": "x"}\n'
    path = write("a.jsonl", good * 6 + '{"text": "x"\n' + good)
    found = records(path)
    assert len(found) == 8
    row, origin = found[6]
    assert str(origin) == f"{path}, line 7"
    assert row == Unreadable("not JSON (Expecting ',' delimiter, column 13)")


def test_a_line_that_is_no_object_is_unreadable(write):
    path = write("a.jsonl", '["x"]\n')
    assert rows(path) == [Unreadable("a list, not a JSON object with named fields")]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_key_twice_would_lose_the_first(write, name):
    lines = ['{"query": "x", "query": "y"}', '{"query": "z"}']
    path = write(name, "\n".join(lines) if name == "a.jsonl" else f"[{','.join(lines)}]")
    assert rows(path) == [Unreadable("JSON with the key query twice"), {"query": "z"}]


def test_json_array_gives_row_numbers(write):
    path = write("a.json", json.dumps([{"text": "x"}, {"text": "y"}], indent=2))
    assert [str(origin) for _, origin in records(path)] == [f"{path}, row 1", f"{path}, row 2"]


def test_json_lines_in_a_json_file(write):
    path = write("a.json", '{"text": "x"}\n{"text": "y"}\n')
    assert rows(path) == [{"text": "x"}, {"text": "y"}]


def test_broken_json_names_the_line(write):
    path = write("a.json", '[\n {"text": "x"},\n {"text" "y"}\n]')
    with pytest.raises(UserError, match=r"a\.json, line 3: not JSON"):
        records(path)


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t")])
def test_csv_cells_with_newlines_and_quotes(tmp_path, name, delimiter):
    cells = [["query", "response"], ["a\nb", 'say "x", please'], ["c", "d\te"]]
    path = tmp_path / name
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(cells)
    found = records(path)
    assert [list(row.values()) for row, _ in found] == cells[1:]
    assert [origin.line for _, origin in found] == [2, 4]


def test_csv_row_of_another_width_is_unreadable(write):
    found = rows(write("a.csv", "query,response\na\nb,c\nd,e,f\n"))
    assert found == [
        Unreadable("1 cells under a header of 2 columns"),
        {"query": "b", "response": "c"},
        Unreadable("3 cells under a header of 2 columns"),
    ]


def test_csv_cell_beyond_the_csv_module_limit(write):
    long = "x" * 200_000
    assert rows(write("a.csv", f"text\n{long}\n")) == [{"text": long}]


def test_a_quote_that_is_never_closed_does_not_swallow_the_file(write):
    path = write("a.csv", 'query,response\na,b\n"c,d\n' + "e,f\n" * 100)
    with pytest.raises(UserError, match=r"a\.csv, line 3: a quote is opened and never closed"):
        records(path)


def test_lines_that_a_stray_quote_swallows_are_named(write):
    path = write("a.csv", 'query,response\n"a,b\nc,d\ne"x,f\ng,h\n')
    broken, whole = rows(path)
    assert "lines 2 to 4" in broken.reason
    assert whole == {"query": "g", "response": "h"}


def test_csv_with_a_column_twice(write):
    with pytest.raises(UserError, match="names a column twice"):
        records(write("a.csv", "text,text\na,b\n"))


def test_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = [{"messages": [{"role": "user", "content": "a"}]}, {"messages": None}]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "a.parquet")
    assert rows(tmp_path / "a.parquet") == table


def test_nulls_that_parquet_adds_are_taken_away(tmp_path):
    """Arrow gives each tool the fields of every tool; what another row has must not stand in this row's prompt."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tools = [[{"name": "f", "limit": 3}], [{"name": "g", "deep": {"x": [{"y": 1}]}}]]
    pq.write_table(pa.Table.from_pylist([{"tools": tool} for tool in tools]), tmp_path / "a.parquet")
    assert rows(tmp_path / "a.parquet") == [{"tools": tool} for tool in tools]


def test_broken_parquet(write):
    with pytest.raises(UserError, match=r"a\.parquet is not Parquet"):
        records(write("a.parquet", b"PAR1 nonsense PAR1"))


def test_txt_is_one_text(write):
    assert rows(write("a.txt", "one\ntwo\n")) == [{"text": "one\ntwo\n"}]


def test_byte_order_mark_is_no_part_of_the_first_row(write):
    assert rows(write("a.csv", b"\xef\xbb\xbftext\nx\n")) == [{"text": "x"}]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_empty_file(write, suffix):
    with pytest.raises(UserError, match=f"a{suffix} is empty"):
        records(write("a" + suffix, b""))


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.txt"])
def test_file_without_rows(write, name):
    content = {"a.json": "[]", "a.jsonl": "\n\n", "a.csv": "query,response\n", "a.txt": " \n"}[name]
    with pytest.raises(UserError, match="has no rows"):
        records(write(name, content))


@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.txt"])
def test_latin_1_file_names_the_line(write, name):
    with pytest.raises(UserError, match=r"line 2: .*0xe9.* is not UTF-8"):
        records(write(name, "text\ncafé\n".encode("latin-1")))


def test_latin_1_line_of_jsonl_is_unreadable(write):
    path = write("a.jsonl", b'{"text": "caf\xe9"}\n{"text": "x"}\n')
    assert rows(path) == [Unreadable("byte 0xe9 at column 14 is not UTF-8"), {"text": "x"}]


def test_utf_16_file(write):
    with pytest.raises(UserError, match="UTF-16"):
        records(write("a.jsonl", '{"text": "x"}\n'.encode("utf-16")))


def test_missing_file_names_the_closest(write, tmp_path):
    write("train.jsonl", "{}")
    with pytest.raises(UserError, match=r"did you mean train\.jsonl\?"):
        find_files(tmp_path / "trian.jsonl")


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        find_files(tmp_path / "nowhere" / "a.jsonl")


@pytest.mark.parametrize("name", ["a.md", "a", "a.parquet.gz", "a.gz", "a.md.gz"])
def test_unknown_suffix(write, name):
    with pytest.raises(UserError, match=r"expected one of \.json"):
        find_files(write(name, b"x"))


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl.gz", '{"text": "x"}\n'), ("a.json.gz", '[{"text": "x"}]'), ("a.csv.gz", "text\nx\n")],
)
def test_gzip(write, name, content):
    path = write(name, gzip.compress(content.encode()))
    assert rows(path) == [{"text": "x"}]


def test_broken_gzip(write):
    whole = gzip.compress(b'{"text": "x"}\n' * 1000)
    for content in (b"no gzip", whole[:-20], whole[:20] + b"!" + whole[21:]):
        with pytest.raises(UserError, match=r"a\.jsonl\.gz"):
            records(write("a.jsonl.gz", content))


def test_folder_is_read_in_the_order_of_names_without_hidden_files(write, tmp_path):
    for name in ("d/b.jsonl", "d/a.jsonl", "d/sub/c.csv", "d/.hidden/x.jsonl", "d/readme.md"):
        write(name, "text\nx\n")
    found = [path.relative_to(tmp_path / "d").as_posix() for path in find_files(tmp_path / "d")]
    assert found == ["a.jsonl", "b.jsonl", "sub/c.csv"]


def test_folder_without_data(tmp_path):
    with pytest.raises(UserError, match="has no data file"):
        find_files(tmp_path)


def test_home_is_expanded(write, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write("a.jsonl", "{}")
    assert find_files("~/a.jsonl") == [tmp_path / "a.jsonl"]

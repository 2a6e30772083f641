"""Are the lines of an import read as they were meant, and is a bad one named?"""

import io

import pytest

from aegis_replication.cli.transfer import BadLine, read_lines


def lines_of(text: bytes, form: str, from_line: int = 1) -> list[tuple[int, bytes, bytes]]:
    return [(line.number, line.key, line.value) for line in read_lines(io.BytesIO(text), "data", form, from_line)]


def test_json_lines_give_text_and_bytes():
    text = (
        b'{"key": "a", "value": "1", "version": 7}\n\n'
        b'{"key_base64": "/w==", "value_base64": ""}\n'
        b'{"key":"\\u00e9","value":"x"}'
    )

    assert lines_of(text, "jsonl") == [(1, b"a", b"1"), (3, b"\xff", b""), (4, "é".encode(), b"x")]


def test_csv_gives_columns_by_name_and_the_line_where_each_record_begins():
    text = b'\xef\xbb\xbfvalue,key,note\r\n1,a,x\r\n"two\nlines",b,\r\n3,c,\r\n'

    assert lines_of(text, "csv") == [(2, b"a", b"1"), (3, b"b", b"two\nlines"), (5, b"c", b"3")]


def test_csv_takes_bytes_as_base64():
    assert lines_of(b"key,value_base64\na,/w==\n", "csv") == [(2, b"a", b"\xff")]


def test_reading_goes_on_from_a_line():
    assert lines_of(b'{"key":"a","value":"1"}\n{"key":"b","value":"2"}\n', "jsonl", 2) == [(2, b"b", b"2")]


@pytest.mark.parametrize(
    ("form", "text", "said"),
    [
        ("jsonl", b'{"key":"a","value":"1"}\n{"key":', "data:2: not JSON"),
        ("jsonl", b'{"key":"a","value":"1"}\n[1]', "data:2: not an object"),
        ("jsonl", b'{"value":"1"}', "data:1: key is missing"),
        ("jsonl", b'{"key":"a"}', "data:1: value is missing"),
        ("jsonl", b'{"key":"a","value":5}', "data:1: value is not text"),
        ("jsonl", b'{"key":"a","value_base64":"*"}', "data:1: value_base64 is not base64"),
        ("jsonl", b'{"key":"\xff","value":"1"}', "data:1: not JSON"),
        ("csv", b"", "data: empty"),
        ("csv", b"name,value\na,1\n", "data:1: no column key"),
        ("csv", b"key,value\na,1\nb\n", "data:3: 1 fields where the first line names 2"),
        ("csv", b'key,value\na,"1\n', "data:2: not CSV"),
        ("csv", b"key,value\na,\xff\n", "not UTF-8"),
    ],
)
def test_a_bad_line_is_named(form, text, said):
    with pytest.raises(BadLine, match=said.replace("(", r"\(")):
        lines_of(text, form)

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from chopmark.documents import MAX_DOCUMENT_BYTES, read_document, write_document
from chopmark.errors import DecodeError


def test_reads_what_people_write() -> None:
    data = b"""# a comment
kind: ModelRelease
spec: {version: "2", counter: 2, lit: true, dark: null, neg: -7}
list:
- a b
- 'no'
- |-
  two
  lines
"""
    assert read_document(data, what="x") == {
        "kind": "ModelRelease",
        "spec": {"version": "2", "counter": 2, "lit": True, "dark": None, "neg": -7},
        "list": ["a b", "no", "two\nlines"],
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: 1\na: 2\n", "stands twice"),
        (b"a: {b: 1, b: 2}", "stands twice"),
        (b"a: &x 1\nb: *x\n", "anchor"),
        (b"a: &x [*x]\n", "anchor|alias"),
        (b"<<: *x\n", "alias"),
        (b"a: !!python/object/apply:os.system [ls]\n", "tag"),
        (b"a: !!str 1\n", "tag"),
        (b"%YAML 1.1\n---\na: 1\n", "directive"),
        (b"a: 1\n---\nb: 2\n", "second document"),
        (b"- a\n", "not one document"),
        (b"", "empty"),
        (b"a: [", "line 1"),
        (b"1: a\n", "not text"),
        (b"? [a]\n: b\n", "not text"),
        (b"a: " + b"[" * 20 + b"]" * 20, "levels"),
        (b"a: \xff", "not YAML"),
        (b"a: '\x00'", "not YAML"),
        (b'a: "\\UFFFFFFFF"', "not YAML"),
        (b"a: " + b"x" * MAX_DOCUMENT_BYTES, "more than"),
    ],
)
def test_refuses_what_two_readers_could_read_differently(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        read_document(data, what="x")


@pytest.mark.parametrize(
    "word",
    ["no", "Yes", "on", "~", "1.10", "1e3", "0x1f", "010", "1_000", "12:30", "2026-11-22", ".inf", "-0", "TRUE", ""],
)
def test_an_ambiguous_word_is_written_in_quotes(word: str) -> None:
    with pytest.raises(DecodeError, match="different things") as caught:
        read_document(f"a: {word}\n".encode(), what="x")
    assert "quotes" in caught.value.hint
    assert read_document(f"a: '{word}'\n".encode(), what="x") == {"a": word}


def test_a_number_beyond_every_reader_is_refused() -> None:
    assert read_document(b"a: 9007199254740991", what="x") == {"a": 2**53 - 1}
    for text in (b"a: 9007199254740992", b"a: 99999999999999999999999999"):
        with pytest.raises(DecodeError):
            read_document(text, what="x")


def test_what_is_written_is_read_back() -> None:
    value = {"kind": "x", "n": 3, "list": ["2", "no", "1.10", "a: b", "", "é\n"], "empty": [], "map": {"on": None}}
    assert read_document(write_document(value, comment="hello"), what="x") == value

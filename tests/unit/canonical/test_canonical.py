# SPDX-License-Identifier: Apache-2.0
"""The one JSON: RFC 8785 out, strict in."""

from __future__ import annotations

import json

import msgspec
import pytest

from chopmark import canonical
from chopmark.errors import DecodeError, UsageError


def decode(data, max_bytes=10_000):
    return canonical.decode(data, what="thing", max_bytes=max_bytes)


def test_writing_is_rfc_8785():
    value = {
        "b": [1, True, None, 'é\u2028\x0f"'],
        "a": {},
        "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"): 0,
    }
    assert canonical.encode(value) == '{"a":{},"b":[1,true,null,"é\u2028\\u000f\\""],"😀":0}'.encode()


def test_members_are_sorted_by_utf_16_as_rfc_8785_says():
    # Section 3.2.3: the order of UTF-16 code units puts a surrogate pair (U+1F600) before U+FB33.
    assert canonical.encode({"\ufb33": 1, "😀": 2, "a": 3}) == '{"a":3,"😀":2,"\ufb33":1}'.encode()


@pytest.mark.parametrize(
    "value", [2**53, -(2**53), float("nan"), float("inf"), "\ud800", {"\udfff": 1}, {1: 2}, object()]
)
def test_what_has_no_canonical_form_is_an_error_of_ours(value):
    with pytest.raises(DecodeError):
        canonical.encode(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        b"nul",
        b"NaN",
        b"-Infinity",
        b"1.0",
        b"1e3",
        b"9007199254740992",
        b"-9007199254740992",
        b"9" * 5000,
        b'{"a":1,"a":1}',
        b'[{"b":{"a":1,"a":2}}]',
        b'"\\ud800"',
        b'"\\uDC00\\uD800"',
        b'{"\\udfff":0}',
        b'["\\ud83d", "\\ude00"]',
        b"[" * 9000,
        b"{} {}",
        b"'a'",
        b"01",
        b'"\n"',
    ],
)
def test_reading_is_strict(data):
    with pytest.raises(DecodeError) as refused:
        decode(data)
    assert refused.value.message.startswith("thing: ")


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"9007199254740991", 2**53 - 1),
        (b"-9007199254740991", -(2**53) + 1),
        (b'"\\ud83d\\ude00"', "😀"),
        (b' {"a" : [ ] } ', {"a": []}),
        (b"-0", 0),
    ],
)
def test_what_is_read(data, value):
    assert decode(data) == value


def test_the_length_is_checked_before_anything_is_parsed():
    with pytest.raises(DecodeError, match="5 bytes, more than the 4 allowed"):
        decode(b"[[[[[", max_bytes=4)
    assert decode(b"null", max_bytes=4) is None


class Inner(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    n: int


class Thing(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    v: int
    inner: list[Inner] = []
    free: dict[str, int] = {}


def decode_as(data, **options):
    return canonical.decode_as(data, Thing, what="thing", max_bytes=1000, **options)


def test_annotations_are_dropped_everywhere_and_never_restrict():
    data = b'{"v":1,"x-note":"a","inner":[{"n":1,"x-":{}}],"free":{"x-a":"no number","b":2}}'
    assert decode_as(data) == Thing(v=1, inner=[Inner(n=1)], free={"b": 2})


@pytest.mark.parametrize(
    "data", [b"{}", b"[]", b"1", b'{"v":"1"}', b'{"v":true}', b'{"v":null}', b'{"v":1,"also":1}', b'{"v":1,"X-a":1}']
)
def test_what_does_not_fit_is_refused(data):
    with pytest.raises(DecodeError):
        decode_as(data)


@pytest.mark.parametrize(
    "data",
    [
        b'{"v": 1}',
        b'{"v":1} ',
        b'{"v":1,"free":{"b":1,"a":2}}',
        b'{"v":-0}',
        b'{"v":1,"inner":[],"free":{"\\u0061":1}}',
    ],
)
def test_where_canonical_form_is_asked_for_there_is_one_spelling(data):
    assert decode_as(data)
    with pytest.raises(DecodeError, match="canonical"):
        decode_as(data, canonical=True)
    assert decode_as(canonical.encode(json.loads(data)), canonical=True) == decode_as(data)


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff\xfe", b"abc"])
def test_base64_round_trip(data):
    assert canonical.decode_base64(canonical.encode_base64(data), what="x") == data


@pytest.mark.parametrize(
    "text", ["A", "AA", "AA=", "AB==", "AAF=", "A A=", "AA==\n", "-_==", "AAAA====", "é", "\ud800"]
)
def test_base64_has_one_spelling(text):
    with pytest.raises(DecodeError):
        canonical.decode_base64(text, what="x")


@pytest.mark.parametrize("name", ["a", "digits", "owner-a", "0", "a.b_c-d", "a" * 63, "x", "xa-"])
def test_names(name):
    assert canonical.check_name(name, what="model") == name


@pytest.mark.parametrize("name", ["", "A", "x-a", "-a", ".a", "a/b", "a b", "a\n", "é", "a" * 64, "٣", "..", "a\0"])
def test_what_cannot_be_a_name(name):
    with pytest.raises(UsageError):
        canonical.check_name(name, what="model")


@pytest.mark.parametrize("data", [rb'"a\u0000b"', rb'{"a\u0000":1}', rb'["\\\u0000"]'])
def test_a_null_character_is_refused_where_another_reader_would_end_a_text(data):
    with pytest.raises(DecodeError):
        canonical.decode(data, what="x", max_bytes=99)
    with pytest.raises(DecodeError):
        canonical.encode(json.loads(data))


def test_what_only_looks_like_a_null_character_is_read():
    assert canonical.decode(rb'"\\u0000"', what="x", max_bytes=99) == "\\u0000"
    assert canonical.encode("\\u0000") == rb'"\\u0000"'

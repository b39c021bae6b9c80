# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from chopmark.data import decode_contract
from chopmark.errors import DecodeError

GOOD = """
[dataset]
name = "digits"
version = 1
files = "data/*.csv"
held_back = "data/test.csv"

[[columns]]
prefix = "p"
count = 12
type = "integer"
minimum = 0
maximum = 16

[[columns]]
name = "label"
type = "integer"
minimum = 0
maximum = 9

[[sources]]
name = "branch-a"
file = "data/a.csv"

[[sources]]
name = "branch-b"
files = ["data/b1.csv", "data/b2.csv"]
minimum_rows = 7
"""


def test_a_contract() -> None:
    contract = decode_contract(GOOD.encode())
    assert [column.name for column in contract.columns] == [*(f"p{n:02}" for n in range(12)), "label"]
    assert contract.columns[0].maximum == 16
    assert contract.learned == ("data/a.csv", "data/b1.csv", "data/b2.csv")
    assert contract.sources[1].minimum_rows == 7
    assert contract.knows("data/other.csv")
    assert not contract.knows("data/other.txt")
    assert contract.pins == {}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("version = 1", "version = 0", "at least 1"),
        ("version = 1", "version = 1\nversion = 2", "not TOML"),
        ("version = 1", "version = 1\nunknown = 2", "unknown"),
        ("version = 1", "version = 1.0", "version"),
        ("version = 1", "version = 2026-11-22", "version"),
        ('name = "digits"', 'name = "Digits!"', "not a name"),
        ('name = "label"', 'name = "etikett"', "the label"),
        ('name = "label"', 'name = "label"\nprefix = "x"', "either a name"),
        ('name = "label"', 'name = "la bel"', "cannot name a column"),
        ("count = 12", "count = 0", "prefix and a count"),
        ("count = 12", "count = -3", "a count of -3"),
        ("count = 12", "count = 1000000000", "more than"),
        ("maximum = 16", "maximum = -1", "above maximum"),
        ("maximum = 16", "maximum = 9007199254740993", "beyond 2\\^53"),
        ("maximum = 9\n", "maximum = 1000\n", "more than 1,000 values"),
        ('type = "integer"', 'type = "float"', "not known here"),
        ('name = "branch-b"', 'name = "branch-a"', "source 'branch-a' stands twice"),
        ('"data/b2.csv"', '"data/b1.csv"', "stands twice"),
        ('"data/b2.csv"', '"data/test.csv"', "stands twice"),
        ('"data/b2.csv"', '"../b2.csv"', "cannot name a file"),
        ('file = "data/a.csv"', 'file = "data/a.csv"\nfiles = ["data/c.csv"]', "either a file"),
        ("minimum_rows = 7", "minimum_rows = 0", "at least 1"),
        ("minimum_rows = 7", 'minimum_rows = 7\n[pins."data/a.csv"]\nsha256 = "00"\nrows = 1', "SHA-256"),
        ("[dataset]", "[other]\n[dataset]", "other"),
    ],
)
def test_contracts_that_are_none(old: str, new: str, words: str) -> None:
    assert old in GOOD
    with pytest.raises(DecodeError, match=words):
        decode_contract(GOOD.replace(old, new, 1).encode())


def test_no_source_and_too_long() -> None:
    with pytest.raises(DecodeError):
        decode_contract(GOOD.partition("[[sources]]")[0].encode())
    with pytest.raises(DecodeError, match="bytes allowed"):
        decode_contract(b"#" * 1024 * 1024 + b"\n")

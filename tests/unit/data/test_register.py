# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from chopmark.artifacts import Digest, scan
from chopmark.data import dataset_statement, decode_contract, decode_dataset, pin, read_table, register
from chopmark.errors import DecodeError, UsageError, VerificationError
from chopmark.statements import PredicateType, decode_statement, encode_statement

CONTRACT = """\
# The people who wrote this contract wrote comments too.
[dataset]
name = "numbers"
version = 3
files = "data/*.csv"
held_back = "data/test.csv"

[[columns]]
name = "x"
type = "integer"
minimum = -5
maximum = 9

[[columns]]
name = "label"
type = "integer"
minimum = 0
maximum = 1

[[sources]]
name = "north"
file = "data/north.csv"
minimum_rows = 2
minimum_rows_per_label = 1

[[sources]]
name = "south"
file = "data/south.csv"
"""
NORTH = "x,label\n1,0\n-2,1\n"


class Delivery:
    def __init__(self, base: Path) -> None:
        self.folder = base / "data"
        self.contract = base / "schema.toml"
        self.folder.mkdir()
        self.contract.write_text(CONTRACT)
        self.write("north.csv", NORTH)
        self.write("south.csv", "x,label\n3,0\n")
        self.write("test.csv", "x,label\n9,1\n8,0\n")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_bytes(text.encode())

    def pin(self) -> None:
        pin(self.folder, self.contract)

    def register(self):
        return register(self.folder, self.contract)


@pytest.fixture
def delivery(tmp_path: Path) -> Delivery:
    return Delivery(tmp_path)


def test_a_pinned_dataset_is_registered(delivery: Delivery) -> None:
    delivery.pin()
    dataset = delivery.register()
    assert dataset.manifest == scan(delivery.folder)
    assert (dataset.name, dataset.version, dataset.rows) == ("numbers", 3, 3)
    assert dataset.label_counts == {0: 2, 1: 1}
    assert dataset.withheld == ("test.csv",)
    statement = decode_statement(encode_statement(dataset_statement(dataset)))
    assert statement.predicate_type == PredicateType.DATASET
    assert (statement.subject.name, statement.subject.digest) == ("data/numbers", scan(delivery.folder).digest)
    sources = decode_dataset(statement.predicate)
    assert sources["north"][0].sha256 == Digest.of(NORTH.encode())
    assert sources["north"][0].rows == 2
    assert sources[""][0].name == "test.csv"


def test_pinning_keeps_the_text_and_can_be_repeated(delivery: Delivery) -> None:
    delivery.pin()
    once = delivery.contract.read_bytes()
    assert once.decode().startswith(CONTRACT)
    delivery.pin()
    assert delivery.contract.read_bytes() == once
    delivery.write("north.csv", NORTH + "4,1\n")
    delivery.pin()
    assert decode_contract(delivery.contract.read_bytes()).pins["data/north.csv"].rows == 3
    assert delivery.register().rows == 4


def test_nothing_is_pinned_that_would_not_pass(delivery: Delivery) -> None:
    delivery.write("north.csv", "x,label\n1,0\n99,1\n")
    with pytest.raises(VerificationError, match="99"):
        delivery.pin()
    assert delivery.contract.read_text() == CONTRACT


def test_pins_by_hand_above_the_mark_are_refused_when_pinning(delivery: Delivery) -> None:
    delivery.contract.write_text(CONTRACT + f'[pins."data/north.csv"]\nsha256 = "{"0" * 64}"\nrows = 2\n')
    before = delivery.contract.read_bytes()
    with pytest.raises(DecodeError):
        delivery.pin()
    assert delivery.contract.read_bytes() == before


def test_an_unpinned_contract_registers_nothing(delivery: Delivery) -> None:
    with pytest.raises(VerificationError) as caught:
        delivery.register()
    assert caught.value.code == "dataset-unpinned"
    assert "--pin" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("x,label\n1,0\n10,1\n", "row 2, column x", "10 is not within -5 to 9"),
        ("x,label\n1,0\n-6,1\n", "row 2, column x", "-6 is not within"),
        ("x,label\n1,2\n", "row 1, column label", "2 is not within 0 to 1"),
        ("x,label\n1,0\n1.5,1\n", "row 2, column x", "'1.5' is not a whole number"),
        ("x,label\n01,0\n", "row 1, column x", "'01'"),
        ("x,label\n+1,0\n", "row 1, column x", "whole number"),
        ("x,label\n-0,0\n", "row 1, column x", "whole number"),
        ("x,label\n 1,0\n", "row 1, column x", "whole number"),
        ("x,label\n,0\n", "row 1, column x", "whole number"),
        ("x,label\n٣,0\n", "row 1, column x", "whole number"),
        ("x,label\n99999999999999999999,0\n", "row 1, column x", "whole number"),
        ("x,label\n1\n", "row 1", "1 values for 2 columns"),
        ("x,label\n1,0,0\n", "row 1", "3 values for 2 columns"),
        ("x,label\n\n1,0\n", "row 1", "0 values"),
        ("x,label\n", "header", "no rows"),
        ("", "header", "without x, label"),
        ("label,x\n1,0\n", "header", "another order"),
        ("x,label,extra\n1,0,0\n", "header", "unknown: extra"),
        ("x\n1\n", "header", "without label"),
    ],
)
def test_every_value_is_checked_and_errors_say_where(delivery: Delivery, text: str, where: str, words: str) -> None:
    delivery.pin()
    delivery.write("north.csv", text)
    with pytest.raises(VerificationError) as caught:
        delivery.register()
    assert caught.value.code == "dataset-invalid"
    assert caught.value.message.startswith(f"north.csv, {where}: ")
    assert words in caught.value.message


@pytest.mark.parametrize("data", [b'x,label\n"1",0\n', b"x,label\n1,\xff\n", b"x,label\n1,0\0\n"])
def test_files_that_are_no_plain_csv(delivery: Delivery, data: bytes) -> None:
    (delivery.folder / "north.csv").write_bytes(data)
    with pytest.raises(DecodeError, match=r"north\.csv"):
        delivery.pin()


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda d: d.write("north.csv", NORTH.replace("-2,1", "-1,1")), "dataset-altered", "north.csv"),
        (lambda d: d.write("test.csv", "x,label\n9,1\n7,0\n"), "dataset-altered", "test.csv"),
        (lambda d: d.write("east.csv", NORTH), "dataset-unpinned", "east.csv"),
        (lambda d: d.write("notes.txt", "hello"), "dataset-unknown-file", "notes.txt"),
        (lambda d: (d.folder / "south.csv").unlink(), "dataset-missing-file", "south.csv"),
        (lambda d: (d.folder / "test.csv").unlink(), "dataset-missing-file", "test.csv"),
    ],
)
def test_files_that_are_not_what_is_pinned(delivery: Delivery, change, code: str, words: str) -> None:
    delivery.pin()
    change(delivery)
    with pytest.raises(VerificationError, match=words) as caught:
        delivery.register()
    assert caught.value.code == code


def test_a_pinned_file_that_is_gone(delivery: Delivery) -> None:
    delivery.write("more.csv", NORTH)
    delivery.pin()
    assert [file.name for file in delivery.register().others] == ["more.csv"]
    (delivery.folder / "more.csv").unlink()
    with pytest.raises(VerificationError) as caught:
        delivery.register()
    assert caught.value.code == "dataset-missing-file"


@pytest.mark.parametrize(
    ("text", "words"),
    [("x,label\n1,0\n", "1 rows, fewer than 2"), ("x,label\n1,0\n2,0\n", "0 rows of label 1")],
)
def test_a_source_that_delivers_too_little(delivery: Delivery, text: str, words: str) -> None:
    delivery.write("north.csv", text)
    with pytest.raises(VerificationError, match=words) as caught:
        delivery.pin()
    assert caught.value.code == "dataset-short"


def test_held_back_rows_among_those_to_learn_from(delivery: Delivery) -> None:
    delivery.write("south.csv", "x,label\n3,0\n8,0\n")
    with pytest.raises(VerificationError, match=r"1 of its rows are held back") as caught:
        delivery.pin()
    assert caught.value.code == "dataset-leak"


def test_a_contract_inside_the_folder_is_part_of_the_dataset(tmp_path: Path) -> None:
    inside = tmp_path / "schema.toml"
    inside.write_text(CONTRACT.replace("data/", ""))
    for name, text in (("north.csv", NORTH), ("south.csv", "x,label\n3,0\n"), ("test.csv", "x,label\n9,1\n")):
        (tmp_path / name).write_text(text)
    pin(tmp_path, inside)
    assert register(tmp_path, inside).manifest.file("schema.toml") is not None


def test_folders_that_are_none(delivery: Delivery, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        register(tmp_path / "nothing", delivery.contract)
    with pytest.raises(UsageError):
        register(delivery.folder, tmp_path / "nothing.toml")
    below = delivery.folder / "sub"
    below.mkdir()
    (below / "schema.toml").write_text(CONTRACT)
    with pytest.raises(UsageError, match="not below"):
        register(delivery.folder, below / "schema.toml")
    (delivery.folder / "link.csv").symlink_to("north.csv")
    with pytest.raises(UsageError, match="link"):
        delivery.register()


def test_a_table_is_inputs_and_labels_of_the_bytes_that_were_hashed(delivery: Delivery) -> None:
    contract = decode_contract(delivery.contract.read_bytes())
    table = read_table(delivery.folder / "north.csv", contract, digest=Digest.of(NORTH.encode()))
    assert (table.inputs, table.labels) == (((1,), (-2,)), (0, 1))
    with pytest.raises(VerificationError) as caught:
        read_table(delivery.folder / "north.csv", contract, digest=Digest.of(b""))
    assert caught.value.code == "dataset-altered"


@pytest.mark.parametrize(
    "changes", [{"v": 2}, {"more": 1}, {"contract": "x"}, {"sources": [{"name": "", "files": []}]}]
)
def test_predicates_that_are_none(delivery: Delivery, changes: dict) -> None:
    delivery.pin()
    predicate = dataset_statement(delivery.register()).predicate
    with pytest.raises(DecodeError):
        decode_dataset({**predicate, **changes})

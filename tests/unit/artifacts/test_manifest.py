# SPDX-License-Identifier: Apache-2.0
"""Digests and manifests: one artifact has one manifest, and one manifest has one spelling."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from chopmark import canonical
from chopmark.artifacts import Digest, Manifest, check_file_name, decode_manifest, hash_bytes, model
from chopmark.errors import DecodeError

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4, "abc"


def manifest(*names):
    return Manifest(files=tuple(hash_bytes(name, name.encode()) for name in names))


def test_a_digest_and_its_spellings():
    digest = Digest.of(b"abc")
    assert str(digest) == f"sha256:{ABC}"
    assert digest == Digest.parse(f"sha256:{ABC}") == Digest.from_hex(ABC)
    assert (digest.hex, digest.short) == (ABC, ABC[:8])
    assert sorted([Digest.of(b"b"), digest])


@pytest.mark.parametrize(
    "text",
    [
        "",
        ABC,
        "sha256:",
        f"sha256:{ABC.upper()}",
        f"SHA256:{ABC}",
        f"sha256:{ABC}0",
        f"sha256:{ABC}\n",
        f"sha512:{ABC}",
        f"sha256: {ABC}",
        "sha256:" + "٠" * 64,
    ],
)
def test_another_spelling_is_no_digest(text):
    with pytest.raises(DecodeError):
        Digest.parse(text)
    with pytest.raises(DecodeError):
        Digest(b"short")


def test_round_trip_and_digest():
    made = manifest("a", "b/c", "b/d/e")
    assert decode_manifest(made.encode()) == made
    assert made.digest == Digest.of(made.encode())
    assert made.file("b/c") == hash_bytes("b/c", b"b/c")
    assert made.file("b") is None


def test_it_is_written_as_the_protocol_says():
    (file,) = json.loads(manifest("model.onnx").encode())["files"]
    assert set(file) == {"name", "length", "sha256", "fsverity"}
    assert set(file["fsverity"]) == {"4096", "65536"}


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("b", "a"),
        ("a", "a"),
        ("a/b", "a"),
        ("a", "a/b"),
        ("a", "a/b/c"),
        ("é", "z"),  # by bytes, é comes after z
        ("ab", "a/c"),
    ],
    ids=["none", "order", "twice", "order-of-folder", "file-and-folder", "file-and-folders", "by-bytes", "slash-first"],
)
def test_names_that_do_not_go_together(names):
    with pytest.raises(DecodeError):
        manifest(*names)


def test_the_order_is_that_of_the_bytes():
    manifest("a", "z", "é", "\uff21", "😀")


@pytest.mark.parametrize(
    "name",
    ["model.onnx", "a b", "-rf", "~", "ü", "日本/語", ".hidden", "a..b", "...", "CON", "a" * 1024, "a?b#c%41"],
)
def test_names_of_files(name):
    check_file_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "./a",
        "a/.",
        "a\\b",
        "a\0",
        "a\nb",
        "\x7f",
        "u\u0308",  # NFD
        "\u212b",  # ANGSTROM SIGN: NFC is another character
        "\u200e",  # LEFT-TO-RIGHT MARK
        "a\u202eb",
        "\ud800",
        "\ue000",  # private use
        "a" * 1025,
        "é" * 513,
    ],
)
def test_names_that_mean_different_files_on_different_systems(name):
    with pytest.raises(DecodeError):
        check_file_name(name)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(v=2),
        lambda m: m.update(also=1),
        lambda m: m.update(files=[]),
        lambda m: m["files"][0].update(length=-1),
        lambda m: m["files"][0].update(length=True),
        lambda m: m["files"][0].update(length=2**53),
        lambda m: m["files"][0].update(sha256="sha256:" + ABC),
        lambda m: m["files"][0].update(sha256=ABC.upper()),
        lambda m: m["files"][0].update(also=1),
        lambda m: m["files"][0].update(fsverity={}),
        lambda m: m["files"][0]["fsverity"].pop("4096"),
        lambda m: m["files"][0]["fsverity"].update({"8192": ABC}),
        lambda m: m["files"][0]["fsverity"].update({"4096": "00"}),
        lambda m: m["files"].reverse(),
        lambda m: m["files"].append(m["files"][-1]),
        lambda m: m["files"][0].update(name="../a"),
        lambda m: m["files"][0].pop("name"),
        lambda m: m.pop("files"),
    ],
)
def test_reading_is_strict(change):
    members = json.loads(manifest("a", "b").encode())
    change(members)
    with pytest.raises(DecodeError):
        decode_manifest(json.dumps(members, separators=(",", ":"), sort_keys=True).encode())


def test_only_the_canonical_bytes_are_read():
    data = manifest("a").encode()
    for other in (data + b"\n", b" " + data, json.dumps(json.loads(data)).encode(), data.replace(b'"a"', b'"\\u0061"')):
        with pytest.raises(DecodeError):
            decode_manifest(other)


def test_every_member_changes_the_package_digest():
    plain = manifest("a", "b")
    first, second = plain.files
    others = [
        replace(first, name="0"),
        replace(first, length=first.length + 1),
        replace(first, sha256=Digest.of(b"")),
        replace(first, fsverity={**first.fsverity, 4096: Digest.of(b"")}),
    ]
    digests = {Manifest(files=(other, second)).digest for other in others}
    assert len(digests | {plain.digest}) == 5


def test_a_length_that_no_json_reader_keeps_is_not_written():
    (entry,) = manifest("a").files
    with pytest.raises(DecodeError):
        Manifest(files=(replace(entry, length=canonical.MAX_INTEGER + 1),)).encode()


def test_too_many_files(monkeypatch):
    monkeypatch.setattr(model, "MAX_FILES", 10_000)
    entry = hash_bytes("a", b"")
    with pytest.raises(DecodeError):
        Manifest(files=tuple(replace(entry, name=f"{n:05}") for n in range(10_001)))


def test_bytes_are_those_of_the_general_encoder():
    made = manifest('a "quoted" name', "b/é", "c/\U0001f600", "d&<>/\u2028")
    members = [
        {
            "name": file.name,
            "length": file.length,
            "sha256": file.sha256.hex,
            "fsverity": {str(size): digest.hex for size, digest in file.fsverity.items()},
        }
        for file in made.files
    ]
    assert made.encode() == canonical.encode({"v": 1, "files": members})


@pytest.mark.parametrize("sizes", [{4096}, {65536}, {4096, 65536, 8192}])
def test_other_block_sizes_are_not_written(sizes):
    entry = hash_bytes("a", b"")
    with pytest.raises(DecodeError):
        Manifest(files=(replace(entry, fsverity=dict.fromkeys(sizes, entry.sha256)),)).encode()

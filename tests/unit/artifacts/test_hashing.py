# SPDX-License-Identifier: Apache-2.0
"""One pass over a file: SHA-256 and the fs-verity digests; and folders that hold more than files."""

from __future__ import annotations

import hashlib
import os
import socket

import pytest

from chopmark.artifacts import BLOCK_SIZES, BlockTree, file_names, hash_bytes, hash_file, open_regular, scan
from chopmark.artifacts.hashing import CHUNK_BYTES
from chopmark.errors import DecodeError, UsageError, VerificationError

EMPTY_4096 = "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"
"""``fsverity digest`` of an empty file, 4,096-byte blocks: the one that fsverity-utils documents."""


def by_the_book(data, block):
    """fs-verity as the kernel's documentation tells it, level by level."""
    level = [data[at : at + block].ljust(block, b"\0") for at in range(0, len(data), block)]
    while len(level) > 1:
        joined = b"".join(hashlib.sha256(each).digest() for each in level)
        level = [joined[at : at + block].ljust(block, b"\0") for at in range(0, len(joined), block)]
    root = hashlib.sha256(level[0]).digest() if level else bytes(32)
    descriptor = bytearray(256)
    descriptor[0], descriptor[1], descriptor[2] = 1, 1, block.bit_length() - 1
    descriptor[8:16] = len(data).to_bytes(8, "little")
    descriptor[16:48] = root
    return hashlib.sha256(descriptor).hexdigest()


def test_the_published_digest_of_an_empty_file():
    assert hash_bytes("empty", b"").fsverity[4096].hex == EMPTY_4096


@pytest.mark.parametrize("block", BLOCK_SIZES)
@pytest.mark.parametrize("length", [0, 1, 4095, 4096, 4097, 65536, 65537, 4096 * 128, 4096 * 128 + 1, 4096 * 300 + 5])
def test_block_trees(block, length):
    data = bytes(n * 7 % 251 for n in range(1000)) * (length // 1000 + 1)
    data = data[:length]
    assert hash_bytes("a", data).fsverity[block].hex == by_the_book(data, block)


@pytest.mark.parametrize("step", [1, 100, 4095, 4096, 4097, 10_000])
def test_how_a_stream_is_cut_does_not_matter(step):
    data = os.urandom(10_000)
    tree = BlockTree(4096)
    for at in range(0, len(data), step):
        tree.update(data[at : at + step])
    assert tree.digest().hex == by_the_book(data, 4096)
    assert tree.digest() == tree.digest()


def test_a_file_is_hashed_as_its_bytes_are(tmp_path):
    data = os.urandom(CHUNK_BYTES + 5)
    (tmp_path / "model.onnx").write_bytes(data)
    assert hash_file(tmp_path / "model.onnx") == hash_bytes("model.onnx", data)
    assert hash_file(tmp_path / "model.onnx", name="a/b") == hash_bytes("a/b", data)


def test_a_folder_is_scanned_in_one_order(tmp_path):
    for name in ("z", "a/b", "a/é", "a.b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "empty").mkdir()
    seen = []
    manifest = scan(tmp_path, on_file=seen.append)
    assert [file.name for file in manifest.files] == ["a.b", "a/b", "a/é", "z"]
    assert sorted(seen, key=lambda file: file.name) == list(manifest.files)
    assert set(file_names(tmp_path)) == {"a.b", "a/b", "a/é", "z"}


def make_link(folder):
    (folder / "real").write_bytes(b"x")
    (folder / "link").symlink_to("real")


def make_folder_link(folder):
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")


def make_dangling(folder):
    (folder / "link").symlink_to("nowhere")


def make_pipe(folder):
    os.mkfifo(folder / "pipe")


def make_socket(folder):
    with socket.socket(socket.AF_UNIX) as end:
        os.chdir(folder)
        end.bind("socket")


@pytest.mark.parametrize("make", [make_link, make_folder_link, make_dangling, make_pipe, make_socket])
def test_an_artifact_holds_regular_files_only(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    with pytest.raises(UsageError):
        scan(tmp_path)


def test_no_folder_or_nothing_in_it(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    (tmp_path / "link").symlink_to("empty")
    for name in ("file", "empty", "link", "missing"):
        with pytest.raises(UsageError):
            scan(tmp_path / name)


@pytest.mark.parametrize("name", [b"u\xcc\x88", b"\xff", b"a\\b", b"a\nb"])
def test_a_name_that_no_artifact_can_have(tmp_path, name):
    with open(os.fsencode(tmp_path) + b"/" + name, "wb"):  # noqa: PTH123
        pass
    with pytest.raises(DecodeError):
        scan(tmp_path)


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match="cannot be read"):
        scan(tmp_path)


def test_a_file_that_breaks_while_it_is_read(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"x")

    def broken(descriptor, buffers):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "readv", broken)
    with pytest.raises(UsageError, match="cannot be read"):
        hash_file(tmp_path / "a")


def test_a_file_that_changes_while_it_is_hashed(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"x" * 10)
    real = os.readv

    def growing(descriptor, buffers):
        with (tmp_path / "a").open("ab") as file:
            file.write(b"y") if file.tell() < 20 else None
        return real(descriptor, buffers)

    monkeypatch.setattr(os, "readv", growing)
    with pytest.raises(VerificationError, match="changed"):
        hash_file(tmp_path / "a")


@pytest.mark.parametrize("make", [make_link, make_folder_link, make_dangling, make_pipe])
def test_open_regular_waits_for_nobody_and_follows_nothing(tmp_path, make):
    make(tmp_path)
    for name in ("link", "pipe", "missing", "."):
        with pytest.raises(UsageError):
            open_regular(tmp_path / name)

# SPDX-License-Identifier: Apache-2.0
"""Folders that somebody writes to while they are hashed, names that are one file elsewhere, and remembered digests that lie."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from chopmark.apps.cli.main import run
from chopmark.artifacts import HashState, digests, hash_file, manifest_of, scan, verify_blocks, verify_tree, walk
from chopmark.artifacts.large import PART_BYTES
from chopmark.errors import ChopmarkError, DecodeError, UndecidedError, UsageError, VerificationError

SIZES = [10_000, 3 * PART_BYTES]
HASHERS = {"digests": digests, "scan": scan}


@contextmanager
def refused(kind, code):
    with pytest.raises(kind) as caught:
        yield
    assert caught.value.code == code
    assert caught.value.hint


def meanwhile(monkeypatch, action):
    """Do *action* once, when the first bytes of a file are read."""
    done = []

    def before(real):
        def call(*args):
            got = real(*args)
            if not done:
                done.append(True)
                action()
            return got

        return call

    for name in ("readv", "preadv"):
        monkeypatch.setattr(os, name, before(getattr(os, name)))


def grow(path):
    with path.open("ab") as file:
        file.write(b"more")


def cut(path):
    os.truncate(path, 100)


def overwrite(path):
    with path.open("r+b") as file:
        file.write(b"other")


def overwrite_and_restore_the_time(path):
    before = path.stat()
    overwrite(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path):
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


def remove(path):
    path.unlink()


@pytest.mark.parametrize("how", HASHERS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("change", [grow, cut, overwrite, overwrite_and_restore_the_time, replace, remove])
def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch, change, size, how):
    path = tmp_path / "model.bin"
    path.write_bytes(os.urandom(size))
    time.sleep(0.02)  # the kernel's clock for files ticks every few milliseconds
    meanwhile(monkeypatch, lambda: change(path))
    with refused(VerificationError, "file-changed"):
        HASHERS[how](tmp_path)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_that_is_cut_while_it_is_read_does_not_end_the_process(tmp_path, size):
    # Through a mapping this would be SIGBUS, which nothing in Python catches.
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(size))
    program = (
        "import os, sys; from pathlib import Path; from chopmark.artifacts import digests, hash_file\n"
        "from chopmark.errors import VerificationError\n"
        "path = Path(sys.argv[1])\n"
        "def cutting(real):\n"
        "    def call(*args):\n"
        "        os.truncate(path, 1)\n"
        "        return real(*args)\n"
        "    return call\n"
        "os.readv, os.preadv = cutting(os.readv), cutting(os.preadv)\n"
        "for hashed in (digests, hash_file):\n"
        "    os.truncate(path, int(sys.argv[2]))\n"
        "    try: hashed(path); print('taken')\n"
        "    except VerificationError as error: print(error.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), str(size)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout.split()) == (0, ["file-changed", "file-changed"]), done.stderr


def folder_for_link(folder, secret):
    (folder / "inner").rename(folder.parent / "moved")
    (folder / "inner").symlink_to(secret)


def folder_for_folder(folder, secret):
    (folder / "inner").rename(folder.parent / "moved")
    secret.rename(folder / "inner")


def folder_for_nothing(folder, secret):
    (folder / "inner").rename(folder.parent / "moved")


@pytest.mark.parametrize("how", HASHERS)
@pytest.mark.parametrize("swap", [folder_for_link, folder_for_folder, folder_for_nothing])
def test_a_folder_that_is_swapped_after_it_was_listed(tmp_path, monkeypatch, swap, how):
    folder, secret = tmp_path / "model", tmp_path / "secret"
    for place in (folder / "inner", secret):
        place.mkdir(parents=True)
        (place / "a").write_bytes(b"x")
    real = walk.listed

    def swapped(tree):
        found = real(tree)
        swap(folder, secret)
        return found

    monkeypatch.setattr("chopmark.artifacts.hashing.listed", swapped)
    with refused(VerificationError, "file-changed"):
        HASHERS[how](folder)


@pytest.mark.parametrize("how", HASHERS)
@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc/passwd"), os.mkfifo, lambda path: path.mkdir()])
def test_a_file_that_is_swapped_for_something_else_after_it_was_listed(tmp_path, monkeypatch, make, how):
    path = tmp_path / "a"
    path.write_bytes(b"x")
    real = walk.listed

    def swapped(tree):
        found = real(tree)
        path.unlink()
        make(path)
        return found

    monkeypatch.setattr("chopmark.artifacts.hashing.listed", swapped)
    with refused(UsageError, "not-regular"):
        HASHERS[how](tmp_path)


@pytest.mark.parametrize("how", HASHERS)
@pytest.mark.parametrize("names", [("Model.onnx", "model.onnx"), ("a/x", "A/y"), ("STRASSE", "straße"), ("a", "A/x")])
def test_names_that_are_one_file_on_a_phone(tmp_path, names, how):
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    with refused(VerificationError, "name-collision"):
        HASHERS[how](tmp_path)


@pytest.mark.parametrize("how", HASHERS)
@pytest.mark.parametrize(
    "name", [b"\xff", b"u\xcc\x88", b"a\\b", b"a\nb", b"a\x1b[2J", b"\xe2\x80\xaetxt.exe", b"..\\up", b"\xc2\xad"]
)
def test_names_that_mean_different_things_to_different_systems(tmp_path, name, how):
    with open(os.fsencode(tmp_path) + b"/" + name, "wb"):  # noqa: PTH123
        pass
    with refused(DecodeError, "bad-name"):
        HASHERS[how](tmp_path)


@pytest.mark.parametrize("how", HASHERS)
def test_more_files_than_an_artifact_can_have(tmp_path, monkeypatch, how):
    monkeypatch.setattr(walk, "MAX_FILES", 10)
    for number in range(11):
        (tmp_path / f"{number % 3}").mkdir(exist_ok=True)
        (tmp_path / f"{number % 3}" / str(number)).write_bytes(b"")
    with refused(UsageError, "too-many-files"):
        HASHERS[how](tmp_path)


@pytest.mark.parametrize("how", HASHERS)
def test_folders_deeper_than_a_stack_and_a_path(tmp_path, how):
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    try:
        with refused(DecodeError, "bad-name"):
            HASHERS[how](tmp_path)
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_folders_as_deep_as_a_name_can_be(tmp_path):
    deep = tmp_path / "/".join(["d"] * 511)
    deep.mkdir(parents=True)
    (deep / "f").write_bytes(b"x")
    assert digests(tmp_path)[0].name == "d/" * 511 + "f"


@pytest.mark.parametrize("how", HASHERS)
@pytest.mark.parametrize("closed", ["in", "in/a"])
def test_what_nobody_may_read_is_said(tmp_path, monkeypatch, closed, how):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"x")
    (tmp_path / closed).chmod(0)
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(UsageError, match="Permission denied") as caught:
            HASHERS[how](Path())
    finally:
        if root:
            os.seteuid(0)
        (tmp_path / closed).chmod(0o755)
    assert closed in caught.value.message
    assert caught.value.hint


# Blocks


def test_a_block_that_was_altered_is_not_given_out(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(os.urandom(5 * 65536))
    entry = manifest_of(path, leaves=tmp_path / "leaves").files[0]
    leaves = (tmp_path / "leaves" / "model.bin.leaves").read_bytes()
    with path.open("r+b") as file:
        file.seek(3 * 65536 + 9)
        file.write(b"!")
        file.flush()
        given = verify_blocks(file.fileno(), entry, leaves, [range(65536 * 2, 65536 * 4)])
        assert next(given)[0] == 65536 * 2
        with refused(VerificationError, "block-altered"):
            next(given)


def test_a_file_that_was_cut_in_its_zeros_is_not_whole(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"x" + bytes(65535 + 100))
    entry = manifest_of(path, leaves=tmp_path / "leaves").files[0]
    leaves = (tmp_path / "leaves" / "model.bin.leaves").read_bytes()
    os.truncate(path, 65536 + 50)
    with path.open("rb") as file, refused(VerificationError, "block-altered"):
        list(verify_blocks(file.fileno(), entry, leaves, [range(65536, 65636)]))


@pytest.mark.parametrize("at", [0, 31, 32, 159])
def test_leaves_that_were_altered_check_nothing(tmp_path, at):
    path = tmp_path / "model.bin"
    path.write_bytes(os.urandom(5 * 65536))
    entry = manifest_of(path, leaves=tmp_path / "leaves").files[0]
    leaves = bytearray((tmp_path / "leaves" / "model.bin.leaves").read_bytes())
    leaves[at] ^= 1
    with path.open("rb") as file, refused(VerificationError, "leaves-altered"):
        verify_blocks(file.fileno(), entry, bytes(leaves), [range(1)])


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("size", [0, 1, 65536, PART_BYTES, 2 * PART_BYTES + 65537])
def test_a_file_that_is_checked_by_its_tree(tmp_path, monkeypatch, size, workers):
    path = tmp_path / "model.bin"
    path.write_bytes(os.urandom(size))
    entry = hash_file(path)
    verify_tree(path, entry, workers=workers)
    for change in (grow, overwrite, cut):
        path.write_bytes(path.read_bytes())
        change(path)
        with refused(VerificationError, "file-altered"):
            verify_tree(path, entry, workers=workers)
    path.write_bytes(os.urandom(PART_BYTES))
    entry = hash_file(path)
    time.sleep(0.02)
    meanwhile(monkeypatch, lambda: cut(path))
    with refused(VerificationError, "file-changed"):
        verify_tree(path, entry, workers=workers)


# What is remembered


def state(folder, path, *, changed_only=False):
    return HashState(path, of=folder, changed_only=changed_only, now_ns=time.time_ns)


def hashed(folder, path, **options):
    with state(folder, path, **options) as remembered:
        found = manifest_of(folder, state=remembered)
        remembered.finish()
    return found, remembered.taken


def old_files(folder):
    """Three files that nobody touched lately. (Their ctime cannot be set: the run has to come later.)"""
    folder.mkdir()
    for name in "abc":
        (folder / name).write_bytes(name.encode() * 1000)
    time.sleep(2.1)
    return folder


def test_remembered_digests_hide_no_change(tmp_path):
    folder = old_files(tmp_path / "model")
    first, taken = hashed(folder, tmp_path / "s")
    assert taken == 0
    assert hashed(folder, tmp_path / "s", changed_only=True) == (first, 3)
    assert hashed(folder, tmp_path / "s") == (first, 0), "nothing is trusted unasked"
    overwrite_and_restore_the_time(folder / "b")
    found, taken = hashed(folder, tmp_path / "s", changed_only=True)
    assert (found, taken) == (scan(folder), 2)
    assert found != first


def test_a_file_written_just_before_it_is_hashed_is_hashed_again(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a").write_bytes(b"x")
    hashed(tmp_path / "model", tmp_path / "s")
    assert hashed(tmp_path / "model", tmp_path / "s", changed_only=True)[1] == 0


def test_a_state_that_others_could_write_is_refused(tmp_path):
    folder, path = tmp_path / "model", tmp_path / "s"
    folder.mkdir()
    (folder / "a").write_bytes(b"x")
    hashed(folder, path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o620)
    with refused(UsageError, "state-not-ours"):
        hashed(folder, path)
    path.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
        with refused(UsageError, "state-not-ours"):
            hashed(folder, path)
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("link", "pipe"):
        with pytest.raises(UsageError):
            hashed(folder, tmp_path / name)


def test_a_state_of_something_else_is_refused(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_bytes(b"x")
    hashed(tmp_path / "one", tmp_path / "s")
    with refused(UsageError, "usage"):
        hashed(tmp_path / "two", tmp_path / "s")


def test_two_runs_share_no_state(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    with state(tmp_path / "a", tmp_path / "s"), refused(UndecidedError, "state-in-use"):
        hashed(tmp_path / "a", tmp_path / "s")


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [b"{}\n", *lines[1:]],
        lambda lines: [b"not a state, and no line\n"],
        lambda lines: [lines[0].replace(b'"v":1', b'"v":2')],
        lambda lines: [lines[0], b"[1]\n"],
        lambda lines: [lines[0], b"{}\n"],
        lambda lines: [lines[0], b"\xff\n"],
        lambda lines: [lines[0], lines[1].replace(b'"length":1000', b'"length":-1')],
        lambda lines: [lines[0], lines[1].replace(b'"sha256":"', b'"sha256":"zz')],
        lambda lines: [lines[0], lines[1].replace(b'"seen":[', b'"seen":[1,')],
        lambda lines: [lines[0], lines[1].replace(b'"seen":', b'"also":1,"seen":')],
        lambda lines: [lines[0], b"x" * 100_000 + b"\n"],
        lambda lines: [b"half a line that is none of ours"],
    ],
)
def test_a_damaged_state_is_said(tmp_path, damage):
    folder, path = tmp_path / "model", tmp_path / "s"
    folder.mkdir()
    (folder / "a").write_bytes(b"x" * 1000)
    hashed(folder, path)
    before = damage(path.read_bytes().splitlines(keepends=True))
    path.write_bytes(b"".join(before))
    with refused(DecodeError, "state-undecodable"):
        hashed(folder, path)
    assert path.read_bytes() == b"".join(before), "what is not ours is not written to"


@pytest.mark.parametrize("keep", range(0, 700, 23))
def test_a_state_that_was_cut_anywhere_is_gone_on_with(tmp_path, keep):
    folder, path = tmp_path / "model", tmp_path / "s"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_bytes(name.encode() * 1000)
    expected, _ = hashed(folder, path)
    data = path.read_bytes()
    path.write_bytes(data[: min(keep, len(data) - 1)])
    if 0 < keep <= data.index(b"\n"):  # a first line that is not whole may be anybody's
        with refused(DecodeError, "state-undecodable"):
            hashed(folder, path)
        return
    assert hashed(folder, path)[0] == expected
    assert path.read_bytes().endswith(b'"finished":true}\n')


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_killed_is_gone_on_with(tmp_path, number):
    folder, path = tmp_path / "model", tmp_path / "s"
    folder.mkdir()
    for index in range(60):
        (folder / str(index)).write_bytes(os.urandom(PART_BYTES))
    time.sleep(2.1)
    # A worker that reads slowly; the state is saved after each file.
    program = """
import os, sys, time
from chopmark.apps.cli.main import main
from chopmark.artifacts import resume

resume.SAVE_NS = 0
real = os.preadv

def slow(*args):
    time.sleep(0.1)
    return real(*args)

os.preadv = slow
main(["hash", sys.argv[1], "--state", sys.argv[2]])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder), str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 30
    while time.monotonic() < until and (not path.exists() or path.read_bytes().count(b"\n") < 4):
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(timeout=30) != 0
    found, taken = hashed(folder, path)
    assert found == scan(folder)
    assert 2 <= taken < 60


def test_the_command_says_what_it_took(tmp_path, capsys):
    folder = old_files(tmp_path / "model")
    call = ["hash", str(folder), "--state", str(tmp_path / "s"), "--leaves", str(tmp_path / "l"), "--json"]
    assert run(call) == 0
    assert run([*call, "--changed-only", "--progress"]) == 0
    printed = capsys.readouterr()
    answer = json.loads("{" + printed.out.partition("}\n{")[2])
    assert answer["taken_from_state"] == 3
    assert "3 of 3 files" in printed.err
    assert answer["files"][0]["fsverity"]["65536"] == hash_file(folder / "a").fsverity[65536].hex
    (tmp_path / "l" / "b.leaves").write_bytes(bytes(32))
    assert run([*call, "--changed-only"]) == 0
    assert json.loads(capsys.readouterr().out)["taken_from_state"] == 2, "leaves that are not there are made again"


@pytest.mark.parametrize(
    "options",
    [
        ["--changed-only"],
        ["--state", "model/s"],
        ["--leaves", "model/l"],
        ["--manifest", "model/m"],
        ["--state", "nowhere/s"],
        ["--manifest", "nowhere/m"],
    ],
)
def test_calls_that_cannot_be_meant(tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a").write_bytes(b"x")
    assert run(["hash", "model", *options]) == UsageError.exit_code
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "a"]


def test_leaves_that_cannot_be_written_are_said(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "l").write_bytes(b"in the way")
    with pytest.raises(ChopmarkError) as caught:
        manifest_of(tmp_path / "a", leaves=tmp_path / "l")
    assert caught.value.code == "not-written"

# SPDX-License-Identifier: Apache-2.0
"""Many small files in processes: the same digests as without, and whatever is odd is looked at again with care."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from hashlib import sha256

import pytest

from chopmark.artifacts import digests
from chopmark.artifacts.forked import FROM_FILES, SMALL_BYTES, may_fork

FILES = FROM_FILES + 50

PROGRAM = """
import json, os, sys
from pathlib import Path
from chopmark.artifacts import digests, forked
from chopmark.errors import ChopmarkError

assert forked.may_fork()
forks, real = [], os.fork
os.fork = lambda: forks.append(1) or real()
{before}
told = []
try:
    found = [[d.name, d.length, d.sha256.hex] for d in digests(Path(sys.argv[1]), workers=3, on_progress=lambda *n: told.append(n))]
except ChopmarkError as error:
    found = [error.code, error.message]
try:
    os.waitpid(-1, 0)
    left = True
except ChildProcessError:
    left = False
print(json.dumps([len(forks), found, told[-1:], left]))
"""


def in_a_process_of_its_own(folder, before=""):
    """Return how many processes were forked, what was found, the last progress, and whether one was not waited for."""
    made = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(before=before), str(folder)], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return json.loads(made.stdout)


@pytest.fixture
def folder(tmp_path):
    for index in range(FILES):
        path = tmp_path / f"{index % 7}" / f"{index}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%d" % index * (index % 300))
    (tmp_path / "large").write_bytes(b"x" * (SMALL_BYTES * 2 + 1))
    (tmp_path / "just").write_bytes(b"y" * SMALL_BYTES)
    (tmp_path / "under").write_bytes(b"z" * (SMALL_BYTES - 1))
    return tmp_path


def test_the_digests_are_those_of_the_files(folder):
    forks, found, told, left = in_a_process_of_its_own(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    wanted = {str(p.relative_to(folder)): [p.stat().st_size, sha256(p.read_bytes()).hexdigest()] for p in files}
    assert forks == 2
    assert not left
    assert {name: rest for name, *rest in found} == wanted
    assert [name for name, *_ in found] == sorted(wanted, key=str.encode)
    assert told == [[sum(length for length, _ in wanted.values()), len(wanted)]]
    assert [[d.name, d.length, d.sha256.hex] for d in digests(folder, workers=1)] == found


GROWS = """
real_fstat = os.fstat
def late(descriptor):
    before = real_fstat(descriptor)
    if os.readlink(f"/proc/self/fd/{descriptor}").endswith("/500"):
        with open(sys.argv[1] + "/3/500", "ab") as file:
            file.write(b"more")
    return before
os.fstat = late
"""


def test_a_file_that_changes_is_said(folder):
    _, found, _, left = in_a_process_of_its_own(folder, before=GROWS)
    assert found[0] == "file-changed"
    assert "500" in found[1]
    assert not left


def test_a_child_that_dies_leaves_nothing_out(folder):
    dies = """
real_readv, parent = os.readv, os.getpid()
def readv(*args):
    if os.getpid() != parent:
        os.kill(os.getpid(), 9)
    return real_readv(*args)
os.readv = readv
"""
    forks, found, _, left = in_a_process_of_its_own(folder, before=dies)
    assert (forks, left) == (2, False)
    assert len(found) == FILES + 3


def test_a_link_in_the_place_of_a_file_is_not_followed(folder):
    swap = """
real_open = os.open
def swap(path, flags, *args, **kwargs):
    if path == "600":
        where = sys.argv[1] + "/5/600"
        os.unlink(where)
        os.symlink("/etc/hostname", where)
    return real_open(path, flags, *args, **kwargs)
os.open = swap
"""
    _, found, _, _ = in_a_process_of_its_own(folder, before=swap)
    assert found[0] == "not-regular"


def test_nothing_is_forked_beside_other_threads():
    wait = threading.Event()
    other = threading.Thread(target=wait.wait)
    other.start()
    try:
        assert not may_fork()
    finally:
        wait.set()
        other.join()


def test_few_files_are_hashed_here(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    forks, found, _, _ = in_a_process_of_its_own(tmp_path)
    assert forks == 0
    assert found == [["a", 1, sha256(b"a").hexdigest()]]

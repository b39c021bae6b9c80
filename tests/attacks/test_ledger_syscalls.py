# SPDX-License-Identifier: Apache-2.0
"""A log that is killed, or whose disk fails, at each system call that writes: nothing acknowledged is lost, nothing forks.

The kernel itself fails the call or kills the process (strace's injection), so that SQLite, Python and this code are all
inside what is tried.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chopmark.ledger import Checkpoint, decode_note
from unit.ledger.kit import LOG_SIGNERS, NONE, close, make_ledger, open_ledger

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace here to fail system calls with"),
]

WRITER = """
import json, sys
from pathlib import Path
from chopmark.errors import ChopmarkError
from unit.ledger.kit import ed25519_signer, open_ledger

folder = Path(sys.argv[1])
try:
    ledger = open_ledger(folder, signers=[ed25519_signer(bytes(32))])
    for batch in range(3):
        entries = [b"%d of %d" % (n, batch) for n in range(300 if batch == 1 else 2)]
        print(json.dumps({"batch": batch, "indices": ledger.append(entries)}), flush=True)
        print(json.dumps({"note": ledger.signed_checkpoint().decode()}), flush=True)
    ledger.export(folder / "files")
except ChopmarkError as error:
    print(json.dumps({"error": error.code}), flush=True)
    sys.exit(error.exit_code)
"""
ENV = {"PYTHONPATH": ":".join(sys.path)}
SIGNERS = LOG_SIGNERS[:1]
CALLS = ("pwrite64", "fdatasync", "fsync", "ftruncate", "rename", "unlink")


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A log of 250 entries: the second batch completes a bundle and a tile."""
    folder = tmp_path_factory.mktemp("start")
    ledger = make_ledger(folder, signers=SIGNERS)
    ledger.append([b"%d" % n for n in range(250)])
    ledger.signed_checkpoint()
    close(ledger)
    return folder


def run(folder: Path, *injection: str) -> subprocess.CompletedProcess[str]:
    trace = ["strace", "-f", "-qq", "-o", str(folder / "trace"), "-e", f"trace={','.join(CALLS)}", *injection]
    return subprocess.run(
        [*trace, sys.executable, "-c", WRITER, str(folder)], env=ENV, capture_output=True, text=True, check=False
    )


def how_often(start: Path, folder: Path) -> dict[str, int]:
    shutil.copytree(start, folder)
    assert run(folder).returncode == 0
    trace = (folder / "trace").read_text()
    return {call: len(re.findall(rf"\b{call}\(", trace)) for call in CALLS}


def check(folder: Path, done: subprocess.CompletedProcess[str]) -> None:
    said = [json.loads(line) for line in done.stdout.splitlines() if line.endswith("}")]
    ledger = open_ledger(folder, signers=SIGNERS)
    assert ledger.fsck(NONE).ok
    promised = [Checkpoint.decode(decode_note(one["note"].encode()).text) for one in said if "note" in one]
    assert all(ledger._root_at(one.size) == one.root for one in promised)
    for one in said:
        for n, index in enumerate(one.get("indices", [])):
            assert ledger.entry(index) == b"%d of %d" % (n, one["batch"])
    # Who got no answer asks again: what is there keeps its place.
    size = ledger.checkpoint.size
    ledger.append([b"%d" % n for n in range(250)] + [b"0 of 0", b"1 of 0"])
    assert ledger.checkpoint.size <= max(size, 252)
    note = Checkpoint.decode(decode_note(ledger.signed_checkpoint()).text)
    assert all(note.root == one.root for one in promised if one.size == note.size)
    assert ledger.export(folder / "files").size == note.size
    assert ledger.fsck(NONE).ok
    close(ledger)


@pytest.mark.parametrize("call", CALLS)
def test_killed_at_each_call(call, start, tmp_path):
    times = how_often(start, tmp_path / "whole")[call]
    assert times
    for number in range(1, times + 1):
        folder = tmp_path / str(number)
        shutil.copytree(start, folder)
        done = run(folder, "-e", f"inject={call}:signal=SIGKILL:when={number}")
        assert done.returncode != 0
        check(folder, done)
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("call", "error"), [("pwrite64", "ENOSPC"), ("fdatasync", "EIO"), ("fsync", "EIO"), ("rename", "EROFS")]
)
def test_a_disk_that_fails_at_each_call(call, error, start, tmp_path):
    times = how_often(start, tmp_path / "whole")[call]
    assert times
    for number in range(1, times + 1):
        folder = tmp_path / str(number)
        shutil.copytree(start, folder)
        done = run(folder, "-e", f"inject={call}:error={error}:when={number}+")
        assert done.returncode in (0, 1, 3), done.stderr
        assert "Traceback" not in done.stderr
        check(folder, done)
        shutil.rmtree(folder)

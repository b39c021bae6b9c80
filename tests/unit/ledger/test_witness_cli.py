# SPDX-License-Identifier: Apache-2.0
"""A log and its witnesses as their owners run them: commands and processes alone."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import stat
import subprocess
import sys
import time

import pytest

from chopmark.apps.cli.main import run
from chopmark.ledger.place import read_log_place, read_witness_place

ORIGIN = "log.example/models"


def call(folder, *words):
    """Return exit code, stdout and stderr of a command in *folder*."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(["-w", str(folder), *map(str, words)])
    return code, out.getvalue(), err.getvalue()


def done(folder, *words):
    code, out, err = call(folder, *words)
    assert code == 0, err
    return out


def start(folder, *words):
    argv = [sys.executable, "-m", "chopmark", "-w", str(folder), "ledger", *words]
    return subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)


@contextlib.contextmanager
def serving(folder):
    """Run the witness in *folder* on a free port; give its address."""
    process = start(folder, "witness", "--port", "0")
    try:
        line = process.stderr.readline()
        assert line.startswith("listening on "), line + process.stderr.read()
        yield line.removeprefix("listening on ").strip()
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture
def log(tmp_path):
    """A log with one entry; the words that give its keys to a witness."""
    folder = tmp_path / "log"
    done(tmp_path, "ledger", "create", folder, "--origin", ORIGIN)
    (tmp_path / "model.json").write_text("{}")
    done(folder, "ledger", "append", tmp_path / "model.json")
    return folder, [word for vkey in read_log_place(folder).require for word in ("--log", vkey)]


def with_policy(folder, *lines, external=()):
    own = "".join(f"log {vkey}\n" for vkey in read_log_place(folder).require)
    (folder / "policy.txt").write_text(own + "".join(f"{line}\n" for line in lines))
    config = (folder / "ledger.toml").read_text()
    (folder / "ledger.toml").write_text(config.replace("external = []", f"external = {json.dumps(external)}"))


def test_a_witness_of_its_own_over_http(log, tmp_path):
    folder, keys = log
    made = tmp_path / "w1"
    argv = ("ledger", "create-witness", made, "--name", "w.example/1", "--ml-dsa", "--url", "URL", *keys)
    lines = done(tmp_path, *argv).splitlines()
    assert [line.split()[0] for line in lines] == ["witness", "witness", "group"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (made / "keys").iterdir()] == [0o600, 0o600]
    assert read_witness_place(made).logs.keys() == {ORIGIN}
    assert "internal only" not in done(folder, "ledger", "fsck")
    with serving(made) as url:
        with_policy(folder, *(line.replace("URL", url) for line in lines), "quorum w.example/1")
        assert "witnessed: internal only" in done(folder, "ledger", "feed")
        fed = json.loads(done(folder, "ledger", "feed", "--json"))
        assert (fed["size"], fed["failed"], fed["ok"]) == (1, {}, True)
        assert fed["seconds_since_quorum"] < 60
        with_policy(
            folder, *(line.replace("URL", url) for line in lines), "quorum w.example/1", external=["w.example/1"]
        )
        loop = start(folder, "feed", "--every", "1", "--refresh", "0", "--metrics", str(tmp_path / "m.json"))
        first = loop.stderr.readline()
        loop.stderr.readline()
        loop.send_signal(signal.SIGTERM)
        loop.communicate(timeout=20)
        assert (loop.returncode, "external: w.example/1" in first) == (0, True)
        assert json.loads((tmp_path / "m.json").read_bytes())["ok"] is True
    phrase = "witnessed: w.example/1 (external: w.example/1)"
    assert phrase in done(folder, "ledger", "fsck")
    assert json.loads(done(folder, "ledger", "checkpoint", "--json"))["witnessed"] == phrase
    proof = tmp_path / "0.tlog-proof"
    done(folder, "ledger", "proof", "0", "--out", proof)
    assert phrase in done(folder, "ledger", "verify", proof, "--entry", proof.with_suffix(".json"))
    (tmp_path / "next.json").write_text("[]")
    done(folder, "ledger", "append", tmp_path / "next.json")  # nobody has to be there for this
    time.sleep(1)
    code, out, err = call(folder, "ledger", "feed", "--json")
    failed = json.loads(out)
    assert (code, failed["error"]) == (3, "log-unwitnessed")
    assert set(failed["evidence"]["failed"]) == {"w.example/1-ed25519", "w.example/1-ml-dsa-44"}
    assert failed["evidence"]["seconds_since_quorum"] >= 1
    assert "w.example/1-ed25519: no answer" in err


def test_a_witness_without_a_network(log, tmp_path):
    folder, keys = log
    line = done(tmp_path, "ledger", "create-witness", tmp_path / "w", "--name", "w.example/gap", *keys).strip()
    with_policy(folder, line, "quorum w.example/gap")
    request, answer = tmp_path / "request.txt", tmp_path / "answer.txt"
    assert call(folder, "ledger", "feed")[0] == 3
    done(folder, "ledger", "feed", "--out", request)
    done(tmp_path / "w", "ledger", "cosign", request, "--out", answer)
    assert "1 entries; witnessed: internal only" in done(folder, "ledger", "feed", "--answer", answer)
    answer.unlink()
    code, _, err = call(tmp_path / "w", "ledger", "cosign", request, "--out", answer)
    assert (code, answer.exists()) == (1, False)
    assert "witness-refused: 409: it has seen 1 entries" in err
    assert "--old 1" in err
    code, _, err = call(folder, "ledger", "feed", "--out", request, "--every", "5")
    assert code == 2


def test_what_cannot_be_made(log, tmp_path):
    folder, keys = log
    for words in (
        ("--name", "w+1", *keys),
        ("--name", "w", "--log", "no-vkey"),
        ("--name", "w", *keys, *keys),
        ("--name", "w", "--any-key", "log.other", *keys),
    ):
        code, _, err = call(tmp_path, "ledger", "create-witness", tmp_path / "w", *words)
        assert code in {1, 2}, err
        assert not (tmp_path / "w").exists()
    done(tmp_path, "ledger", "create-witness", tmp_path / "w", "--name", "w", "--url", "http://h:99999", *keys)
    assert call(tmp_path / "w", "ledger", "witness")[0] == 2
    code, _, err = call(tmp_path, "ledger", "create-witness", folder, "--name", "w", *keys)
    assert (code, "not empty" in err) == (2, True)
    code, _, err = call(tmp_path, "ledger", "cosign", "request", "--out", "answer")
    assert (code, "create-witness" in err) == (2, True)
    with_policy(folder, "quorum none", external=["nobody"])
    assert call(folder, "ledger", "feed")[0] == 1

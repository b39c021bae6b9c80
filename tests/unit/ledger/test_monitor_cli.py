# SPDX-License-Identifier: Apache-2.0
"""``ledger monitor`` on real logs: made, appended to, exported and forked by the commands, served over HTTP."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chopmark import canonical
from chopmark.apps.cli.main import run
from chopmark.artifacts import Digest
from chopmark.ledger.seal import encode_seal


def leaf(name: str, signer: str = "11ab") -> bytes:
    """A ledger leaf about a model, as a statement would be logged; nobody verifies its signature here."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": f"model/{name}", "digest": {"sha256": Digest.of(name.encode()).hex}}],
        "predicateType": "https://chopmark.dev/release/v1",
        "predicate": {},
    }
    envelope = {
        "payload": canonical.encode_base64(canonical.encode(statement)),
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [{"keyid": signer, "sig": "AAAA"}],
    }
    return canonical.encode({"v": 1, "kind": "statement", "envelope": envelope})


class Log:
    """A log of its own in a folder, exported beside it."""

    def __init__(self, folder: Path, origin: str = "log.example/m") -> None:
        self.folder, self.files = folder, folder.with_name(f"{folder.name}-files")
        self.policy = folder / "policy.txt"
        if not folder.exists():
            assert run(["ledger", "create", str(folder), "--origin", origin]) == 0

    def append(self, *entries: bytes) -> Log:
        for n, entry in enumerate(entries):
            path = self.folder.parent / f"entry-{n}"
            path.write_bytes(entry)
            assert run(["-w", str(self.folder), "ledger", "append", str(path)]) == 0
        assert run(["-w", str(self.folder), "ledger", "export", str(self.files)]) == 0
        return self

    def copy(self, name: str) -> Log:
        shutil.copytree(self.folder, self.folder.with_name(name))
        return Log(self.folder.with_name(name))


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "log").append(leaf("digits"), leaf("letters", "22cd"), b"no statement")


@pytest.fixture
def watch(tmp_path, log, capsys):
    """Run the monitor; return the exit code and the events."""

    def watch(*words, where=None, state="state"):
        call = ["ledger", "monitor", str(where or log.files), "--state", str(tmp_path / state)]
        capsys.readouterr()
        code = run([*call, "--policy", str(log.policy), "--json", *map(str, words)])
        lines = capsys.readouterr().out.splitlines() or ["{"]
        # A call that click cannot read is answered as by every other command: one object on several lines.
        return code, [] if lines[0] == "{" else [json.loads(line) for line in lines]

    return watch


def entries(events):
    return [event["index"] for event in events if event["event"] == "entry"]


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        ([], [0, 1, 2]),
        (["--model", "digits"], [0]),
        (["--signer", "22"], [1]),
        (["--model", "digits", "--model", "letters"], [0, 1]),
        (["--model", "digits", "--signer", "22"], []),
        (["--predicate", "https://chopmark.dev/release/v1"], [0, 1]),
        (["--digest", Digest.of(b"letters").hex], [1]),
        (["--digest", str(Digest.of(b"letters"))], [1]),
    ],
)
def test_filters(watch, filters, told):
    code, events = watch(*filters)
    assert (code, entries(events)) == (0, told)


def test_a_log_of_ones_own_needs_no_policy(log, tmp_path, capsys):
    call = ["-w", str(log.folder), "ledger", "monitor", str(log.files), "--state", str(tmp_path / "state")]
    assert run(call) == 0
    shown = capsys.readouterr().out
    assert "#0  digest:" in shown
    assert "#2  not a statement" in shown
    assert "3 of 3 entries seen, 3 told" in shown


def test_quiet_says_what_is_new_and_wrong_alone(log, watch):
    assert [event["event"] for event in watch("--quiet")[1]] == ["entry"] * 3
    assert watch("--quiet") == (0, [])


def test_a_name_with_escapes_ends_in_no_terminal(log, tmp_path, capsys):
    log.append(leaf("\x1b[2Jdigits\nALARM: none"))
    call = ["-w", str(log.folder), "ledger", "monitor", str(log.files), "--state", str(tmp_path / "state")]
    capsys.readouterr()
    assert run([*call, "--model", "\x1b[2Jdigits\nALARM: none", "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 1


def test_over_http(log, watch):
    handler = functools.partial(QuietHandler, directory=str(log.files))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        code, events = watch("--compare", f"{url}/checkpoint", "--compare", url, where=url)
        assert (code, entries(events)) == (0, [0, 1, 2])
        assert [event["event"] for event in events].count("compared") == 2
        server.shutdown()
    code, events = watch(where=url)
    assert code == 3
    assert [event["code"] for event in events if event["event"] == "undecided"] == ["unreachable"]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_a_fork_alarms_until_a_human_acts(log, watch, tmp_path, capsys):
    twin = log.copy("twin").append(b"another")
    log.append(b"new")
    assert watch()[0] == 0
    code, events = watch(where=twin.files)
    assert code == 1
    alarm = next(event for event in events if event["event"] == "alarm")
    assert alarm["code"] == "log-fork"
    assert {Path(path).read_bytes() for path in alarm["evidence"]} == {
        (each.files / "checkpoint").read_bytes() for each in (log, twin)
    }
    code, events = watch()
    assert (code, [event["event"] for event in events]) == (1, ["stands", "turn"])
    assert (
        run(["ledger", "monitor", str(log.files), "--state", str(tmp_path / "state"), "--policy", str(log.policy)]) == 1
    )
    assert "still standing: log-fork" in capsys.readouterr().out
    code, events = watch("--resume", "the twin was an exercise")
    assert (code, [event["event"] for event in events]) == (0, ["resumed", "turn"])


def test_a_second_checkpoint_in_a_file(log, watch):
    twin = log.copy("twin").append(b"another")
    log.append(b"new")
    assert watch("--compare", log.files / "checkpoint")[0] == 0
    code, _ = watch("--compare", twin.files / "checkpoint")
    assert code == 1
    assert watch("--compare", log.files / "missing", state="other")[0] == 3


def test_what_devices_saw(log, watch, tmp_path):
    size, root = (log.files / "checkpoint").read_text().splitlines()[1:3]
    good = canonical.decode_base64(root, what="root").hex()
    seen = {"device": "kiosk-1", "origin": "log.example/m", "size": int(size), "root": good}
    path = tmp_path / "seen.json"
    path.write_text(json.dumps({"ok": True, "checkpoints": [seen]}, indent=2))
    assert watch("--reported", path)[0] == 0
    path.write_text(json.dumps({"ok": True, "checkpoints": [{**seen, "root": "0" * 64}]}))
    assert watch("--reported", path)[0] == 1


def test_a_successor(log, watch, tmp_path):
    new = Log(tmp_path / "new", "log.example/n").append(
        encode_seal((log.files / "checkpoint").read_bytes()), leaf("next")
    )
    code, events = watch("--successor", new.files, "--successor-policy", new.policy)
    assert (code, entries(events)) == (0, [0, 1, 2, 0, 1])
    assert [event["origin"] for event in events if event["event"] == "successor"] == ["log.example/n"]
    assert watch("--successor", new.files)[0] == 2


def test_one_policy_for_both_logs(log, watch, tmp_path):
    new = Log(tmp_path / "new", "log.example/n").append(encode_seal((log.files / "checkpoint").read_bytes()))
    old, lines = log.policy.read_text(), new.policy.read_text().splitlines()
    log.policy.write_text("".join(f"{line}\n" for line in lines if line.startswith("log ")) + old)
    assert watch()[0] == 2  # which one?
    assert watch("--origin", "log.example/else")[0] == 2
    code, events = watch("--origin", "log.example/m", "--successor", new.files)
    assert (code, entries(events)) == (0, [0, 1, 2, 0])


@pytest.mark.parametrize(
    "words", [["--max-age", "24h"], ["--max-age", "soon"], ["--digest", "xyz"], ["--resume", "why"], ["--every", "0s"]]
)
def test_calls_that_are_wrong(watch, words):
    code, events = watch(*words)
    assert code == 2
    assert {event["event"] for event in events} <= {"error"}


def test_a_policy_that_names_no_log(log, watch):
    log.policy.write_text("quorum none\n")
    assert watch()[0] == 2


def test_a_loop_sees_what_is_appended_and_ends_when_told(log, tmp_path):
    call = [sys.executable, "-m", "chopmark", "ledger", "monitor", str(log.files), "--state", str(tmp_path / "state")]
    call += ["--policy", str(log.policy), "--every", "1s", "--json"]
    loop = subprocess.Popen(call, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert entries(read_turn(loop)) == [0, 1, 2]
        log.append(b"new")
        while not (told := entries(read_turn(loop))):
            continue
        assert told == [3]
        loop.send_signal(signal.SIGTERM)
        assert loop.wait(20) == 0
    finally:
        loop.kill()
        loop.stdout.close()


def read_turn(loop):
    events = []
    while not events or events[-1]["event"] != "turn":
        events.append(json.loads(loop.stdout.readline()))
    assert datetime.fromisoformat(events[-1]["time"]) <= datetime.now(UTC)
    return events

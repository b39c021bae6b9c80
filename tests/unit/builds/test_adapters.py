# SPDX-License-Identifier: Apache-2.0
"""The runner and the source tree, on real processes and a real repository."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from chopmark.adapters.processes import runner as runner_module
from chopmark.adapters.processes.source import GitSource, _public
from chopmark.errors import UsageError
from unit.builds.workbench import RUNNER, WORKSHOP, Bench

MINUTE = timedelta(minutes=1)
ENVIRONMENT = {"PATH": WORKSHOP.path}


def run(*command: str, cwd: Path, isolated: bool = False, timeout: timedelta = MINUTE):
    return RUNNER.run(command, cwd=cwd, env=ENVIRONMENT, timeout=timeout, isolated=isolated)


@pytest.mark.parametrize("isolated", [False, True])
def test_exit_code_and_both_streams(tmp_path: Path, *, isolated: bool) -> None:
    done = run("sh", "-c", "echo one; echo two >&2; exit 7", cwd=tmp_path, isolated=isolated)
    assert (done.exit_code, done.log, done.timed_out) == (7, b"one\ntwo\n", False)
    assert done.isolated is (isolated and RUNNER.can_isolate)


def test_the_environment_is_exactly_what_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    log = run("env", cwd=tmp_path, isolated=True).log.decode()
    assert "secret" not in log
    assert {line.split("=")[0] for line in log.splitlines()} <= {"PATH", "PWD", "SHLVL", "_"}


@pytest.mark.skipif(not RUNNER.can_isolate, reason="no network namespaces on this machine")
def test_no_network_when_isolated(tmp_path: Path) -> None:
    devices = run("cat", "/proc/self/net/dev", cwd=tmp_path, isolated=True).log.decode().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]


@pytest.mark.parametrize("isolated", [False, True])
def test_nothing_is_left_running(tmp_path: Path, *, isolated: bool) -> None:
    started = time.monotonic()
    done = run("sh", "-c", "sleep 300 & echo $! > child; echo started", cwd=tmp_path, isolated=isolated)
    assert done.log == b"started\n"
    assert time.monotonic() - started < 30
    if not isolated:  # in a namespace its number means another process
        stat = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
        assert not stat.exists() or stat.read_text().split()[2] == "Z"


def test_time_is_up(tmp_path: Path) -> None:
    done = run("sh", "-c", "echo begun; sleep 300", cwd=tmp_path, timeout=timedelta(seconds=0.2))
    assert done.timed_out
    assert done.exit_code != 0
    assert done.log == b"begun\n"


def test_a_long_log_keeps_its_beginning_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "HALF_LOG_BYTES", 1000)
    log = run("sh", "-c", "echo first; seq 100000; echo last", cwd=tmp_path).log
    assert log.startswith(b"first\n1\n")
    assert log.endswith(b"100000\nlast\n")
    assert b"bytes were cut out here" in log
    assert len(log) < 2100


def test_no_such_program(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be run"):
        run("no-such-program", cwd=tmp_path)


def test_export_writes_the_commit_and_nothing_else(bench: Bench, tmp_path: Path) -> None:
    bench.write("tool.sh", "#!/bin/sh\n").chmod(0o755)
    bench.write("sub/crlf.txt", "a\r\nb\n")
    (bench.repo / "sub/link").symlink_to("../tool.sh")
    commit = bench.commit()
    bench.write("train.py", "changed")
    bench.write("untracked.py", "new")
    folder = tmp_path / "exported"
    folder.mkdir()
    assert bench.source.commit() == commit
    bench.source.export(commit, folder)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())
    assert names == ["params.json", "sub/crlf.txt", "sub/link", "tool.sh", "train.py"]
    assert (folder / "sub/crlf.txt").read_bytes() == b"a\r\nb\n"
    assert os.access(folder / "tool.sh", os.X_OK)
    assert (folder / "sub/link").read_text() == "#!/bin/sh\n"
    assert "changed" not in (folder / "train.py").read_text()
    assert bench.source.changes() == ("train.py", "untracked.py")
    assert bench.source.changes()


def test_ignored_files_are_no_change(bench: Bench) -> None:
    bench.write(".gitignore", "*.pyc\n")
    bench.commit()
    bench.write("train.pyc", "x")
    assert not bench.source.changes()


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "sub/../../outside", "train.py/.."])
def test_links_that_lead_out_are_refused(bench: Bench, tmp_path: Path, target: str) -> None:
    (bench.repo / "link").symlink_to(target)
    folder = tmp_path / "exported"
    folder.mkdir()
    with pytest.raises(UsageError, match="leads out"):
        bench.source.export(bench.commit(), folder)


def test_no_repository_or_no_commit(tmp_path: Path, bench: Bench) -> None:
    with pytest.raises(UsageError, match="git says"):
        GitSource(tmp_path).changes()
    with pytest.raises(UsageError):
        GitSource(tmp_path / "nowhere").commit()
    empty = tmp_path / "empty"
    empty.mkdir()
    bench.repo = empty
    bench.git("init", "--quiet")
    with pytest.raises(UsageError, match="nothing was committed"):
        GitSource(empty).commit()


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://ada:token@git.acme.example/models.git", "git+https://git.acme.example/models.git"),
        ("https://git.acme.example/models.git?token=1#x", "git+https://git.acme.example/models.git"),
        ("ssh://git@git.acme.example:2222/models", "git+ssh://git.acme.example:2222/models"),
        ("git@git.acme.example:team/models.git", "git+ssh://git.acme.example/team/models.git"),
        ("/srv/git/models.git", "git+local:models.git"),
        ("../models", "git+local:models"),
        ("file:///srv/git/models.git", "git+local:models.git"),
    ],
)
def test_where_code_comes_from_is_named_without_credentials_or_paths(url: str, public: str) -> None:
    assert _public(url) == public


def test_the_remote_is_the_uri(bench: Bench) -> None:
    assert bench.source.uri == "git+local:repo"
    bench.git("remote", "add", "origin", "https://ada:token@git.acme.example/models.git")
    assert bench.source.uri == "git+https://git.acme.example/models.git"

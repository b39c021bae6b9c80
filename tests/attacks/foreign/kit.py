# SPDX-License-Identifier: Apache-2.0
"""Install other people's C2SP software and run it. It is no dependency of the project: each has an environment of its own.

Where a client cannot be had (no network, no Go, another version of either) its tests are skipped and say so.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SCALES = "tlog-scales==0.0.3"
AICS = ("aics-tlog==0.2.1", "aics-witness==0.1.0")
LITEWITNESS = "filippo.io/torchwood/cmd/litewitness"
ENV = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONPATH": ""}
GO_ENV = {**ENV, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOWORK": "off"}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a client said."""

    verified: bool
    words: str


Reader = Callable[[str, Path], Verdict]
"""Takes the log's address and the file that says what to expect."""


def install_python(folder: Path, *, needs_other_python: Sequence[str] = (), packages: Sequence[str] = ()) -> Path:
    """Make a virtual environment; return its ``bin``.

    Args:
        needs_other_python: packages that declare a newer Python than they use; installed without their dependencies.
    """
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, env=ENV)
    pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"]
    if packages:
        _fetch([*pip, *packages], "a Python client")
    if needs_other_python:
        _fetch([*pip, "--ignore-requires-python", "--no-deps", *needs_other_python], "a Python client")
    return folder / "bin"


def install_go(folder: Path, *, packages: Sequence[str] = (".",), source: Path = HERE) -> Path:
    """Build the programs of *packages* in a copy of the module in *source*; return the folder with them."""
    if shutil.which("go") is None:
        pytest.skip("foreign client: there is no Go on this machine")
    for path in (*source.glob("*.go"), source / "go.mod"):
        folder.mkdir(exist_ok=True)
        shutil.copy(path, folder)
    _fetch(["go", "list", "-deps", *packages], "a Go client", cwd=folder, env=GO_ENV)
    (folder / "bin").mkdir()
    subprocess.run(["go", "build", "-o", folder / "bin", *packages], cwd=folder, env=GO_ENV, check=True)
    return folder / "bin"


def _fetch(argv: Sequence[str | Path], what: str, **options: object) -> None:
    options = {"env": ENV, **options}
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300, **options)
    except subprocess.TimeoutExpired:
        pytest.skip(f"foreign client: {what} did not arrive in time")
    if done.returncode:
        pytest.skip(f"foreign client: {what} cannot be installed here: {done.stderr.strip().splitlines()[-1:]}")


def run(*argv: str | Path, **options: object) -> Verdict:
    """Run a client; anything but a verdict, with words on stdout where it is a no, is an error of this test."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120, env=ENV, **options)
    assert done.returncode == 0 or (done.returncode == 1 and done.stdout), done.stderr
    return Verdict(verified=done.returncode == 0, words=done.stdout)


def scales(bin_: Path) -> Reader:
    """tlog-scales: every entry, all keys, growth."""
    return lambda url, plan: run(bin_ / "python", HERE / "scales.py", url, plan)


def aics(bin_: Path) -> Reader:
    """The command line of aics-tlog: checkpoint, Ed25519, witnesses, entries that are proven, growth."""

    def read(url: str, plan_file: Path) -> Verdict:
        plan = json.loads(plan_file.read_text(encoding="utf-8"))
        folder = plan_file.parent
        (folder / "log.vkey").write_text(plan["ed25519"] + "\n")
        (folder / "old").write_text(plan["old"], encoding="utf-8")
        (folder / "policy.json").write_text(json.dumps({"quorum": 2, "witnesses": plan["witnesses"]}))
        keys = ["--vkey-file", folder / "log.vkey", "--policy-file", folder / "policy.json"]
        asked = [["verify-consistency", "--old-checkpoint", folder / "old"]]
        asked += [["verify-inclusion", "--index", index, "--entry-out", folder / "entry"] for index in plan["proofs"]]
        for command, *words in asked:
            verdict = run(bin_ / "aics-tlog", command, "--tiles", url, "--origin", plan["origin"], *keys, *words)
            assert json.loads(verdict.words)["ok"] is verdict.verified
            if not verdict.verified:
                return verdict
            if "--index" in words:
                assert (folder / "entry").read_bytes().hex() == plan["entries"][int(words[1])]
        return Verdict(verified=True, words="verified")

    return read


def go_reader(bin_: Path, name: str) -> Reader:
    """One of the readers of main.go."""
    return lambda url, plan: run(bin_ / "foreign", name, url, plan)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve *folder* as any web server would; give its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def running(argv: Sequence[str | Path], *, env: Mapping[str, str] = ENV) -> Iterator[subprocess.Popen[str]]:
    """Run a foreign server; end it afterwards."""
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=20)


def wait_for(process: subprocess.Popen[str], words: str) -> str:
    """Read what *process* says until a line with *words*; return that line."""
    said = []
    for line in process.stdout:
        said.append(line)
        if words in line:
            return line
    raise AssertionError("".join(said))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]

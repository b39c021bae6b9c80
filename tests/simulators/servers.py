# SPDX-License-Identifier: Apache-2.0
"""A real PostgreSQL and a real S3 server of this machine, for the tests that need them; skipped with a word where missing.

PostgreSQL listens on a Unix socket in a temporary folder only. The S3 server is versitygw, built once with Go into
``build/tools`` and bound to 127.0.0.1.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "build" / "tools"
VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"


@contextmanager
def postgres() -> Iterator[str]:
    """Run a PostgreSQL server; yield the connection string of an empty database."""
    binaries = _postgres_binaries()
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a short path: a socket's name has 107 bytes at most
    as_user: list[str] = []
    user = pwd.getpwuid(os.geteuid()).pw_name
    if os.geteuid() == 0:
        try:
            account = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        os.chown(folder, account.pw_uid, account.pw_gid)
        as_user, user = ["runuser", "-u", "postgres", "--"], "postgres"
    data = folder / "data"
    try:
        _run([*as_user, str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", user, "--no-sync"])
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c max_connections=50"
        control = [*as_user, str(binaries / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log")]
        _run([*control, "-o", options, "start"])
        try:
            yield f"host={folder} dbname=postgres user={user}"
        finally:
            _run([*control, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def s3() -> Iterator[dict[str, str]]:
    """Run an S3 server with the bucket ``log``; yield its endpoint and the variables with which it lets one in."""
    program = _versitygw()
    folder = Path(tempfile.mkdtemp(prefix="s3"))
    (folder / "log").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    access, secret = "chopmark-test", secrets.token_hex(16)
    environment = {
        "PATH": os.environ["PATH"],
        "ROOT_ACCESS_KEY": access,
        "ROOT_SECRET_KEY": secret,
        "HOME": str(folder),
    }
    with (folder / "out").open("wb") as out:
        command = [str(program), "--port", f"127.0.0.1:{port}", "--health", "/health", "posix", str(folder)]
        server = subprocess.Popen(command, env=environment, stdout=out, stderr=out, cwd=folder)
        try:
            _wait_for(port, server, folder / "out")
            yield {
                "endpoint": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": access,
                "AWS_SECRET_ACCESS_KEY": secret,
                "AWS_REGION": "us-east-1",
            }
        finally:
            server.kill()
            server.wait()
            shutil.rmtree(folder, ignore_errors=True)


def _postgres_binaries() -> Path:
    found = [path for name in ("initdb", "pg_config") if (path := shutil.which(name))]
    for path in found:
        folder = Path(path).parent
        if path.endswith("pg_config"):
            done = subprocess.run([path, "--bindir"], capture_output=True, text=True, check=False)
            folder = Path(done.stdout.strip())
        if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
            return folder
    pytest.skip("no PostgreSQL server on this machine (initdb and pg_ctl, in PATH or where pg_config says)")


def _versitygw() -> Path:
    program = TOOLS / "versitygw"
    TOOLS.mkdir(parents=True, exist_ok=True)
    with (TOOLS / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            if shutil.which("go") is None:
                pytest.skip("no S3 server: neither build/tools/versitygw nor Go to build it")
            environment = {**os.environ, "GOBIN": str(TOOLS)}
            done = subprocess.run(["go", "install", VERSITYGW], env=environment, capture_output=True, check=False)
            if done.returncode or not program.exists():
                pytest.skip("no S3 server: versitygw cannot be built here (no network?)")
    return program


def _wait_for(port: int, server: subprocess.Popen[bytes], out: Path) -> None:
    for _ in range(200):
        assert server.poll() is None, out.read_text(errors="replace")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the S3 server does not answer")


def _run(command: list[str]) -> None:
    # Not captured: the server inherits its parent's pipes, and whoever reads them would wait for its end.
    with tempfile.TemporaryFile() as out:
        done = subprocess.run(command, stdout=out, stderr=out, cwd="/", check=False)
        out.seek(0)
        assert done.returncode == 0, out.read().decode(errors="replace")

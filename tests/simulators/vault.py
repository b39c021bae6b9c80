# SPDX-License-Identifier: Apache-2.0
"""A real OpenBao server of this machine with a transit engine, for the tests that need one; skipped with a word where missing."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BAO = ROOT / ".venv-servers" / "bin" / "bao"


@dataclass(frozen=True, kw_only=True)
class Bao:
    """A server in development mode: in memory, unsealed.

    Attributes:
        token: may do everything.
    """

    address: str
    token: str

    def ask(self, method: str, path: str, body: object = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.address}/v1/{path}", data=data, method=method, headers={"X-Vault-Token": self.token}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"{}")

    def make(self, kind: str, **settings: object) -> str:
        """Make a key; return its name."""
        name = "k-" + secrets.token_hex(4)
        self.ask("POST", f"transit/keys/{name}", {"type": kind, **settings})
        return name

    def token_for(self, *rules: str) -> str:
        """Return a token that may do what *rules* of its policy say."""
        name = "p-" + secrets.token_hex(4)
        self.ask("PUT", f"sys/policies/acl/{name}", {"policy": "\n".join(rules)})
        return self.ask("POST", "auth/token/create", {"policies": [name], "no_parent": True})["auth"]["client_token"]

    def environment(self, patch: pytest.MonkeyPatch, *, token: str | None = None) -> None:
        """Let adapters find it."""
        for name in ("BAO_ADDR", "BAO_TOKEN", "BAO_NAMESPACE", "VAULT_ADDR", "VAULT_TOKEN", "VAULT_NAMESPACE"):
            patch.delenv(name, raising=False)
        patch.setenv("BAO_ADDR", self.address)
        patch.setenv("BAO_TOKEN", token or self.token)


def binary() -> str:
    found = str(BAO) if BAO.exists() else shutil.which("bao")
    if found is None:
        pytest.skip("OpenBao is not installed: make servers")
    return found


@contextmanager
def bao() -> Iterator[Bao]:
    """Run a server."""
    program = binary()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token, home = secrets.token_hex(12), Path(tempfile.mkdtemp(prefix="bao"))
    command = [program, "server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={token}"]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, f"-dev-listen-address=127.0.0.1:{port}"],
            stdout=log,
            stderr=log,
            env={**os.environ, "HOME": str(home)},
        )
    try:
        found = Bao(address=f"http://127.0.0.1:{port}", token=token)
        _wait(found, server, home / "log")
        found.ask("POST", "sys/mounts/transit", {"type": "transit"})
        yield found
    finally:
        server.terminate()
        server.wait(20)
        shutil.rmtree(home, ignore_errors=True)


def _wait(server: Bao, process: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError, urllib.error.URLError):
            if not server.ask("GET", "sys/health")["sealed"]:
                return
        time.sleep(0.1)
    pytest.fail("OpenBao did not start: " + log.read_text(errors="replace")[-500:])

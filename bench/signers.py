# SPDX-License-Identifier: Apache-2.0
"""Signing with a key on a token, beside securesystemslib's signer for the same module and the same kind of key.

Ours runs in this process; the peer runs in a process of its own, since a PKCS#11 module has
one login for all sessions of a process, and the peer logs in for each signature. It says the processor time it took.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from bench.measure import Timing, Unavailable, in_turns
from chopmark.adapters.kms import file as kms
from chopmark.adapters.kms import open_signer
from chopmark.keys import Algorithm

SIGNATURES = 50
MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "4711-0815"
MESSAGE = b"a statement of some length" * 40

_PEER = f"""
import sys, time
from securesystemslib.signer import HSMSigner
ask = lambda _: {PIN!r}
uri, key = HSMSigner.import_(1, "bench", ask)
signer = HSMSigner.from_priv_key_uri(uri, key, ask)
print("ready", flush=True)
for _ in sys.stdin:
    for _ in range({SIGNATURES}):
        signer.sign({MESSAGE!r})
    print(time.process_time(), flush=True)
"""


def sign_on_token(folder: Path) -> Timing:
    """P-256 on SoftHSM: a session that is kept against a session for each signature."""
    if not MODULE.exists() or shutil.which("softhsm2-util") is None:
        raise Unavailable("SoftHSM is not installed: apt-get install softhsm2")
    uri = _token(folder)
    signer = open_signer(uri)
    command = [sys.executable, "-c", _PEER]
    settings = {**os.environ, "PYKCS11LIB": str(MODULE)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=settings
    ) as peer:
        assert peer.stdin
        assert peer.stdout
        if peer.stdout.readline() != "ready\n":
            raise Unavailable("securesystemslib's HSMSigner does not work here")

        def ours() -> None:
            for _ in range(SIGNATURES):
                signer.sign(MESSAGE)

        taken_s = 0.0

        def theirs() -> None:
            nonlocal taken_s
            peer.stdin.write("\n")
            taken_s = float(peer.stdout.readline())

        try:
            return in_turns(ours, theirs, clock=lambda: time.process_time() + taken_s)
        finally:
            peer.stdin.close()


def _token(folder: Path) -> str:
    """Make a token with a key; return its URI."""
    # The module remembers its first configuration, and the folder of a figure goes away with it.
    home = Path(tempfile.mkdtemp(prefix="softhsm", dir=folder))
    (home / "tokens").mkdir()
    (home / "conf").write_text(f"directories.tokendir = {home}/tokens\nlog.level = ERROR\n", encoding="utf-8")
    os.environ["SOFTHSM2_CONF"] = str(home / "conf")
    (home / "pin").write_text(PIN, encoding="utf-8")
    (home / "pin").chmod(0o600)
    key = kms.generate(Algorithm.ECDSA_P256).private
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (home / "key.pem").write_bytes(pem)
    _util("--init-token", "--free", "--so-pin", "so-" + PIN, "--label", "bench", "--pin", PIN)
    _util("--import", str(home / "key.pem"), "--token", "bench", "--id", "01", "--label", "signer", "--pin", PIN)
    return f"pkcs11:token=bench;object=signer?module-path={MODULE}&pin-source=file:{home}/pin"


def _util(*arguments: str) -> None:
    done = subprocess.run(["softhsm2-util", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable("softhsm2-util: " + re.sub(r"\s+", " ", done.stdout + done.stderr).strip()[:200])

# SPDX-License-Identifier: Apache-2.0
"""Signing with a key on a token, beside securesystemslib's signer for the same module and the same kind of key.

Ours runs in this process; the peer runs in a process of its own, since a PKCS#11 module has
one login for all sessions of a process, and the peer logs in for each signature. It says the processor time it took.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench.measure import Timing, Unavailable, in_turns
from chopmark.adapters.kms import open_signer
from chopmark.keys import Algorithm
from simulators.tokens import MODULES, PIN, Token

SIGNATURES = 50
MESSAGE = b"a statement of some length" * 40

_PEER = f"""
import sys, time
from securesystemslib.signer import HSMSigner
ask = lambda _: {PIN!r}
uri, key = HSMSigner.import_(1, sys.argv[1], ask)
signer = HSMSigner.from_priv_key_uri(uri, key, ask)
print("ready", flush=True)
for _ in sys.stdin:
    for _ in range({SIGNATURES}):
        signer.sign({MESSAGE!r})
    print(time.process_time(), flush=True)
"""


def sign_on_token(_: Path) -> Timing:
    """P-256 on SoftHSM: a session that is kept against a session for each signature."""
    if not any(Path(path).exists() for path in MODULES) or shutil.which("softhsm2-util") is None:
        raise Unavailable("SoftHSM is not installed: apt-get install softhsm2")
    token = Token()
    token.add(Algorithm.ECDSA_P256)
    signer = open_signer(token.uri())
    command = [sys.executable, "-c", _PEER, token.label]
    settings = {**os.environ, "PYKCS11LIB": token.module}
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

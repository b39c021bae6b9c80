# SPDX-License-Identifier: Apache-2.0
"""Tokens of SoftHSM, for the tests that need hardware: real PKCS#11, in a temporary folder; skipped with a word where missing.

A process initialises a PKCS#11 module once, with one configuration, so all tokens of a process lie in one folder.
"""

from __future__ import annotations

import atexit
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from chopmark.adapters.kms import file as kms
from chopmark.keys import Algorithm, PublicKey

PIN = "4711-0815"
MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)


@cache
def module() -> str:
    """Return the path of SoftHSM's module, set up for this process and those it starts."""
    found = next((path for path in MODULES if Path(path).exists()), None)
    if found is None or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM is not installed: apt-get install softhsm2")
    pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed: pip install 'chopmark[pkcs11]'")
    folder = Path(tempfile.mkdtemp(prefix="softhsm"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "tokens").mkdir(mode=0o700)
    (folder / "pin").write_text(PIN + "\n")
    (folder / "pin").chmod(0o600)
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    return found


class Token:
    """A token of its own, with a random label."""

    def __init__(self) -> None:
        self.module = module()
        self.home = Path(os.environ["SOFTHSM2_CONF"]).parent
        self.label = "t-" + secrets.token_hex(6)
        before = set(self._folders())
        self._util("--init-token", "--free", "--so-pin", "so-" + PIN, label=self.label)
        (self.folder,) = set(self._folders()) - before

    @property
    def pin_file(self) -> Path:
        return self.home / "pin"

    def add(self, algorithm: Algorithm, *, label: str = "signer", id_: str = "01") -> PublicKey:
        """Put a new key on the token; return its public half."""
        key = kms.generate(algorithm)
        path = self.home / f"{secrets.token_hex(6)}.pem"
        path.write_bytes(
            key.private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        force = ("--force",)  # also where a key has this id already
        self._util("--import", str(path), "--token", self.label, "--id", id_, *force, label=label)
        path.unlink()
        self.look_again()
        return key.public

    def look_again(self) -> None:
        """Let the module see what another process did to the tokens: every session of this process is lost."""
        import pkcs11

        pkcs11.lib(self.module).reinitialize()

    def uri(self, *, label: str = "signer", pin_file: Path | None = None, more: str = "") -> str:
        source = pin_file or self.pin_file
        return f"pkcs11:token={self.label};object={label}{more}?module-path={self.module}&pin-source=file:{source}"

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        """Take the token out, and put it back."""
        aside = self.home / self.folder.name
        self.folder.rename(aside)
        self.look_again()
        try:
            yield
        finally:
            aside.rename(self.folder)
            self.look_again()

    def _folders(self) -> list[Path]:
        return list((self.home / "tokens").iterdir())

    def _util(self, *arguments: str, label: str) -> None:
        command = ["softhsm2-util", *arguments, "--label", label, "--pin", PIN]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, re.sub(r"\s+", " ", done.stdout + done.stderr)

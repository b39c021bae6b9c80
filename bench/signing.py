# SPDX-License-Identifier: Apache-2.0
"""Signing and verifying models, as whole processes beside ``model_signing`` on the same files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.measure import Timing, Unavailable, in_turns
from chopmark.adapters.kms.file import create
from chopmark.keys import Algorithm

HUGE = 2_000_000_000
"""Bytes of the one large file."""
MEDIUM = 1_000_000
"""Bytes of each of a thousand files."""
TWENTY = 20_000
"""How many files of 10 KB."""

ROUNDS = 5
_COLD_ROUNDS = 11


def sign_one(folder: Path) -> Timing:
    """A file of 2 GB."""
    return _sign(_one(folder))


def verify_one(folder: Path) -> Timing:
    return _verify(_one(folder))


def memory_one(folder: Path) -> Timing:
    return _memory(_one(folder))


def sign_thousand(folder: Path) -> Timing:
    """A thousand files of 1 MB."""
    return _sign(_thousand(folder))


def verify_thousand(folder: Path) -> Timing:
    return _verify(_thousand(folder))


def memory_thousand(folder: Path) -> Timing:
    return _memory(_thousand(folder))


def sign_many(folder: Path) -> Timing:
    """20,000 files of 10 KB."""
    return _sign(_many(folder))


def verify_many(folder: Path) -> Timing:
    return _verify(_many(folder))


def memory_many(folder: Path) -> Timing:
    return _memory(_many(folder))


def verify_cold(folder: Path) -> Timing:
    """A file of 4 KB: nothing but starting."""
    return _verify(_Model(folder, files=1, size=4096), rounds=_COLD_ROUNDS)


class _Model:
    """A folder of files with a key pair beside it, and the four commands over it."""

    def __init__(self, folder: Path, *, files: int, size: int) -> None:
        self.place = folder / "model"
        block = os.urandom(min(size, 1 << 24))
        for number in range(files):
            path = self.place / f"{number % 50:02d}" / f"{number:05d}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(number.to_bytes(4, "big"))
                for at in range(4, size, len(block)):
                    file.write(block[: size - at])
        self.private, self.public = folder / "packager.pem", folder / "packager.pub"
        self.public.write_text(create(self.private, Algorithm.ECDSA_P256).public.pem)
        self.ours, self.stock = folder / "ours.sig", folder / "stock.sig"

    def sign(self) -> list[object]:
        return [_program("chopmark"), "sign", self.place, "--key", self.private, "--out", self.ours]

    def verify(self) -> list[object]:
        return [_program("chopmark"), "verify", self.place, "--key", self.public, "--signature", self.ours]

    def sign_stock(self) -> list[object]:
        options = ["--private_key", self.private, "--signature", self.stock]
        return [_program("model_signing"), "sign", "key", *options, self.place]

    def verify_stock(self) -> list[object]:
        options = ["--public_key", self.public, "--signature", self.ours]
        return [_program("model_signing"), "verify", "key", *options, self.place]


def _one(folder: Path) -> _Model:
    return _Model(folder, files=1, size=HUGE)


def _thousand(folder: Path) -> _Model:
    return _Model(folder, files=1000, size=MEDIUM)


def _many(folder: Path) -> _Model:
    return _Model(folder, files=TWENTY, size=10_000)


def _sign(model: _Model) -> Timing:
    return _paired(model.sign(), model.sign_stock(), rounds=ROUNDS)


def _verify(model: _Model, *, rounds: int = ROUNDS) -> Timing:
    _run(model.sign())
    return _paired(model.verify(), model.verify_stock(), rounds=rounds)


def _paired(ours: Sequence[object], stock: Sequence[object], *, rounds: int) -> Timing:
    return in_turns(lambda: _run(ours), lambda: _run(stock), rounds=rounds, clock=time.perf_counter)


def _memory(model: _Model) -> Timing:
    """The more that signing or verifying ever held, in bytes."""
    ours = max(_peak(model.sign()), _peak(model.verify()))
    stock = max(_peak(model.sign_stock()), _peak(model.verify_stock()))
    return Timing(ours_s=ours, floor_s=stock, ratio=ours / stock)


def _run(command: Sequence[object]) -> None:
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


# A child begins with the peak of who starts it: so a process of nine megabytes does, and not this one.
_STARTER = """
import os, sys
nowhere = os.open(os.devnull, os.O_WRONLY)
actions = [(os.POSIX_SPAWN_DUP2, nowhere, number) for number in (1, 2)]
_, status, used = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=actions), 0)
print(used.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def _peak(command: Sequence[object]) -> int:
    """Return the most memory that *command* had resident, in bytes."""
    words = [sys.executable, "-I", "-S", "-c", _STARTER, *map(str, command)]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout) * 1024


def _program(name: str) -> Path:
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise Unavailable(f"{name} is not installed beside this Python")
    return path

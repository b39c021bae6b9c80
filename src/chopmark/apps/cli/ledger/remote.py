# SPDX-License-Identifier: Apache-2.0
"""Append to a log over HTTP, many entries at a time, each believed only by its proof."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from chopmark.apps.cli.render import Answer, good, say
from chopmark.artifacts import read_file, write_file
from chopmark.errors import UsageError
from chopmark.ledger.place import LogPlace
from chopmark.ledger.ports import LogServer
from chopmark.ledger.submit import KnownLog, Submitted, submit
from chopmark.ledger.tokens import is_token

_AT_ONCE: Final = 16
_SAY_EVERY: Final = 1000
_MAX_TOKEN_BYTES: Final = 256


def read_token(path: Path | None) -> str:
    """Return the token in the file at *path*.

    Raises:
        UsageError: none is named, others may read it, or it holds none.
    """
    if path is None:
        raise UsageError("--to asks for a token", hint="--token-file FILE; the log's operator makes one")
    data = read_file(path, max_bytes=_MAX_TOKEN_BYTES)
    if path.stat().st_mode & 0o077:
        raise UsageError(f"{path}: others may read the token", hint=f"chmod 600 {path}; have it replaced")
    token = data.decode("ascii", "replace").strip()
    if not is_token(token):
        raise UsageError(f"{path}: holds no token", hint="chopmark ledger token new NAME, on the log's machine")
    return token


def append_over(server: LogServer, entries: Sequence[bytes], place: LogPlace, *, proofs: Path | None) -> Answer:
    """Log *entries* and return what is proven of them.

    Args:
        proofs: a folder for the proofs, ``<index>.tlog-proof``.
    """
    log = KnownLog(origin=place.origin, require=place.require, policy=place.policy)
    done: list[Submitted] = []
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        waiting = [pool.submit(submit, server, entry, log, sleep=time.sleep) for entry in entries]
        try:
            for future in waiting:
                done.append(future.result())
                if proofs is not None:
                    write_file(proofs / f"{done[-1].included.index}.tlog-proof", done[-1].proof)
                if len(done) % _SAY_EVERY == 0:
                    say(f"{len(done):,} of {len(entries):,} logged")
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return _answer(done, place)


def _answer(done: Sequence[Submitted], place: LogPlace) -> Answer:
    indices = [one.included.index for one in done]
    size = max((one.included.checkpoint.size for one in done), default=0)
    unseen = sum(not one.witnessed for one in done)
    data = {"ok": True, "size": size, "indices": indices, "unwitnessed": unseen}
    shown = f"entry {indices[0]}" if len(indices) == 1 else f"{len(indices):,} entries"
    lines = [good(f"{shown} of {place.origin}, which has {size:,}; proof verified")]
    if unseen:
        lines.append(f"  not witnessed yet: {unseen:,}; append again later for a witnessed proof, the index stays")
    return data, lines

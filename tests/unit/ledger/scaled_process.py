# SPDX-License-Identifier: Apache-2.0
"""A writer of a log at scale as a process of its own: the tests kill it.

python -m unit.ledger.scaled_process DATABASE OBJECTS OPTIONS once N before|after    dies at the N-th call of a port
python -m unit.ledger.scaled_process DATABASE OBJECTS OPTIONS endless NAME           says what was acknowledged
"""

from __future__ import annotations

import json
import os
import signal
import sys

from chopmark.adapters.blobs.logfiles import FolderObjects
from chopmark.adapters.blobs.objects import StoredObjects, open_objects
from chopmark.adapters.sql import link
from chopmark.adapters.sql import postgres as pg
from chopmark.errors import UndecidedError
from chopmark.ledger.sequencer import Ledger
from simulators import StandingClock
from unit.ledger.kit import ORIGIN, ed25519_signer
from unit.ledger.scaled import KEYS

CALLS = {
    StoredObjects: ("_find", "_create", "_replace", "_remove"),
    FolderObjects: ("_find", "_create", "_replace", "_remove"),
    pg.PostgresSequence: ("sequenced", "find", "advance"),
    pg.PostgresHead: ("head", "advance", "keep_note"),
    link.Link: ("run", "all"),
}


def open_ledger(database, url, options):
    store, heads = pg.open_log(
        database, objects=open_objects(url, options), origin=ORIGIN, require=[key.encode() for key in KEYS]
    )
    return Ledger.open(
        store=store, heads=heads, origin=ORIGIN, signers=[ed25519_signer(bytes(32))], clock=StandingClock()
    )


def die_at(point, *, after):
    """Kill this process with SIGKILL at the call *point* of the ports and of the database beneath them."""
    count = 0

    def watched(function):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            mine = count == point
            if mine and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*args, **kwargs)
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for kind, names in CALLS.items():
        for name in names:
            setattr(kind, name, watched(getattr(kind, name)))


def main():
    database, url, options, name = sys.argv[1:]
    ledger = open_ledger(database, url, json.loads(options))
    for n in range(10**6):
        entries = [b"%s %d" % (name.encode(), n), b"common %d" % (n // 3)]
        while True:
            try:
                print(n, *ledger.append(entries), flush=True)
                break
            except UndecidedError as error:
                print(error.message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

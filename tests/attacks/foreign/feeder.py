# SPDX-License-Identifier: Apache-2.0
"""Have an exported log witnessed by the feeder of aics-witness: ``feeder.py LOG_FOLDER WITNESS_URL WITNESS_VKEY STATE``.

Runs in an environment of its own. It makes its proofs from the log's tiles, and prints the cosignature lines that it has
verified; or "refused: why", with exit code 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

from aics_tlog import FileSystemTileReader, consistency_proof_from_tiles, parse_checkpoint, parse_note
from aics_witness.feeder import FeederError, WitnessClient


def feed(folder: Path, url: str, vkey: str, state: Path) -> str:
    note = (folder / "checkpoint").read_bytes()
    size = parse_checkpoint(parse_note(note).text).size
    tiles = FileSystemTileReader(folder)
    with WitnessClient(url, vkey, state_path=state) as client:
        return client.submit(note, lambda old, new: consistency_proof_from_tiles(tiles, old, new, size))


if __name__ == "__main__":
    try:
        print(feed(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])), end="")
    except FeederError as error:
        print(f"refused: {type(error).__name__}: {error}")
        sys.exit(1)

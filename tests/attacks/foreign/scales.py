# SPDX-License-Identifier: Apache-2.0
"""Read a log with tlog-scales. Runs in an environment of its own: ``scales.py URL PLAN``.

Exit code 0: verified. 1: refused, and "refused: why" on stdout.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tlog_scales import backend, signing, tiles, tlog
from tlog_scales.reader import TilesReader


def read(url: str, plan: dict) -> None:
    keys = signing.VkeySet(*map(signing.Vkey.from_string, [plan["ed25519"], plan["ml_dsa_44"], *plan["witnesses"]]))
    reader = TilesReader(backend.make_backend(url))
    checkpoint = reader.get_checkpoint()
    old = tlog.Checkpoint.from_text(plan["old"])
    for seen in (old, checkpoint):
        signed = {(vkey.name, vkey.key_id) for vkey, _ in keys.verify(seen.signatures, seen)}
        if seen.origin != plan["origin"] or signed != set(keys.keys):
            raise ValueError(f"the checkpoint of {seen.size} is signed by {len(signed)} of {len(keys.keys)}")
    if checkpoint.size != len(plan["entries"]) or reader.calculate_root_hash() != checkpoint.root_hash:
        raise ValueError("another root")
    for index, entry in enumerate(plan["entries"]):
        found = reader.get_entry(index)
        proof = reader.get_inclusion_proof(index, checkpoint.size)
        proof.check(tiles.leaf_hash(found), checkpoint.root_hash)
        if found.hex() != entry:
            raise ValueError(f"entry {index} is not the one that was logged")
    grown = reader.get_consistency_proof(old.size, checkpoint.size)
    grown.check(old.root_hash, checkpoint.root_hash)


if __name__ == "__main__":
    try:
        read(sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
    except (ValueError, RuntimeError, IndexError, tlog.InclusionProofInvalid, tlog.ConsistencyProofInvalid) as error:
        print(f"refused: {type(error).__name__}: {error}")
        sys.exit(1)
    print("verified")

# SPDX-License-Identifier: Apache-2.0
"""The ledger: an append-only Merkle log whose proofs anybody can check offline.

A log signs *checkpoints* (its name, size and root); witnesses cosign those that only grew; a proof carries an entry's
place, a path to the root and the cosigned checkpoint in one file. All formats are C2SP's: tlog-tiles, tlog-checkpoint,
tlog-cosignature, tlog-proof, tlog-policy; the tree is RFC 9162's.

    >>> leaves = [leaf_hash(b"one"), leaf_hash(b"two")]
    >>> Checkpoint(origin="log.example", size=2, root=root_of(leaves)).encode().splitlines()[:2]
    ['log.example', '2']

This face is pure and safe on a device: it reads no file, no clock and no network. What runs on a server is in
:mod:`chopmark.ledger.sequencer` (the log), :mod:`chopmark.ledger.feed` (asking witnesses) and
:mod:`chopmark.ledger.witness` (being one). The log never reads what it logs.
"""

from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.cosignature import cosign, sign_checkpoint
from chopmark.ledger.merkle import (
    EMPTY_ROOT,
    MAX_SIZE,
    ProofError,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from chopmark.ledger.note import (
    LineKind,
    SignatureLine,
    SignedNote,
    ValidLine,
    VerifierKey,
    decode_lines,
    decode_note,
    log_key,
    sign_line,
    verify_lines,
    witness_key,
)
from chopmark.ledger.policy import PolicyGroup, PolicyLog, PolicyWitness, WitnessPolicy, witnessed_by
from chopmark.ledger.proof import MAX_PROOF_BYTES, TlogProof
from chopmark.ledger.tiles import (
    EMPTY_EDGE,
    MAX_ENTRY_BYTES,
    Bundle,
    Edge,
    Integration,
    Tile,
    bundle_path,
    decode_bundle,
    decode_tile,
    edge_of,
    encode_bundle,
    integrate,
    node_from_tiles,
    tile_path,
    tile_shape,
)
from chopmark.ledger.verify import Included, Witnessed, check_growth, verify_checkpoint, verify_proof

__all__ = [
    "EMPTY_EDGE",
    "EMPTY_ROOT",
    "MAX_ENTRY_BYTES",
    "MAX_PROOF_BYTES",
    "MAX_SIZE",
    "Bundle",
    "Checkpoint",
    "Edge",
    "Included",
    "Integration",
    "LineKind",
    "PolicyGroup",
    "PolicyLog",
    "PolicyWitness",
    "ProofError",
    "SignatureLine",
    "SignedNote",
    "Tile",
    "TlogProof",
    "ValidLine",
    "VerifierKey",
    "WitnessPolicy",
    "Witnessed",
    "bundle_path",
    "check_growth",
    "consistency_path",
    "cosign",
    "decode_bundle",
    "decode_lines",
    "decode_note",
    "decode_tile",
    "edge_of",
    "encode_bundle",
    "inclusion_path",
    "integrate",
    "leaf_hash",
    "log_key",
    "node_from_tiles",
    "node_hash",
    "root_of",
    "sign_checkpoint",
    "sign_line",
    "tile_path",
    "tile_shape",
    "verify_checkpoint",
    "verify_consistency",
    "verify_inclusion",
    "verify_lines",
    "verify_proof",
    "witness_key",
    "witnessed_by",
]

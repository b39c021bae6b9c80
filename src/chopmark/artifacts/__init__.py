# SPDX-License-Identifier: Apache-2.0
"""Artifacts: what the first step of the spine makes of a dataset, a model or a package.

    >>> entry = hash_bytes("model.onnx", b"weights")
    >>> manifest = Manifest(files=(entry,))
    >>> decode_manifest(manifest.encode()) == manifest
    True

The digest of the manifest is the package digest; it binds names, lengths and contents of all files.
"""

from chopmark.artifacts.blocktree import LEAF_BLOCK_BYTES, LEAVES_SUFFIX, BlockTree, check_leaves, verify_blocks
from chopmark.artifacts.files import TEMPORARY, make_folder, read_file, sync_folder, write_file
from chopmark.artifacts.hashing import FlatDigest, digests, hash_bytes, hash_file, scan
from chopmark.artifacts.model import BLOCK_SIZES, Digest, FileEntry, Manifest, check_file_name
from chopmark.artifacts.ports import BlobStore, Runtime, Session
from chopmark.artifacts.walk import FILE_CHANGED, NOT_REGULAR, file_names, open_regular
from chopmark.artifacts.wire import decode_manifest

__all__ = [
    "BLOCK_SIZES",
    "FILE_CHANGED",
    "LEAF_BLOCK_BYTES",
    "LEAVES_SUFFIX",
    "NOT_REGULAR",
    "TEMPORARY",
    "BlobStore",
    "BlockTree",
    "Digest",
    "FileEntry",
    "FlatDigest",
    "Manifest",
    "Runtime",
    "Session",
    "check_file_name",
    "check_leaves",
    "decode_manifest",
    "digests",
    "file_names",
    "hash_bytes",
    "hash_file",
    "make_folder",
    "open_regular",
    "read_file",
    "scan",
    "sync_folder",
    "verify_blocks",
    "write_file",
]

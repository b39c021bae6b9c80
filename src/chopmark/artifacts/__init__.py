# SPDX-License-Identifier: Apache-2.0
"""Artifacts: what the first step of the spine makes of a dataset, a model or a package.

    >>> entry = hash_bytes("model.onnx", b"weights")
    >>> manifest = Manifest(files=(entry,))
    >>> decode_manifest(manifest.encode()) == manifest
    True

The digest of the manifest is the package digest; it binds names, lengths and contents of all files.
"""

from chopmark.artifacts.blocktree import LEAF_BLOCK_BYTES, LEAVES_SUFFIX, BlockTree, check_leaves, verify_blocks
from chopmark.artifacts.files import TEMPORARY, make_folder, read_file, read_secret, sync_folder, write_file
from chopmark.artifacts.hashing import FlatDigest, Progress, digests, hash_bytes, hash_file, manifest_of, scan
from chopmark.artifacts.leaves import read_leaves
from chopmark.artifacts.model import BAD_NAME, BLOCK_SIZES, Digest, FileEntry, Manifest, check_file_name
from chopmark.artifacts.ports import BlobStore, Runtime, Session
from chopmark.artifacts.resume import HashState
from chopmark.artifacts.verify import verify_tree
from chopmark.artifacts.walk import FILE_CHANGED, NOT_REGULAR, file_names, open_regular, size_of
from chopmark.artifacts.wire import MAX_MANIFEST_BYTES, decode_manifest

__all__ = [
    "BAD_NAME",
    "BLOCK_SIZES",
    "FILE_CHANGED",
    "LEAF_BLOCK_BYTES",
    "LEAVES_SUFFIX",
    "MAX_MANIFEST_BYTES",
    "NOT_REGULAR",
    "TEMPORARY",
    "BlobStore",
    "BlockTree",
    "Digest",
    "FileEntry",
    "FlatDigest",
    "HashState",
    "Manifest",
    "Progress",
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
    "manifest_of",
    "open_regular",
    "read_file",
    "read_leaves",
    "read_secret",
    "scan",
    "size_of",
    "sync_folder",
    "verify_blocks",
    "verify_tree",
    "write_file",
]

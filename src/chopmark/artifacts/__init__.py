# SPDX-License-Identifier: Apache-2.0
"""Artifacts: what the first step of the spine makes of a dataset, a model or a package.

    >>> entry = hash_bytes("model.onnx", b"weights")
    >>> manifest = Manifest(files=(entry,))
    >>> decode_manifest(manifest.encode()) == manifest
    True

The digest of the manifest is the package digest; it binds names, lengths and contents of all files.
"""

from chopmark.artifacts.files import TEMPORARY, make_folder, read_file, read_secret, sync_folder, write_file
from chopmark.artifacts.hashing import NOT_REGULAR, BlockTree, file_names, hash_bytes, hash_file, open_regular, scan
from chopmark.artifacts.model import BLOCK_SIZES, Digest, FileEntry, Manifest, check_file_name
from chopmark.artifacts.ports import BlobStore, Runtime, Session
from chopmark.artifacts.wire import decode_manifest

__all__ = [
    "BLOCK_SIZES",
    "NOT_REGULAR",
    "TEMPORARY",
    "BlobStore",
    "BlockTree",
    "Digest",
    "FileEntry",
    "Manifest",
    "Runtime",
    "Session",
    "check_file_name",
    "decode_manifest",
    "file_names",
    "hash_bytes",
    "hash_file",
    "make_folder",
    "open_regular",
    "read_file",
    "read_secret",
    "scan",
    "sync_folder",
    "write_file",
]

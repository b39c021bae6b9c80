# SPDX-License-Identifier: Apache-2.0
"""Make bundles that stock tools verify: method ``files``, SHA-256, one P-256 key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from chopmark import canonical
from chopmark.artifacts import Digest, Manifest
from chopmark.errors import UsageError
from chopmark.keys import Algorithm, Signer
from chopmark.statements.model import PAYLOAD_TYPE, STATEMENT_TYPE, PredicateType, pae
from chopmark.statements.oms.keys import OmsKey
from chopmark.statements.oms.wire import BUNDLE_TYPE


def build_oms(manifest: Manifest, signer: Signer, *, name: str) -> bytes:
    """Return a bundle over the files of *manifest*, signed by a P-256 key.

    Args:
        name: informational subject name.

    Raises:
        UsageError: a key of another algorithm.
    """
    return sign_listing({entry.name: entry.sha256.value for entry in manifest.files}, signer, subject=name)


def sign_listing(files: Mapping[str, bytes], signer: Signer, *, subject: str, ignored: Sequence[str] = ()) -> bytes:
    """Return a bundle over *files*, signed by a P-256 key.

    Args:
        files: name -> SHA-256; a single file is called ``.``, as stock tools look for it.
        subject: informational.
        ignored: what was left out, for verifiers to expect.

    Raises:
        UsageError: a key of another algorithm.
    """
    check_signer(signer)
    names = sorted(files)
    how: dict[str, object] = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
    if ignored:
        how["ignore_paths"] = sorted(ignored)
    payload = _encode(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": subject, "digest": {"sha256": root_of(files).hex}}],
            "predicateType": str(PredicateType.OMS),
            "predicate": {
                "serialization": how,
                "resources": [{"name": name, "digest": files[name].hex(), "algorithm": "sha256"} for name in names],
            },
        }
    )
    return _encode(
        {
            "mediaType": BUNDLE_TYPE,
            "verificationMaterial": {"publicKey": {"hint": OmsKey.from_public(signer.public).hint}},
            "dsseEnvelope": {
                "payload": canonical.encode_base64(payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": canonical.encode_base64(signer.sign(pae(PAYLOAD_TYPE, payload))), "keyid": ""}],
            },
        }
    )


def _encode(value: object) -> bytes:
    """Return compact JSON, members sorted: for names and digests the bytes of RFC 8785, forty times as fast."""
    return msgspec.json.encode(value, order="sorted")


def root_of(files: Mapping[str, bytes]) -> Digest:
    """Return the digest by which stock tools name the model: SHA-256 of the files' digests, in order of their names."""
    return Digest.of(b"".join(files[name] for name in sorted(files)))


def check_signer(signer: Signer) -> None:
    """Check that stock tools know keys like that of *signer*.

    Raises:
        UsageError: they do not.
    """
    if signer.public.algorithm is not Algorithm.ECDSA_P256:
        raise UsageError("stock tools verify P-256 keys only", hint="openssl ecparam -name prime256v1 -genkey")

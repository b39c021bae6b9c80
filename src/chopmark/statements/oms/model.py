# SPDX-License-Identifier: Apache-2.0
"""What an OMS bundle says, as types, and what each refusal is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from chopmark.artifacts import Digest
from chopmark.errors import DecodeError, VerificationError

OMS_FILE: Final = "model.sig"
"""What stock tools call a bundle: beside a model, or inside its folder."""

MAX_BUNDLE_BYTES: Final = 64 * 1024 * 1024
"""The longest bundle that is read: some 290,000 files."""

LEFT_OUT: Final = (".git", ".gitattributes", ".github", ".gitignore")
"""Names at the top of a folder that stock tools never look at, so that nobody can sign them for these tools (6.2)."""

_ANEW: Final = "do not use these files; get folder and bundle anew from whoever signed them"
_SHOWN: Final = 5


class OmsFailure(StrEnum):
    """Why a bundle, or the files beside it, are refused."""

    TOO_LARGE = "oms-too-large"
    SIGNATURES = "oms-signatures"
    MATERIAL = "oms-material"
    KEY = "oms-key-mismatch"
    UNSIGNED = "oms-unsigned"
    CERTIFICATE = "oms-certificate"
    CERTIFICATE_EXPIRED = "oms-certificate-expired"
    CERTIFICATE_USE = "oms-certificate-use"
    METHOD = "oms-method"
    HASH = "oms-hash"
    NAME = "oms-name"
    ORDER = "oms-order"
    DUPLICATE = "oms-duplicate"
    ROOT = "oms-root"
    LINK = "oms-link"
    MISSING_FILES = "oms-missing-files"
    UNSIGNED_FILES = "oms-unsigned-files"
    ALTERED = "oms-altered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A decoded bundle; nothing in it is believed.

    Attributes:
        payload, signature: of the DSSE envelope.
        chain: certificates (DER), the signer's first; empty where a key signed.
        hint: SHA-256 of the key's PEM, hex; empty where the bundle names no key.
        raw_key: the key itself, as bundles from before 1.1.0 carry it.
    """

    payload: bytes
    signature: bytes
    chain: tuple[bytes, ...] = ()
    hint: str = ""
    raw_key: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a bundle says about files.

    Attributes:
        subject: informational; nothing compares it.
        files: name -> SHA-256, in the order of the bundle. A single file is called ``.`` or by its name.
        root: SHA-256 of the digests in that order. It does not bind the names.
        ignored: what the signer left out, relative to the folder.
    """

    subject: str
    files: Mapping[str, bytes]
    root: Digest
    ignored: tuple[str, ...] = ()


def refused(failure: OmsFailure, message: str, *, hint: str = _ANEW, **evidence: object) -> VerificationError:
    """Return the error for *failure*."""
    return VerificationError(f"OMS bundle: {message}", code=failure, hint=hint, evidence=evidence)


def malformed(failure: OmsFailure, message: str, *, hint: str = "") -> DecodeError:
    """Return the error for a bundle that no verifier should read on."""
    return DecodeError(f"OMS bundle: {message}", code=failure, hint=hint)


def shown(names: list[str]) -> str:
    """Return the first few of *names*, and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(sorted(names)[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")

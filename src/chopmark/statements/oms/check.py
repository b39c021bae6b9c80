# SPDX-License-Identifier: Apache-2.0
"""Is a bundle signed by whom we trust, and does it list exactly these files?"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from chopmark.artifacts import Digest, Manifest
from chopmark.keys import PublicKey
from chopmark.statements.model import Envelope, Signature
from chopmark.statements.oms.keys import OmsKey
from chopmark.statements.oms.model import Bundle, Listing, OmsFailure, refused, shown
from chopmark.statements.oms.wire import decode_bundle, decode_listing

SINGLE = "."
"""What stock tools call a single file; the specification says its name."""


class OmsTrust(Protocol):
    """Whose signature is believed: a key, or authorities that certify keys."""

    def check(self, bundle: Bundle) -> str:
        """Return what to call whoever signed *bundle*.

        Raises:
            VerificationError: nobody who is trusted.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedListing:
    """A listing whose signature was verified, and by whom it was signed, for people."""

    listing: Listing
    signer: str


def decode_oms(data: bytes) -> Envelope:
    """Return the envelope in a bundle; nothing is verified, and its payload is not looked into.

    Raises:
        DecodeError: not such a bundle.
    """
    bundle = decode_bundle(data)
    return Envelope(payload=bundle.payload, signatures=(Signature("", bundle.signature),))


def open_oms(data: bytes, trust: OmsTrust) -> SignedListing:
    """Return what the bundle *data* says about files, signed by whom *trust* believes.

    Raises:
        VerificationError: not so; ``code`` is one of :class:`OmsFailure`.
        DecodeError: not such a bundle.
    """
    bundle = decode_bundle(data)
    signer = trust.check(bundle)
    return SignedListing(listing=decode_listing(bundle.payload), signer=signer)


def verify_oms(bundle: bytes, manifest: Manifest, key: PublicKey) -> Digest:
    """Check that *bundle* was signed by *key* over exactly the files of *manifest*; return its root digest.

    Raises:
        VerificationError: another key, a bad signature, or other files.
        DecodeError: not such a bundle.
    """
    signed = open_oms(bundle, OmsKey.from_public(key))
    here = {entry.name: entry.sha256.value for entry in manifest.files}
    check_files(signed.listing, here)
    return signed.listing.root


def check_files(listing: Listing, here: Mapping[str, bytes], *, single: str = SINGLE) -> None:
    """Check that the files *here*, name -> SHA-256, are exactly those of *listing*.

    Args:
        single: what people call the file that listings call :data:`SINGLE`.

    Raises:
        VerificationError: ``oms-altered``, ``oms-missing-files`` or ``oms-unsigned-files``, the worst first; the evidence
            has all names.
    """
    listed = listing.files
    if listed == here:
        return
    if altered := sorted(name for name, digest in listed.items() if here.get(name, digest) != digest):
        altered = [single if name == SINGLE else name for name in altered]
        raise refused(OmsFailure.ALTERED, f"altered since it was signed: {shown(altered)}", altered=altered)
    if missing := sorted(listed.keys() - here.keys()):
        raise refused(OmsFailure.MISSING_FILES, f"signed, and not here: {shown(missing)}", missing=missing)
    more = sorted(here.keys() - listed.keys())
    raise refused(
        OmsFailure.UNSIGNED_FILES, f"here, and not signed: {shown(more)}", hint=_hint(listing, more), unsigned=more
    )


def _hint(listing: Listing, more: list[str]) -> str:
    """Return what to do about the unsigned files *more*: the signer may have left them out, and said so."""
    left_out = [name for name in sorted(listing.ignored) if any(m == name or m.startswith(name + "/") for m in more)]
    ignore = " ".join(f"--ignore {shlex.quote(name)}" for name in left_out)
    others = [m for m in more if not any(m == name or m.startswith(name + "/") for name in left_out)]
    if not left_out:
        return "remove what is not of the model; or get folder and bundle anew"
    if others:
        return f"the signer left out {', '.join(left_out)}, and does not know {shown(others)}: remove it, or get the folder anew"
    return f"the signer left them out; if nothing uses them: {ignore}"

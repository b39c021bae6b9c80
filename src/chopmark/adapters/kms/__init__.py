# SPDX-License-Identifier: Apache-2.0
"""Signers, by URI: a key in a file, on a token, in a KMS. One table says what each scheme needs and what it was tried on.

    >>> sorted(SCHEMES)
    ['awskms', 'azurekms', 'file', 'gcpkms', 'hashivault', 'openbao', 'pkcs11']

A scheme's module is imported when a URI names it. Other packages add schemes with an entry point of the group
``chopmark.adapters`` that is named ``kms.<scheme>`` and leads to a function like those of the table; a scheme of the table
cannot be replaced.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from chopmark.errors import UndecidedError, UsageError, foreign
from chopmark.keys import Passphrase, Signer

Opener = Callable[[str, Passphrase | None], Signer]
"""Opens the key that a URI names. The passphrase is asked for only if the key needs one."""

ENTRY_POINTS: Final = "chopmark.adapters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """A row of the table.

    Attributes:
        opener: ``module:function``, an :data:`Opener`.
        what: where the key is.
        uri: how one is named.
        algorithms: that it signs with here.
        extra: of this package, that brings what the module needs; empty where nothing is needed.
        tried: against what its tests run.
    """

    opener: str
    what: str
    uri: str
    algorithms: str
    extra: str
    tried: str


_TRANSIT = "chopmark.adapters.http.transit:open_transit"

SCHEMES: Final[Mapping[str, Scheme]] = {
    "file": Scheme(
        opener="chopmark.adapters.kms.file:open_file",
        what="a file: PKCS#8 PEM, plain or encrypted; a bare path means the same",
        uri="file:PATH[?passphrase-file=PATH]",
        algorithms="ed25519, ecdsa-p256, ml-dsa-44, ml-dsa-65",
        extra="",
        tried="files of our own and of OpenSSL",
    ),
    "pkcs11": Scheme(
        opener="chopmark.adapters.kms.pkcs11:open_token",
        what="a token with a PKCS#11 module (RFC 7512)",
        uri="pkcs11:token=LABEL;object=LABEL[;id=%01]?module-path=/PATH.so&pin-source=file:/PATH",
        algorithms="ed25519, ecdsa-p256",
        extra="pkcs11",
        tried="SoftHSM 2.6.1",
    ),
    "openbao": Scheme(
        opener=_TRANSIT,
        what="the transit engine of OpenBao",
        uri="openbao:MOUNT/KEY[?version=N]",
        algorithms="ed25519, ecdsa-p256",
        extra="",
        tried="an OpenBao server, 2.7.2",
    ),
    "hashivault": Scheme(
        opener=_TRANSIT,
        what="the transit engine of Vault, which speaks as OpenBao's does",
        uri="hashivault:MOUNT/KEY[?version=N]",
        algorithms="ed25519, ecdsa-p256",
        extra="",
        tried="an OpenBao server, 2.7.2; no Vault",
    ),
    "awskms": Scheme(
        opener="chopmark.adapters.kms.clouds:open_aws",
        what="AWS KMS",
        uri="awskms:KEY-ID|ARN|alias/NAME",
        algorithms="ecdsa-p256",
        extra="aws",
        tried="moto's imitation of AWS KMS, once it signs digests as AWS does; not AWS",
    ),
    "gcpkms": Scheme(
        opener="chopmark.adapters.kms.clouds:open_gcp",
        what="Google Cloud KMS",
        uri="gcpkms:projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N",
        algorithms="ecdsa-p256",
        extra="gcp",
        tried="Google's SDK, and an imitation of our own that answers it; not Google",
    ),
    "azurekms": Scheme(
        opener="chopmark.adapters.kms.clouds:open_azure",
        what="Azure Key Vault",
        uri="azurekms://NAME.vault.azure.net/keys/KEY/VERSION",
        algorithms="ecdsa-p256",
        extra="azure",
        tried="Azure's SDK, and an imitation of our own that answers it; not Azure",
    ),
}
"""Every scheme of ours; ``docs/reference/signers.md`` is generated from it, and the contract tests run over it."""

_PEM = "-----BEGIN "
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):")


def open_signer(uri: str, *, passphrase: Passphrase | None = None) -> Signer:
    """Open the private key that *uri* names: a path, or a URI of :data:`SCHEMES` or of an entry point.

    Args:
        passphrase: asked when the key is locked and *uri* does not say what opens it.

    Raises:
        UsageError: no such scheme, a URI that does not fit it, the key's own text, or a package that is not installed
            (``extra-missing``).
        UndecidedError: there is no such key here (``key-missing``), it stays locked (``key-locked``), or what holds it
            cannot be reached (``key-unavailable``).
        VerificationError: what holds the key answered with something else.
    """
    if not uri:
        raise UsageError("the name of the key is empty", hint="name a file or a URI; is a variable not set?")
    if _PEM in uri:
        # Not repeated: a message ends in the log of a CI, where such a call is most likely made.
        raise UsageError("the text of a key does not name one", hint="write it to a file of mode 0600, and name that")
    found = _SCHEME.match(uri)
    if found is None:
        return _opener("file", SCHEMES["file"])(uri, passphrase)
    scheme = found[1]
    if (row := SCHEMES.get(scheme)) is not None:
        opener = _opener(scheme, row)
    elif (other := _of_others(scheme)) is not None:
        opener = other
    elif os.path.lexists(uri):
        opener = _opener("file", SCHEMES["file"])  # a file whose name has a colon in it
    else:
        raise UsageError(
            f"{scheme}: keys cannot be named like this",
            code="scheme-unknown",
            hint=f"use a path, or {', '.join(SCHEMES)}",
        )
    # Not quoted: a library's error may repeat the PIN or the token that it was given.
    with foreign(
        UndecidedError, f"{scheme}: the key could not be opened", code="key-unavailable", hint="check its key store"
    ):
        return opener(uri, passphrase)


def _opener(scheme: str, row: Scheme) -> Opener:
    module, _, name = row.opener.partition(":")
    try:
        opener: Opener = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise UsageError(
            f"{scheme}: {error.name or 'a package'} is not installed",
            code="extra-missing",
            hint=f"pip install 'chopmark[{row.extra}]'" if row.extra else "",
        ) from error
    return opener


def _of_others(scheme: str) -> Opener | None:
    """Return what another installed package opens *scheme* with.

    Raises:
        UsageError: two packages want to, or the one that does cannot be imported.
    """
    from importlib.metadata import entry_points  # noqa: PLC0415 - it loads the parsers of e-mail

    found = tuple(entry_points(group=ENTRY_POINTS, name=f"kms.{scheme}"))
    if len(found) > 1:
        raise UsageError(f"{scheme}: {len(found)} installed packages open such keys", hint="remove all but one")
    with foreign(UsageError, f"{scheme}: the package for it cannot be imported", code="extra-missing"):
        opener: Opener | None = found[0].load() if found else None
    return opener

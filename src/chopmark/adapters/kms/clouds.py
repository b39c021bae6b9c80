# SPDX-License-Identifier: Apache-2.0
"""Keys in the key services of AWS, Google and Azure, through securesystemslib's signers. All three sign P-256 here.

Credentials are the ambient ones of each vendor's SDK. The vendor sees digests, never what is signed. Ed25519 is what
these signers cannot do; Google's ML-DSA keys they sign in the form of TUF's TAP 21, which is no plain ML-DSA signature.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from securesystemslib.exceptions import UnsupportedAlgorithmError, UnsupportedLibraryError
from securesystemslib.signer import AWSSigner, AzureSigner, GCPSigner, SSlibKey
from securesystemslib.signer import Signer as ForeignSigner

from chopmark.errors import UsageError
from chopmark.keys import Algorithm, Passphrase, PublicKey, Signer, read_public_key

_P256: Final = "ecdsa-sha2-nistp256"
_AWS: Final = re.compile(r"awskms:([A-Za-z0-9:/_-]{1,2048})")
_GCP: Final = re.compile(
    r"gcpkms:(projects/[^/?#\s]+/locations/[^/?#\s]+/keyRings/[^/?#\s]+/cryptoKeys/[^/?#\s]+/cryptoKeyVersions/[0-9]+)"
)
# The slashes may be one: a path type of a command line folds them.
_AZURE: Final = re.compile(r"azurekms:/{1,2}([A-Za-z0-9.-]+)/keys/([A-Za-z0-9-]{1,127})/([0-9a-f]{32})")


class CloudSigner(Signer):
    """A private key in a key service."""

    def __init__(self, signer: ForeignSigner, public: PublicKey) -> None:
        self._signer, self._public = signer, public

    @property
    def public(self) -> PublicKey:
        return self._public

    def _sign(self, message: bytes) -> bytes:
        return bytes.fromhex(self._signer.sign(message).signature)


def open_aws(uri: str, passphrase: Passphrase | None) -> CloudSigner:  # noqa: ARG001 - these have credentials of their own
    """Open ``awskms:`` and a key id, an ARN or an alias; errors as :func:`chopmark.adapters.kms.open_signer`."""
    (key,) = _parts(_AWS, uri, "awskms:KEY-ID, awskms:ARN or awskms:alias/NAME")
    with _library("aws"):
        _, found = AWSSigner.import_(key, _P256)
        return CloudSigner(AWSSigner(key, found), _public(found))


def open_gcp(uri: str, passphrase: Passphrase | None) -> CloudSigner:  # noqa: ARG001
    """Open ``gcpkms:`` and the full name of a key version; errors as :func:`chopmark.adapters.kms.open_signer`."""
    (name,) = _parts(_GCP, uri, "gcpkms:projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N")
    with _library("gcp"):
        _, found = GCPSigner.import_(name)
        return CloudSigner(GCPSigner(name, found), _public(found))


def open_azure(uri: str, passphrase: Passphrase | None) -> CloudSigner:  # noqa: ARG001
    """Open ``azurekms://HOST/keys/KEY/VERSION``; errors as :func:`chopmark.adapters.kms.open_signer`."""
    host, name, version = _parts(_AZURE, uri, "azurekms://NAME.vault.azure.net/keys/KEY/VERSION")
    with _library("azure"):
        public = _azure_public(host, name, version)
        known = SSlibKey(public.keyid, "ecdsa", _P256, {"public": public.pem})
        return CloudSigner(AzureSigner(f"https://{host}/keys/{name}/{version}", known), public)


def _azure_public(host: str, name: str, version: str) -> PublicKey:
    """Ask for the public half of this version; securesystemslib asks for the newest, in one cloud of Azure's."""
    from azure.identity import DefaultAzureCredential  # noqa: PLC0415 - there with an extra only
    from azure.keyvault.keys import KeyClient  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    with DefaultAzureCredential() as credential, KeyClient(f"https://{host}", credential) as client:
        key = client.get_key(name, version).key
    if key.crv != "P-256":
        raise UsageError("the key is not one of P-256", hint="make an EC key with the curve P-256")
    x, y = int.from_bytes(key.x), int.from_bytes(key.y)
    return PublicKey.of(ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key())


def _parts(pattern: re.Pattern[str], uri: str, hint: str) -> tuple[str, ...]:
    found = pattern.fullmatch(uri)
    if found is None:
        raise UsageError(f"{uri.partition(':')[0]}: does not name a key, or no version of one", hint=hint)
    return found.groups()


def _public(found: SSlibKey) -> PublicKey:
    if found.scheme != _P256:
        raise UsageError(f"the key signs {found.scheme}, which is not used here", hint="make a P-256 key")
    public = read_public_key(str(found.keyval["public"]).encode())
    if public.algorithm is not Algorithm.ECDSA_P256:
        raise UsageError(f"the key is one of {public.algorithm}, and said to be one of P-256")
    return public


@contextmanager
def _library(extra: str) -> Iterator[None]:
    try:
        yield
    except (UnsupportedLibraryError, ImportError) as error:
        raise UsageError(
            f"what talks to this key service is not installed ({extra})",
            code="extra-missing",
            hint=f"pip install 'chopmark[{extra}]'",
        ) from error
    except UnsupportedAlgorithmError as error:
        raise UsageError("the key is of an algorithm that is not used here", hint="make a P-256 key") from error

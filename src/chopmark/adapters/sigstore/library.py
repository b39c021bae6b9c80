# SPDX-License-Identifier: Apache-2.0
"""``sigstore`` (sigstore-python): certificates, timestamps and log entries as Sigstore's own client sees them.

It is imported when it is used: it brings much along, and it is an optional extra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from chopmark.artifacts import Digest
from chopmark.errors import UsageError, VerificationError
from chopmark.statements.sigstore import check_about
from chopmark.statements.sigstore.ports import Identity, Sigstore, Verified

if TYPE_CHECKING:
    import requests
    from sigstore.hashes import Hashed

MISSING: Final = "pip install 'chopmark[sigstore]'"
ANSWER_S: Final = 60.0
"""How long Fulcio and log may take: a Rekor v2 answers when a checkpoint holds the entry."""


class SigstoreLibrary(Sigstore):
    """The client. Nothing of it is read from disk or network but what the caller names."""

    def __init__(self) -> None:
        """Load the library.

        Raises:
            UsageError: ``missing-extra``: it is not installed.
        """
        try:
            import sigstore.sign  # noqa: PLC0415
            import sigstore.verify  # noqa: F401, PLC0415
        except ImportError as error:
            raise UsageError(
                f"the library of Sigstore is not here ({error})", code="missing-extra", hint=MISSING
            ) from error

    def _verify(self, artifact: Digest, bundle: bytes, trusted_root: bytes, identity: Identity) -> Verified:
        from sigstore.errors import Error  # noqa: PLC0415
        from sigstore.models import Bundle, TrustedRoot  # noqa: PLC0415
        from sigstore.verify import Verifier, policy  # noqa: PLC0415
        from sigstore_models.trustroot.v1 import TrustedRoot as Inner  # noqa: PLC0415

        try:
            read = Bundle.from_json(bundle)
            verifier = Verifier(trusted_root=TrustedRoot(Inner.from_json(trusted_root)))
            # A Fulcio writes the issuer in two extensions; newer ones may leave the older out.
            said = policy.AnyOf([policy.OIDCIssuerV2(identity.issuer), policy.OIDCIssuer(identity.issuer)])
            who = policy.AllOf([policy.Identity(identity=identity.subject), said])
            predicate_type = ""
            if read._dsse_envelope is None:  # noqa: SLF001 - the library tells it in no other way
                verifier.verify_artifact(_hashed(artifact), read, who)
            else:
                _, payload = verifier.verify_dsse(read, who)
                predicate_type = check_about(payload, artifact)
        except Error as error:
            raise VerificationError(
                f"Sigstore does not verify it: {' '.join(str(error).split())[:300]}",
                code="sigstore-refused",
                hint="do not use this file; compare identity, issuer and trusted root with whoever signed it",
            ) from error
        return Verified(
            index=read.log_entry._inner.log_index,  # noqa: SLF001
            valid_from=read.signing_certificate.not_valid_before_utc,
            predicate_type=predicate_type,
        )

    def _sign(self, artifact: Digest, trust_config: bytes, token: str) -> bytes:
        from sigstore.models import ClientTrustConfig  # noqa: PLC0415
        from sigstore.oidc import IdentityToken  # noqa: PLC0415
        from sigstore.sign import SigningContext  # noqa: PLC0415

        config = ClientTrustConfig.from_json(trust_config.decode("utf-8"))
        context = SigningContext.from_trust_config(config)
        _limit(context._fulcio.session)  # noqa: SLF001 - it sets no time limits
        _limit(getattr(context._rekor, "_session"))  # noqa: SLF001, B009 - of Rekor v1 and v2, and of no common type
        with context.signer(IdentityToken(token), cache=True) as signer:
            return signer.sign_artifact(_hashed(artifact)).to_json().encode("utf-8")

    def _timestamp(self, signature: bytes, url: str) -> bytes:
        from sigstore._internal.timestamp import TimestampAuthorityClient  # noqa: PLC0415

        return TimestampAuthorityClient(url).request_timestamp(signature).as_bytes()


def _limit(session: requests.Session) -> None:
    """Give every request of *session* a time limit: a service that hangs must not hang its caller."""
    import requests.adapters  # noqa: PLC0415

    class Limited(requests.adapters.HTTPAdapter):
        def send(self, *args: Any, **options: Any) -> requests.Response:
            options["timeout"] = options.get("timeout") or ANSWER_S
            return super().send(*args, **options)

    for scheme in ("https://", "http://"):
        session.mount(scheme, Limited())


def _hashed(artifact: Digest) -> Hashed:
    from sigstore.hashes import Hashed  # noqa: PLC0415
    from sigstore_models.common.v1 import HashAlgorithm  # noqa: PLC0415

    return Hashed(algorithm=HashAlgorithm.SHA2_256, digest=artifact.value)

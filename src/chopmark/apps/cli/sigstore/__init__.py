# SPDX-License-Identifier: Apache-2.0
"""``sigstore``: bundles v0.3, as cosign, sigstore-python and others read and write them."""

from __future__ import annotations

from typing import Final

import click

from chopmark.apps.cli.lazy import lazy_group

COMMANDS: Final = {
    "sign": ("sign:sign", "sign a file: with a key, or keyless"),
    "export": ("sign:export", "a signed statement or OMS bundle, as a Sigstore bundle"),
    "verify": ("verify:verify", "verify a file against its bundle, offline"),
    "trusted-root": ("root:trusted_root", "whom to trust: the log's key, for Sigstore's clients"),
}


@click.group(cls=lazy_group("chopmark.apps.cli.sigstore", COMMANDS))
def sigstore() -> None:
    """Sign and verify as Sigstore does, with a transparency log of your own.

    \b
    Example:
        chopmark sigstore sign model.onnx --key signer.pem --ledger
        chopmark sigstore trusted-root --out trusted_root.json
        chopmark sigstore verify model.onnx --trusted-root trusted_root.json --key signer.pub
        cosign verify-blob model.onnx --bundle model.onnx.sigstore.json --trusted-root trusted_root.json --key signer.pub

    Nothing is looked up in the network, but by --keyless and --tsa, at the addresses that you give.
    """

# SPDX-License-Identifier: Apache-2.0
"""Sigstore bundles v0.3, read and written. A second face, for tools: no device reads one.

model    what a bundle holds
wire     bytes <-> bundle, strictly
verify   is this artifact signed by this key? pure; the log's part is verified where the log's keys are known
ports    what needs Sigstore's own library: certificates of a Fulcio, timestamps, keyless signing
"""

from chopmark.statements.sigstore.model import Bundle, Certificates, KeyHint, MessageSignature
from chopmark.statements.sigstore.verify import Signed, bundle_of, check_about, read_certificates, verify_bundle
from chopmark.statements.sigstore.wire import BUNDLE_TYPE, MAX_BUNDLE_BYTES, decode_bundle, encode_bundle

__all__ = [
    "BUNDLE_TYPE",
    "MAX_BUNDLE_BYTES",
    "Bundle",
    "Certificates",
    "KeyHint",
    "MessageSignature",
    "Signed",
    "bundle_of",
    "check_about",
    "decode_bundle",
    "encode_bundle",
    "read_certificates",
    "verify_bundle",
]

# SPDX-License-Identifier: Apache-2.0
"""Sign and verify a model in a program or a notebook, with OpenSSF Model Signing bundles.

    chopmark.sign("model.onnx", key="packager.pem")
    chopmark.verify("model.onnx", key="packager.pub")

A model that is not what was signed raises; what is returned may be used. On a device use :func:`chopmark.load`: it also
knows approvals, revocations and rollbacks, and hands out the bytes that it checked.
"""

from __future__ import annotations

from chopmark.apps.signing.calls import Signed, Verified, sign, verify

__all__ = ["Signed", "Verified", "sign", "verify"]

# SPDX-License-Identifier: Apache-2.0
"""Sigstore's own library, and through it a Fulcio, a log and a timestamp authority."""

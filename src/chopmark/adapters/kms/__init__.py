# SPDX-License-Identifier: Apache-2.0
"""Signers: keys in a file today; HSMs and cloud KMSs as further files of this family."""

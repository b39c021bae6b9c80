# SPDX-License-Identifier: Apache-2.0
"""The operator: a loop around ``release.reconcile``, with real parts."""

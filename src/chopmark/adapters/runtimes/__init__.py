# SPDX-License-Identifier: Apache-2.0
"""Runtimes: what computes with a verified model."""

# SPDX-License-Identifier: Apache-2.0
"""Chopmark proves that the model on a device is the one that was trained, tested and approved."""

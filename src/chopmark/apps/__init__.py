# SPDX-License-Identifier: Apache-2.0
"""Applications: each has one wiring.py, the only place that names adapters."""

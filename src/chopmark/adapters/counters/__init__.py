# SPDX-License-Identifier: Apache-2.0
"""Counters that a copy of the disk does not turn back; most devices have none, and say so."""

# SPDX-License-Identifier: Apache-2.0
"""Memory that can be sealed: Linux memory files."""

# SPDX-License-Identifier: Apache-2.0
"""What holds for every test: generated examples have no deadline, since a busy machine is not a fault."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("chopmark", deadline=None, print_blob=True)
settings.load_profile("chopmark")

# SPDX-License-Identifier: Apache-2.0
"""How a test says which failure it expects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chopmark.errors import Refused


@contextmanager
def refuses(code: str, step: int) -> Iterator[pytest.ExceptionInfo[Refused]]:
    """Expect the failure *code* of *step*, and nothing but it."""
    with pytest.raises(Refused) as refused:
        yield refused
    assert (refused.value.code, refused.value.step) == (code, step)
    assert refused.value.message
    assert refused.value.hint

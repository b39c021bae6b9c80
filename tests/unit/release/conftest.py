# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from unit.release.kit import Shop


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop.found(tmp_path_factory.mktemp("founded"))


@pytest.fixture(scope="session")
def released(founded: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Two releases, the second with the first as its fallback."""
    shop = founded.copy(tmp_path_factory.mktemp("released"))
    first = shop.release("1").checked.release
    shop.release("2", fallbacks=(first.digest,))
    return shop


@pytest.fixture
def shop(founded: Shop, tmp_path: Path) -> Shop:
    return founded.copy(tmp_path)


@pytest.fixture
def busy(released: Shop, tmp_path: Path) -> Shop:
    return released.copy(tmp_path)

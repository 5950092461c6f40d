"""One server for the tests that do not need their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from running_server import Running, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Running]:
    with serving() as running:
        yield running

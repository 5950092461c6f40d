"""One server for all tests that do not need their own."""

from collections.abc import Iterator

import pytest
from running import Running, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Running]:
    with serving() as running:
        yield running

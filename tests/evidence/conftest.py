"""Places for logs: a file, and a real PostgreSQL."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from postgres import postgres, programs

NUMBERS = count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A PostgreSQL, started when first asked for."""
    if programs() is None:
        pytest.skip("PostgreSQL is not installed; .ci/run says how")
    with postgres() as url:
        yield url


@pytest.fixture
def new_database(server: str) -> Callable[[], str]:
    """Makes an empty database and returns its address."""

    def make() -> str:
        import psycopg

        name = f"log_{next(NUMBERS)}"
        with psycopg.connect(server.format(name="postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return server.format(name=name)

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty log, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/evidence.sqlite"
    made: str = request.getfixturevalue("new_database")()
    return made

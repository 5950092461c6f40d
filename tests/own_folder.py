"""Capabilities of tests, in a folder of one's own as a user would have it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from quipu.capabilities import VARIABLE

HERE = Path(__file__).parent


@contextmanager
def own_folder(folder: Path, *names: str) -> Iterator[None]:
    """While the block runs, ``folder`` has the capabilities ``names``, and is looked into."""
    for name in names:
        shutil.copy(HERE / f"{name}.py", folder)
    with mock.patch.dict(os.environ, {VARIABLE: str(folder)}):
        yield

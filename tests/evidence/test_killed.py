"""kill -9 at any moment of a measurement: what was acknowledged is there, the chain holds, the same command goes on."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from adding import Adding

from quipu.evidence.store import Store

MEASURING = Path(__file__).parent / "measuring.py"


def start(place: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": ":".join(path for path in sys.path if path)}
    return subprocess.Popen([sys.executable, str(MEASURING), place], stdout=subprocess.PIPE, text=True, env=environment)


def killed(place: str, chance: random.Random) -> int:
    """Kill a measurement after a while; how many probes it said to have kept, and those before it."""
    process = start(place)
    assert process.stdout is not None
    if chance.random() < 0.1:  # while it starts, makes its tables or opens them
        time.sleep(chance.uniform(0.3, 1.2))
        lines = []
    else:
        lines = [process.stdout.readline() for _ in range(chance.randint(1, 6))]
        time.sleep(chance.uniform(0, 0.01))
    os.kill(process.pid, signal.SIGKILL)
    rest, _ = process.communicate()
    said = "".join(lines) + rest
    return max((int(line) for line in said.split() if line != "opened"), default=0)


@pytest.mark.parametrize("times", [4, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_killed_while_measuring(times: int, place: str) -> None:
    chance = random.Random(times)
    acknowledged = 0
    for _ in range(times):
        acknowledged = max(acknowledged, killed(place, chance))
        with Store(place) as store:
            store.verify()
            entries = [entry.body for entry in store.entries() if entry.kind == "observation"]
            assert len(entries) >= acknowledged
    assert times == 4 or acknowledged > 20
    process = start(place)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert said.split()[-1] == "160"
    with Store(place) as store:
        store.verify()
        asked = Counter(entry.body["probe"] for entry in store.entries() if entry.kind == "observation")
        assert asked == {probe.id: 1 for probe in Adding().probes}  # nothing is asked twice
        assert store.rebuild().differed == ()

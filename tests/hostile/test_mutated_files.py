"""Thousands of mutated files: every one loads or is refused by an error of ours; none crashes, hangs or fills memory.

A failure names its kind and number; replay it with ``python -m hostile.worker SEEDS kind number`` in tests/, where
SEEDS is what ``hostile.seeds.write_seeds`` wrote.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hostile.seeds import seeds, write_seeds

TESTS = Path(__file__).parents[1]
KINDS = tuple(seeds(Path()))
IN_THE_GATE, IN_ALL = 25, 1000


@pytest.fixture(scope="session")
def seed_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    write_seeds(folder)
    return folder


def outcomes_of(cases, folder):
    """(case, result) of each; a case during which the process ended has its last words instead of an outcome."""
    cases = list(cases)
    found = []
    while len(found) < len(cases):
        rest = cases[len(found) :]
        path = os.pathsep.join([str(TESTS), str(TESTS.parent / "src"), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-m", "hostile.worker", str(folder)],
            input="".join(f"{kind} {number}\n" for kind, number in rest),
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert lines, done.stderr
        results = [line for line in lines if "outcome" in line]
        found += zip(rest, results, strict=False)
        if len(results) < len(rest):
            words = f"the process ended with {done.returncode}: {done.stderr[-3000:]}"
            found.append((rest[len(results)], {"outcome": words, "growth": 0, "seconds": 0.0}))
    return found


def check(found):
    report = Counter(f"{kind}: {result['outcome'].splitlines()[-1][:90]}" for (kind, _), result in found)
    print(json.dumps(report, indent=1))
    print("most memory:", max((result["growth"] >> 20, case) for case, result in found), "MiB")
    print("longest:", max((result["seconds"], case) for case, result in found), "s")
    bad = [
        f"{kind} {number}: {result['outcome']}"
        for (kind, number), result in found
        if result["outcome"] != "loaded" and not result["outcome"].startswith("refused: ")
    ]
    assert not bad, f"{len(bad)} of {len(found)}\n" + "\n".join(bad[:20])


def test_a_few_hundred_of_every_kind(seed_folder):
    found = outcomes_of(((kind, number) for kind in KINDS for number in range(IN_THE_GATE)), seed_folder)
    check(found)
    ends = {result["outcome"] for _, result in found}
    assert {"loaded", "refused: DamagedCheckpoint", "refused: UnsupportedCheckpoint"} <= ends


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_of_one_kind(kind, seed_folder):
    check(outcomes_of(((kind, number) for number in range(IN_THE_GATE, IN_ALL)), seed_folder))

"""What attacks leave behind in the memory of a server over a real model."""

from __future__ import annotations

import sys
import time

import attacks
import pytest
from attacked_server import eventually, serving_process

MEGABYTE = 2**20
MODEL = "smollm2-135m-instruct"


@pytest.mark.slow
def test_memory_of_the_real_model_levels_off() -> None:
    """The first attacks fill the cache and the heap as far as the plan has it; the same ones again add nothing."""
    program = [sys.executable, "-c", "import sys; from quipu.cli import main; sys.exit(main())"]
    levels = []
    with serving_process([*program, "serve", MODEL, "--port", "0", "--log-format", "none"], MODEL) as server:
        for turn in range(3):
            assert server.attack(attacks.flood_of_requests, 150, 150).result()["statuses"] == {200: 150}
            server.attack(attacks.disconnects, 100, turn).result()
            for name in ("many words", "emoji", "a long message"):
                server.attack(attacks.body, name, 8 * MEGABYTE - 1000).result()
            for name in ("token ids", "biases", "messages"):
                server.attack(attacks.many_values, name, at_once=8).result()
            server.attack(attacks.longest_prompts, prompts=1, tokens=2000, at_once=8).result()
            eventually(lambda: server.idle)
            time.sleep(6)  # until what is free has been given back
            levels.append(server.memory)
    assert levels[-1] - levels[-2] < 96 * MEGABYTE, levels

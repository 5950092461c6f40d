"""Schema bombs and compile storms: sixteen others stream as they did before, and every bomb is answered."""

import multiprocessing
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest
import storm
from attacked_server import serving_process

SECONDS = 12
PROGRAM = [sys.executable, "-c", "import sys; from quipu.cli import main; sys.exit(main())"]
# One thread computes, so that on a machine of two cores it is not the clients and the bombs' processes that take its
# processor away: what is measured is how the server holds up its own work.
OPTIONS = ["--threads", "1", "--context", "512", "--kv-memory", "1", "--concurrency", "20", "--log-format", "none"]


def p99(found):
    return statistics.quantiles(found, n=100)[98]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_storm_of_bombs_moves_nobodys_p99(smollm2_file):
    command = [*PROGRAM, "serve", str(smollm2_file), "--name", "real", "--port", "0", *OPTIONS]
    context = multiprocessing.get_context("spawn")
    with (
        serving_process(command, "real") as server,
        ProcessPoolExecutor(1, mp_context=context, initializer=storm.prefer) as clients,
    ):
        calm = p99(clients.submit(storm.gaps, server.port, "real", 16, SECONDS).result())
        thrown = server.attack(storm.throw, list(storm.BOMBS), 8, SECONDS)
        stormy = p99(clients.submit(storm.gaps, server.port, "real", 16, SECONDS).result())
        answers = thrown.result()
    print(f"p99 {calm * 1000:.1f} ms, {stormy * 1000:.1f} ms under {answers}")
    assert {status for _, status in answers} <= {200, 400, 429, 503}
    assert {kind for kind, _ in answers} == set(storm.BOMBS)
    assert stormy < 2 * calm

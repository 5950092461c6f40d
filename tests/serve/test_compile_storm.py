"""Schema bombs and compile storms: sixteen others stream as they did before, and every bomb is answered."""

import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from running_server import serving

import quipu

SECONDS = 12
BOMBS = [
    {"allOf": [{"type": "string", "pattern": f"a{{{count}}}.*b"} for count in range(30)]},
    {"type": "string", "pattern": "^(.*a){1,200}(b|c){1,200}$"},
    {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(5_000)}},
    {"type": "integer", "multipleOf": 1_234_577},
    {"anyOf": [{"properties": {f"p{number}": {"type": "string", "pattern": f"x{number}.*"}}} for number in range(300)]},
]


def asked(number, **fields):
    return {"model": "real", "messages": [{"role": "user", "content": f"Count from {number}."}], **fields}


def gaps(url, number, until):
    """Seconds between the pieces of one stream after another."""
    found = []
    with httpx.Client(base_url=url, timeout=60) as client:
        while time.monotonic() < until:
            body = asked(number, stream=True, max_tokens=120, ignore_eos=True, temperature=1, seed=number)
            with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                last = None
                for line in answer.iter_lines():
                    if '"content":' in line:
                        now = time.perf_counter()
                        found += [now - last] if last is not None else []
                        last = now
    return found


def p99(url):
    until = time.monotonic() + SECONDS
    with ThreadPoolExecutor(16) as pool:
        found = [gap for each in pool.map(lambda number: gaps(url, number, until), range(16)) for gap in each]
    return statistics.quantiles(found, n=100)[98], len(found)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_storm_of_bombs_moves_nobodys_p99(smollm2_file):
    with (
        quipu.load(smollm2_file, context=512, kv_memory=1, concurrency=20) as model,
        serving({"real": model}) as server,
    ):
        calm, pieces = p99(server.url)
        over = threading.Event()
        answers = []

        def throw(number):
            with httpx.Client(base_url=server.url, timeout=60) as client:
                count = 0
                while not over.is_set():
                    count += 1
                    schema = {**BOMBS[count % len(BOMBS)], "title": f"{number} {count}"}
                    form = {"type": "json_schema", "json_schema": {"name": "bomb", "schema": schema}}
                    answer = client.post("/v1/chat/completions", json=asked(0, response_format=form, max_tokens=1))
                    answers.append(answer.status_code)

        with ThreadPoolExecutor(8) as pool:
            storm = [pool.submit(throw, number) for number in range(8)]
            stormy, more = p99(server.url)
            over.set()
            for each in storm:
                each.result(60)
        print(f"p99 {calm * 1000:.1f} ms of {pieces} gaps, {stormy * 1000:.1f} ms of {more} in {len(answers)} bombs")
        assert set(answers) <= {200, 400, 429, 503}
        assert len(answers) > 10
        assert stormy < 2 * calm

"""Ours beside llama.cpp and transformers on one machine, one file, in one run, in turn.

    make bench                      or      python bench/cpu.py --rounds 5 --markdown

Every engine lives in a process of its own and is asked in turn, so that a busy minute hits all of them. Figures are
medians over the rounds.

    pp512   prompt tokens per second: 512 tokens from an empty cache, logits of the last one only
    tg128   tokens per second of one sequence: 128 single-token steps after 64, no sampling, no tokenizing
    tg x16  the same for 16 sequences at once, summed
    TTFT    seconds from the request to the first token of a 512-token prompt (= 512 / pp512 + one step, measured)
    start   seconds from starting the process to the first token of a five-word question, weights on disk
    memory  peak resident set of the engine's process, MiB (file pages that are mapped count)
    GB/s    bytes of weights that one token must read, times tg128; % of the memory bandwidth measured in this run

Quality beside speed, over a fixed text against float32 arithmetic on the dequantised weights: KL divergence of the
next-token distribution (nats, mean), share of places with the same most likely token, perplexity.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

THREADS = len(os.sched_getaffinity(0))
MODEL = "smollm2-135m-instruct"
QUESTION = "What is the capital of France?"
TEXT = (
    "The quipu was a method used by the Incas and other Andean cultures to keep records and communicate information "
    "using string and knots. In the absence of an alphabetic writing system, this simple and highly portable device "
    "achieved a surprising degree of precision and flexibility. Using a wide variety of colours, strings, and "
    "sometimes several hundred knots all tied in various ways at various heights, quipus could record dates, "
    "statistics, accounts, and even represent, in abstract form, key episodes from traditional folk stories and "
    "poetry. The llama, whose wool many of them were made of, was domesticated in Peru some four thousand years ago."
)


class Ours:
    """quipu, as it serves by default."""

    def __init__(self, path: str) -> None:
        import quipu

        self.model = quipu.load(path, concurrency=16, threads=THREADS)
        self.runner = self.model.engine._runner

    def tokens(self, text: str) -> list[int]:
        return self.model.tokenizer.encode(text)

    def step(self, sequences: list[tuple[int, list[int], int]], every: bool = False) -> list[np.ndarray]:
        from quipu.engine.runner import Span

        return self.runner.step(
            [
                Span(tokens, start, range(number * 64, number * 64 + 64), "all" if every else "last")
                for number, tokens, start in sequences
            ]
        )

    def forget(self) -> None:
        """Positions are given with every step; what an earlier round left is overwritten."""

    def answer(self, question: str) -> None:
        next(self.model.stream([{"role": "user", "content": question}], temperature=0))

    weight_bytes = 134_515_008 * 2


class LlamaCpp:
    """llama.cpp through llama-cpp-python, the file as it is."""

    def __init__(self, path: str) -> None:
        import llama_cpp

        self.api = llama_cpp
        self.model = llama_cpp.Llama(path, n_ctx=1024, n_threads=THREADS, n_threads_batch=THREADS, verbose=False)
        # The class knows one sequence only; a context of its own takes sixteen.
        options = llama_cpp.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch, options.n_seq_max = 16 * 1024, 512, 512, 16
        options.n_threads = options.n_threads_batch = THREADS
        self.context = llama_cpp.llama_init_from_model(self.model.model, options)
        self.vocabulary = self.model.n_vocab()
        self.batch = llama_cpp.llama_batch_init(512, 0, 1)

    def tokens(self, text: str) -> list[int]:
        return self.model.tokenize(text.encode(), add_bos=False, special=False)

    def step(self, sequences: list[tuple[int, list[int], int]], every: bool = False) -> list[np.ndarray]:
        batch, place = self.batch, 0
        wanted = []
        for number, tokens, start in sequences:
            for offset, token in enumerate(tokens):
                batch.token[place], batch.pos[place] = token, start + offset
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, number
                last = offset == len(tokens) - 1
                batch.logits[place] = every or last
                if every or last:
                    wanted.append(place)
                place += 1
        batch.n_tokens = place
        if self.api.llama_decode(self.context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        rows = [
            np.ctypeslib.as_array(self.api.llama_get_logits_ith(self.context, each), (self.vocabulary,)).copy()
            for each in wanted
        ]
        return [np.stack(rows)] if every else [row[None] for row in rows]

    def forget(self) -> None:
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)

    def answer(self, question: str) -> None:
        next(self.model.create_chat_completion([{"role": "user", "content": question}], temperature=0, stream=True))

    weight_bytes = 97_000_000


class Transformers:
    """transformers in bfloat16 with the dequantised weights, its usual way on a CPU."""

    def __init__(self, path: str) -> None:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        from quipu.model.checkpoint import open_checkpoint

        torch.set_num_threads(THREADS)
        checkpoint = open_checkpoint(path)
        config = checkpoint.config
        with torch.device("meta"):
            model = LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=config.vocabulary,
                    hidden_size=config.hidden_size,
                    intermediate_size=config.intermediate_size,
                    num_hidden_layers=config.layers,
                    num_attention_heads=config.heads,
                    num_key_value_heads=config.kv_heads,
                    head_dim=config.head_size,
                    max_position_embeddings=config.context_length,
                    rms_norm_eps=config.norm_epsilon,
                    tie_word_embeddings=config.tied_embeddings,
                    rope_parameters={"rope_type": "default", "rope_theta": config.rope.theta},
                )
            )
        rotary = type(model.model.rotary_emb)(model.config)
        weights = {name: torch.from_numpy(each.float32()).bfloat16() for name, each in checkpoint.tensors.items()}
        model.load_state_dict(weights, strict=False, assign=True)
        model.model.rotary_emb = rotary
        model.tie_weights()
        self.torch, self.model, self.caches = torch, model.eval(), {}
        from quipu.model.tokenizer import Tokenizer

        self.tokenizer = Tokenizer.from_gguf(checkpoint.metadata)

    def tokens(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def step(self, sequences: list[tuple[int, list[int], int]], every: bool = False) -> list[np.ndarray]:
        with self.torch.inference_mode():
            ids = self.torch.tensor([tokens for _, tokens, _ in sequences])
            cache = self.caches.get(len(sequences))
            result = self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=0 if every else 1)
            self.caches[len(sequences)] = result.past_key_values
            return list(result.logits.float().numpy())

    def forget(self) -> None:
        self.caches.clear()

    def answer(self, question: str) -> None:
        self.step([(0, self.tokens(question), 0)])

    weight_bytes = 134_515_008 * 2


ENGINES = {"quipu": Ours, "llama.cpp": LlamaCpp, "transformers": Transformers}


def prompt_rate(engine) -> float:
    tokens = [1000 + place * 37 % 20000 for place in range(512)]
    engine.forget()
    start = time.perf_counter()
    engine.step([(0, tokens, 0)])
    return 512 / (time.perf_counter() - start)


def first_token(engine) -> float:
    tokens = [1000 + place * 53 % 20000 for place in range(512)]
    engine.forget()
    start = time.perf_counter()
    token = int(engine.step([(0, tokens, 0)])[0][-1].argmax())
    elapsed = time.perf_counter() - start
    assert token >= 0
    return elapsed


def decode_rate(engine, sequences: int, steps: int) -> float:
    engine.forget()
    engine.step([(number, list(range(1000, 1064)), 0) for number in range(sequences)][:8])
    if sequences > 8:
        engine.step([(number, list(range(1000, 1064)), 0) for number in range(8, sequences)])
    start = time.perf_counter()
    for step in range(steps):
        engine.step([(number, [2000 + (step * 7 + number) % 900], 64 + step) for number in range(sequences)])
    return sequences * steps / (time.perf_counter() - start)


def batched_rate(engine) -> float:
    if isinstance(engine, Transformers):  # its batch is one cache: prefill all sixteen together
        engine.forget()
        engine.step([(number, list(range(1000, 1064)), 0) for number in range(16)])
        start = time.perf_counter()
        for step in range(32):
            engine.step([(number, [2000 + (step * 7 + number) % 900], 64 + step) for number in range(16)])
        return 16 * 32 / (time.perf_counter() - start)
    return decode_rate(engine, 16, 32)


def peak_memory(_engine) -> float:
    # Not getrusage: its maximum includes the parent that this process was forked from.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


MEASURES = {
    "pp512": prompt_rate,
    "tg128": lambda engine: decode_rate(engine, 1, 128),
    "tg x16": batched_rate,
    "TTFT": first_token,
    "memory": peak_memory,
}


def serve_measurements(name: str, path: str) -> None:
    """The child's side: one JSON line per question on standard input."""
    start = time.perf_counter()
    engine = ENGINES[name](path)
    print(json.dumps({"load": time.perf_counter() - start}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["measure"] == "logits":
            engine.forget()
            rows = engine.step([(0, asked["tokens"], 0)], every=True)[0]
            np.save(asked["file"], rows)
            print(json.dumps({"value": 0}), flush=True)
        elif asked["measure"] == "tokens":
            print(json.dumps({"value": engine.tokens(TEXT)}), flush=True)
        else:
            print(json.dumps({"value": MEASURES[asked["measure"]](engine)}), flush=True)


class Child:
    def __init__(self, name: str, path: str) -> None:
        command = [sys.executable, __file__, "--child", name, "--model", path]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.load = json.loads(self.process.stdout.readline())["load"]

    def ask(self, measure: str, **more):
        self.process.stdin.write(json.dumps({"measure": measure, **more}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())["value"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def start_to_first_token(name: str, path: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, __file__, "--answer", name, "--model", path], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def bandwidth() -> float:
    """GB/s that all threads together read: the sum of 1 GiB of float32, best of five."""
    import torch

    torch.set_num_threads(THREADS)
    data = torch.ones(1 << 28)
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        data.sum()
        best = max(best, data.nbytes / (time.perf_counter() - start) / 1e9)
    return best


def quality(rows: np.ndarray, reference: np.ndarray, tokens: list[int]) -> dict[str, float]:
    def log_softmax(values: np.ndarray) -> np.ndarray:
        values = values.astype(np.float64) - values.max(-1, keepdims=True)
        return values - np.log(np.exp(values).sum(-1, keepdims=True))

    ours, theirs = log_softmax(rows), log_softmax(reference)
    places = np.arange(len(tokens) - 1)
    return {
        "KL": float((np.exp(theirs) * (theirs - ours)).sum(-1).mean()),
        "same top": float((ours.argmax(-1) == theirs.argmax(-1)).mean()),
        "perplexity": float(np.exp(-ours[places, tokens[1:]].mean())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="a GGUF file (default: the demonstration model)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engines", default=",".join(ENGINES), help="comma-separated")
    parser.add_argument("--json", action="store_true", help="all figures of all rounds")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--answer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    from quipu.model.checkpoint import resolve

    path = str(resolve(arguments.model or MODEL))
    if arguments.child:
        return serve_measurements(arguments.child, path)
    if arguments.answer:
        ENGINES[arguments.answer](path).answer(QUESTION)
        os._exit(0)  # the first token is out; how long a process takes to end is not the question
    return report(measure(path, arguments.engines.split(","), arguments.rounds), arguments.json)


def measure(path: str, names: list[str], rounds: int) -> dict:
    found: dict = {"bandwidth": bandwidth(), "threads": THREADS, "engines": {}}
    figures: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for _ in range(rounds):
        for name in names:
            figures[name].setdefault("start", []).append(start_to_first_token(name, path))
    children = {name: Child(name, path) for name in names}
    for _ in range(rounds + 1):  # the first warms up
        for key in MEASURES:
            for name, child in children.items():
                figures[name].setdefault(key, []).append(child.ask(key))
    for name, child in children.items():
        for key in MEASURES:
            figures[name][key] = figures[name][key][1:]
        figures[name]["load"] = [child.load]
    found["quality"] = measure_quality(children, path)
    for child in children.values():
        child.close()
    found["engines"] = figures
    return found


def measure_quality(children: dict[str, Child], path: str) -> dict[str, dict[str, float]]:
    import quipu

    with quipu.load(path, concurrency=1, context=1024) as model:
        tokens = model.tokenizer.encode(TEXT)
        reference = model.logits(tokens)
    results = {"float32": quality(reference, reference, tokens)}
    with tempfile.TemporaryDirectory() as folder:
        for name, child in children.items():
            file = str(Path(folder) / "rows.npy")
            child.ask("logits", tokens=tokens, file=file)
            results[name] = quality(np.load(file), reference, tokens)
    return results


def report(found: dict, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, indent=1))
        return
    medians = {
        name: {key: statistics.median(values) for key, values in each.items()}
        for name, each in found["engines"].items()
    }
    print(f"{found['threads']} threads; memory bandwidth {found['bandwidth']:.1f} GB/s (read, measured in this run)\n")
    print(
        "| | pp512 tok/s | tg128 tok/s | tg x16 tok/s | TTFT s | load s | start s | memory MiB | GB/s (of bandwidth) |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, row in medians.items():
        rate = ENGINES[name].weight_bytes * row["tg128"] / 1e9
        print(
            f"| {name} | {row['pp512']:.0f} | {row['tg128']:.1f} | {row['tg x16']:.0f} | {row['TTFT']:.2f} "
            f"| {row['load']:.1f} | {row['start']:.1f} | {row['memory']:.0f} "
            f"| {rate:.1f} ({100 * rate / found['bandwidth']:.0f} %) |"
        )
    print("\n| quipu / peer | pp512 | tg128 | tg x16 |\n|---|---|---|---|")
    for name, row in medians.items():
        if name != "quipu" and "quipu" in medians:
            ratios = [f"{medians['quipu'][key] / row[key]:.2f}" for key in ("pp512", "tg128", "tg x16")]
            print(f"| {name} | {' | '.join(ratios)} |")
    print("\n| quality | KL (nats) | same top token | perplexity |\n|---|---|---|---|")
    for name, row in found["quality"].items():
        print(f"| {name} | {row['KL']:.2e} | {100 * row['same top']:.1f} % | {row['perplexity']:.3f} |")


if __name__ == "__main__":
    main()

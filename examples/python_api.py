"""Several questions at once, in this process: threads share one batch.

python examples/python_api.py [MODEL]
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import quipu

QUESTIONS = ["What is the capital of Japan?", "What is the chemical symbol for water?", "Why is the sky blue?"]


def main(name: str = "smollm2-135m-instruct") -> None:
    with quipu.load(name) as model:
        print(f"{model.facts.name}: {model.facts.parameters:,} parameters, {model.context_length} tokens of context")

        def ask(question: str) -> quipu.Completion:
            return model.chat(question, temperature=0, max_tokens=60)

        with ThreadPoolExecutor() as threads:
            for question, answer in zip(QUESTIONS, threads.map(ask, QUESTIONS), strict=True):
                print(f"> {question}\n{answer}\n  [{answer.finish_reason}, {answer.usage.completion_tokens} tokens]")

        print("> Once upon a time", end="")
        for chunk in model.stream("Once upon a time", seed=1, max_tokens=40):
            print(chunk, end="", flush=True)
        print()


if __name__ == "__main__":
    main(*sys.argv[1:])

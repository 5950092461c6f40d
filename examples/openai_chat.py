"""A conversation through the official OpenAI package. Start the server first: make serve

    python examples/openai_chat.py

OPENAI_BASE_URL points it elsewhere, as usual with that package.
"""

import os

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"), api_key="none")
model = client.models.list().data[0].id

messages = []
for question in ("What is the capital of Japan?", "And of Italy?"):
    messages.append({"role": "user", "content": question})
    print(f"> {question}")
    answer = ""
    with client.chat.completions.create(
        model=model,
        messages=messages,
        temperature=0,
        max_tokens=60,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        for chunk in stream:
            for choice in chunk.choices:
                answer += choice.delta.content or ""
                print(choice.delta.content or "", end="", flush=True)
            if chunk.usage:
                cached = chunk.usage.prompt_tokens_details.cached_tokens
                print(f"\n  [{cached} of {chunk.usage.prompt_tokens} prompt tokens were in the cache]")
    messages.append({"role": "assistant", "content": answer})

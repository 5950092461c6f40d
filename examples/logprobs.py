"""How likely does a model find a sentence? Scores texts through /v1/completions, generating nothing.

Start the server first (make serve), then: python examples/logprobs.py
"""

import math
import os

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"), api_key="none")
model = client.models.list().data[0].id

texts = ["The capital of France is Paris.", "The capital of France is cheese."]
scored = client.completions.create(model=model, prompt=texts, max_tokens=0, echo=True, logprobs=0)
for text, choice in zip(texts, scored.choices, strict=True):
    # The first token has no log-probability: nothing predicts it.
    known = [each for each in choice.logprobs.token_logprobs if each is not None]
    print(f"{sum(known):8.2f} nats, perplexity {math.exp(-sum(known) / len(known)):8.1f}: {text}")

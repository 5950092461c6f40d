"""How a model runs: scheduling, the paged KV cache, sampling, and the runners that compute logits."""

"""How a model is reached: the OpenAI-compatible HTTP server."""

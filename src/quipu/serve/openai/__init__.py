"""The routes that the OpenAI API has, and vLLM's /tokenize and /detokenize beside them."""

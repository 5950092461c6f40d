"""The routes that Ollama has, so that tools built for it work by switching the address."""

"""quipu: run, serve, tune and compare Llama models on your own machine."""

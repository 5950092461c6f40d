"""How models are told apart: by measuring what they can do."""

"""What a card may say of a model: the names of facts, which are also predicates of claims."""

from __future__ import annotations

from collections.abc import Mapping

FACTS: Mapping[str, str] = {
    "type": "what it is",
    "maker": "who made it",
    "architecture": "the class that its configuration names",
    "network": "kind of network",
    "parameters": "parameters, a tied embedding counted once",
    "active_parameters": "parameters that one token passes through",
    "layers": "layers",
    "hidden_size": "hidden size",
    "heads": "attention heads",
    "kv_heads": "heads of keys and values",
    "head_size": "size of a head",
    "intermediate_size": "feed-forward size",
    "vocabulary": "tokens in the vocabulary",
    "embedding": "which embedding is used for which text",
    "tied_embeddings": "whether the output is the embedding",
    "context_length": "context in tokens",
    "rope_original_context": "context that the rotary scaling starts from",
    "attention": "kinds of attention",
    "attention_chunk": "tokens that chunked layers look back within",
    "full_attention_layers": "layers that look at the whole context",
    "experts": "experts of a layer",
    "experts_per_token": "routed experts that one token goes to",
    "moe_layers": "layers with experts",
    "separate_vision_encoder": "whether images pass an encoder of their own first",
    "image_fusion": "where images join the text",
    "input": "what it reads",
    "output": "what it writes",
    "languages": "languages its makers support",
    "training": "steps of its training that are published",
    "generation": "how text is generated",
    "decoding": "decoding options that apply to it",
    "conversation": "how a conversation is given to it",
    "state_between_calls": "whether it keeps anything between calls",
    "formats": "formats it is published in",
    "weights": "whether its weights can be downloaded",
    "license_allows": "what its licence allows",
    "license_demands": "what its licence demands or withholds",
    "free_endpoint": "whether someone serves it free of charge",
    "endpoints": "who serves it",
    "streaming": "how endpoints stream its answers",
    "released": "day of release",
    "knowledge_cutoff": "end of its training data",
}
"""What each is, in a few words."""

OPEN = ("training", "endpoints", "streaming", "formats", "license_allows", "license_demands", "decoding")
"""Lists that publish some and need not be all: what is missing there is not known to be false."""

"""What a Llama is, in numbers: one frozen ModelConfig, whichever file it was read from.

``config_huggingface``, ``config_meta`` and ``config_gguf`` read it; foreign configurations stop there.
"""

from __future__ import annotations

from dataclasses import dataclass

from quipu.errors import DamagedCheckpoint
from quipu.model.fields import Fields
from quipu.model.frequencies import Rope

# Bounds far above every published Llama. They keep a nonsense file from making a loop or an allocation endless.
MOST_VOCABULARY = 1 << 24
MOST_WIDTH = 1 << 20
MOST_LAYERS = 1 << 12
MOST_VISION_LAYERS = 1 << 10
MOST_HEADS = 1 << 12
MOST_HEAD_SIZE = 1 << 12
MOST_EXPERTS = 1 << 12
MOST_EXPERTS_IN_ALL = 1 << 16
MOST_CONTEXT = 1 << 31

LLAMA4_PATCH = 200092
"""Llama 4's token for a part of a picture, where a file does not say it."""

USE_LLAMA = "use a Llama-architecture checkpoint (Llama 3.x, Llama 4, SmolLM2 and the like)"
UNQUANTISED = "use the unquantised checkpoint, or a GGUF file (Q4_0 to Q8_0, Q4_K to Q6_K)"


@dataclass(frozen=True, slots=True)
class Experts:
    """Mixture of experts: in each of ``layers`` a router sends a token to ``active`` of ``count`` experts.

    A shared expert takes every token beside them. All are ``intermediate_size`` wide.
    """

    count: int
    active: int
    intermediate_size: int
    layers: frozenset[int]


@dataclass(frozen=True, slots=True)
class Temperature:
    """How much sharper layers without rotation attend far into a text: queries at position p, counted from 0, are
    multiplied by 1 + ``scale`` ln(1 + floor((p + 1) / ``floor``))."""

    floor: float
    scale: float


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """The encoder of a Llama 4 that sees. Tiles of ``tile_size`` pixels a side are cut into patches.

    An adapter, ``adapter_size`` wide, makes one vector of ``shuffle`` x ``shuffle`` patches. ``patch_token`` is the id
    that stands in a prompt for each of them.
    """

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    tile_size: int
    patch_size: int
    adapter_size: int
    shuffle: int
    rope_theta: float
    patch_token: int

    @property
    def patches_a_side(self) -> int:
        """Of a tile, each way."""
        return self.tile_size // self.patch_size

    @property
    def tile_tokens(self) -> int:
        """Tokens that a tile takes in a prompt."""
        return (self.patches_a_side // self.shuffle) ** 2


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of one decoder. ``head_size`` need not be ``hidden_size / heads``.

    What follows ``tied_embeddings`` is Llama 4's; the defaults are a dense Llama. ``intermediate_size`` is that of
    dense layers. ``nope_layers`` rotate nothing and attend to everything before a token; in the others, if ``chunk``
    is given, a token attends only to its own chunk of so many positions. ``pair_rotation``: a head's elements
    (2t, 2t + 1) are rotated together, not (t, t + head_size / 2). ``query_key_norm``: rotated queries and keys are
    divided by their root mean square, head by head. ``temperature`` is of ``nope_layers``. ``vision``: what it
    sees with.
    """

    architecture: str
    vocabulary: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    context_length: int
    norm_epsilon: float
    rope: Rope
    tied_embeddings: bool
    experts: Experts | None = None
    nope_layers: frozenset[int] = frozenset()
    chunk: int | None = None
    pair_rotation: bool = False
    query_key_norm: bool = False
    temperature: Temperature | None = None
    vision: VisionConfig | None = None

    def has_experts(self, layer: int) -> bool:
        """Whether the layer routes tokens to experts."""
        return self.experts is not None and layer in self.experts.layers

    def layer_chunk(self, layer: int) -> int | None:
        """Positions of a chunk that the layer's attention does not look out of; None where it sees everything."""
        return None if layer in self.nope_layers else self.chunk

    def kept_positions(self, tokens: int) -> int:
        """Of a text of so many, over all layers: those whose keys and values a later token may read, at most."""
        chunked = sum(self.layer_chunk(layer) is not None for layer in range(self.layers))
        return (self.layers - chunked) * tokens + chunked * min(tokens, self.chunk or tokens)


def consistent(config: ModelConfig, source: str) -> ModelConfig:
    """``config``, if its numbers fit together. Raises DamagedCheckpoint about ``source``."""
    if config.heads % config.kv_heads:
        raise DamagedCheckpoint(
            f"{source}: {config.heads} attention heads cannot share {config.kv_heads} key-value heads evenly; "
            "correct the head counts"
        )
    if config.head_size % 2:
        raise DamagedCheckpoint(f"{source}: head size {config.head_size} is odd, rotary embedding needs pairs")
    if config.experts is not None and config.experts.count * len(config.experts.layers) > MOST_EXPERTS_IN_ALL:
        raise DamagedCheckpoint(
            f"{source}: {config.experts.count} experts in each of {len(config.experts.layers)} layers are more than "
            f"{MOST_EXPERTS_IN_ALL}, which is not plausible; download the file again or correct it"
        )
    divisors = config.rope.divisors
    if divisors is not None:
        if len(divisors) != config.head_size // 2:
            raise DamagedCheckpoint(
                f"{source}: rope_freqs.weight has {len(divisors)} values, expected {config.head_size // 2}"
            )
        if not all(1e-6 < divisor < 1e6 for divisor in divisors):
            raise DamagedCheckpoint(f"{source}: rope_freqs.weight must hold numbers between 1e-6 and 1e6")
    return config


def consistent_vision(config: VisionConfig, source: str) -> VisionConfig:
    """``config``, if its numbers fit together. Raises DamagedCheckpoint about ``source``."""
    wrong = None
    if config.shuffle < 1:
        wrong = f"the ratio of pixel shuffle is not from 1 / {MOST_WIDTH} to 1"
    elif config.tile_size % (config.patch_size * config.shuffle):
        wrong = f"tiles of {config.tile_size} are not whole blocks of {config.shuffle} patches of {config.patch_size}"
    elif config.hidden_size % (4 * config.heads):
        wrong = f"{config.heads} heads of {config.hidden_size} columns do not have whole pairs for rows and columns"
    if wrong is not None:
        raise DamagedCheckpoint(f"{source}: {wrong}; correct the configuration")
    return config


def shuffle_of(ratio: float) -> int:
    """Patches, in each direction, that a pixel shuffle of ``ratio`` makes one vector of; 0 for what is no ratio."""
    return round(1 / ratio) if 1 / MOST_WIDTH <= ratio <= 1 else 0


def head_size(fields: Fields, given: str, hidden: int, heads: int) -> int:
    """The field ``given``, else ``hidden`` over ``heads``."""
    if fields.get(given) is not None:
        return fields.integer(given, most=MOST_HEAD_SIZE)
    if hidden % heads:
        fields.damaged(given, f"is missing and width {hidden} is not a multiple of {heads} heads")
    return hidden // heads


def every(interval: int | None, layers: int) -> frozenset[int]:
    """Of ``layers`` layers each ``interval``-th, the first of them number ``interval - 1``; none for None."""
    return frozenset() if interval is None else frozenset(range(interval - 1, layers, interval))

"""Llama 4's eyes: tiles of a picture -> vectors that stand in a prompt where tokens would.

Meta 2025, after the vision transformer (Dosovitskiy et al. 2021): patches, bidirectional attention with rotary
embedding in two dimensions, and an adapter that makes one vector of each 2 x 2 patches. N tiles of P patches,
C channels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from quipu.model.config import VisionConfig
from quipu.model.decoder import Loader
from quipu.model.frequencies import vision_angles

NORM_EPSILON = 1e-5
"""Of every layer norm, whatever the configuration says."""


class LayerNorm(nn.Module):
    """Ba et al. 2016, with bias."""

    def __init__(self, name: str, load: Loader) -> None:
        super().__init__()
        self.weight = nn.Parameter(load(name), requires_grad=False)
        self.bias = nn.Parameter(load.bias(name), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, NORM_EPSILON)


class BiasedLinear(nn.Module):
    """x @ weight.T + bias."""

    def __init__(self, load: Loader, *names: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(load(*names), requires_grad=False)
        self.bias = nn.Parameter(load.bias(*names), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return functional.linear(x, self.weight, self.bias)


class VisionLayer(nn.Module):
    """One block: x += attention(norm(x)); x += mlp(norm(x))."""

    def __init__(self, config: VisionConfig, load: Loader) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention_norm = LayerNorm("input_layernorm", load)
        self.query_key_value = BiasedLinear(load, "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        self.attention_output = BiasedLinear(load, "self_attn.o_proj")
        self.feed_forward_norm = LayerNorm("post_attention_layernorm", load)
        self.up, self.down = BiasedLinear(load, "mlp.fc1"), BiasedLinear(load, "mlp.fc2")

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """[N, P + 1, C] -> the same; cosines and sines [P + 1, head size / 2]."""
        heads = self.query_key_value(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = (each.transpose(1, 2) for each in heads.unbind(2))
        query, key = (_rotated(each, cosines, sines) for each in (query, key))
        attended = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = x + self.attention_output(attended)
        output: Tensor = x + self.down(functional.gelu(self.up(self.feed_forward_norm(x))))
        return output


def _rotated(heads: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    even, odd = heads.float().unflatten(-1, (-1, 2)).unbind(-1)
    pairs = torch.stack((even * cosines - odd * sines, odd * cosines + even * sines), dim=-1)
    return pairs.flatten(-2).to(heads.dtype)


class VisionEncoder(nn.Module):
    """Encoder, adapter and projector, in ``dtype`` on ``device``, from tensors under Hugging Face's names."""

    def __init__(self, config: VisionConfig, load: Loader) -> None:
        super().__init__()
        self.config = config
        vision = load.under("vision_model.")
        self.patch_embedding = nn.Parameter(vision("patch_embedding.linear"), requires_grad=False)
        self.class_embedding = nn.Parameter(vision.plain("class_embedding"), requires_grad=False)
        self.position_embedding = nn.Parameter(vision.plain("positional_embedding_vlm"), requires_grad=False)
        self.norm_before = LayerNorm("layernorm_pre", vision)
        self.layers = nn.ModuleList(
            VisionLayer(config, vision.under(f"model.layers.{index}.")) for index in range(config.layers)
        )
        self.norm_after = LayerNorm("layernorm_post", vision)
        self.adapter = nn.ParameterList(
            nn.Parameter(vision(f"vision_adapter.mlp.{name}"), requires_grad=False) for name in ("fc1", "fc2")
        )
        self.projector = nn.Parameter(load("multi_modal_projector.linear_1"), requires_grad=False)
        angles = torch.from_numpy(vision_angles(config)).to(self.projector.device)
        self.cosines, self.sines = angles.cos(), angles.sin()

    def forward(self, tiles: Tensor) -> Tensor:
        """float [N, 3, side, side] -> [N, tokens of a tile, D of the text model]."""
        *_, vectors = self.steps(tiles)
        return vectors

    def steps(self, tiles: Tensor) -> Iterator[Tensor]:
        """What ``forward`` computes, layer by layer: the state after each, the last time the vectors."""
        with torch.inference_mode():
            x = self.embed(tiles.to(self.projector.dtype))
        for layer in self.layers:
            yield x
            with torch.inference_mode():
                x = layer(x, self.cosines, self.sines)
        with torch.inference_mode():
            yield functional.linear(self.adapt(self.norm_after(x)), self.projector)

    def embed(self, tiles: Tensor) -> Tensor:
        """Patches, row by row, the class token last: [N, P + 1, C], normed."""
        size = self.config.patch_size
        patches = functional.unfold(tiles, size, stride=size).transpose(1, 2)
        x = functional.linear(patches, self.patch_embedding)
        x = torch.cat((x, self.class_embedding.expand(x.shape[0], 1, -1)), dim=1)
        output: Tensor = self.norm_before(x + self.position_embedding)
        return output

    def adapt(self, x: Tensor) -> Tensor:
        """[N, P + 1, C] -> [N, P / 4, adapter's width]: each 2 x 2 patches side by side, the class token dropped."""
        side, ratio = self.config.patches_a_side, self.config.shuffle
        x = x[:, :-1].unflatten(1, (side // ratio, ratio, side // ratio, ratio))
        x = x.transpose(2, 3).flatten(3).flatten(1, 2)
        for weight in self.adapter:  # the second product, too, is followed by GELU
            x = functional.gelu(functional.linear(x, weight))
        return x

"""Graph nets from torch_geometric and models of diffusion from diffusers, small and with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from case import Batch, Case
from data import digits
from torch import nn

__all__ = ["CASES"]


def _graph() -> list[Batch]:
    """Zachary's karate club, which comes with the library: who sided with whom."""
    from torch_geometric.datasets import KarateClub

    data = KarateClub()[0]
    return [{"x": data.x, "edges": data.edge_index, "labels": data.y}]


def _graph_net(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import torch_geometric.nn

        return getattr(torch_geometric.nn, name)(34, 32, 3, 4, **options)

    return build


def _nodes(model: nn.Module, batch: Batch) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch["x"], batch["edges"]), batch["labels"])


def _pna() -> nn.Module:
    from torch_geometric.nn import PNA

    aggregators = ["mean", "min", "max", "std"]
    degrees = torch.tensor([0, 1, 11, 6, 6, 3, 2])
    return PNA(34, 16, 3, 4, aggregators=aggregators, scalers=["identity", "amplification"], deg=degrees)


_GRAPHS = [
    Case("GCN", "graph net", "torch_geometric", _graph_net("GCN"), _graph, _nodes, 5e-3),
    Case("GAT", "graph net", "torch_geometric", _graph_net("GAT", heads=4, dropout=0.2), _graph, _nodes, 5e-3),
    Case("GIN", "graph net", "torch_geometric", _graph_net("GIN", norm="batch_norm"), _graph, _nodes, 5e-3),
    Case("GraphSAGE", "graph net", "torch_geometric", _graph_net("GraphSAGE"), _graph, _nodes, 5e-3),
    Case("PNA", "graph net", "torch_geometric", _pna, _graph, _nodes, 5e-3),
]


def _denoises(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Predict the noise in a noisy image, at a random time."""
    images = batch["images"]
    times = torch.randint(0, 1000, (len(images),))
    noise = torch.randn_like(images)
    kept = (1 - times / 1000)[:, None, None, None]
    noisy = kept.sqrt() * images + (1 - kept).sqrt() * noise
    named = {"class_labels": batch["labels"]} if "labels" in batch else {}
    return nn.functional.mse_loss(model(noisy, times, **named).sample, noise)


def _unconditional() -> list[Batch]:
    return [{"images": each["images"]} for each in digits(16, channels=1)]


def _unet() -> nn.Module:
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=16,
        in_channels=1,
        out_channels=1,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=8,
    )


def _dit() -> nn.Module:
    from diffusers import DiTTransformer2DModel

    return DiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=16,
        in_channels=1,
        out_channels=1,
        num_layers=3,
        sample_size=16,
        patch_size=4,
        num_embeds_ada_norm=10,
        norm_num_groups=8,
    )


def _autoencoder() -> nn.Module:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
    )


def _reconstructs(model: nn.Module, batch: Batch) -> torch.Tensor:
    latent = model.encode(batch["images"]).latent_dist
    decoded = model.decode(latent.sample()).sample
    return nn.functional.mse_loss(decoded, batch["images"]) + 1e-4 * latent.kl().mean()


_DIFFUSION = [
    Case("UNet2DModel", "diffusion", "diffusers", _unet, _unconditional, _denoises),
    Case("DiT", "diffusion", "diffusers", _dit, lambda: digits(16, channels=1), _denoises),
    Case("AutoencoderKL", "diffusion", "diffusers", _autoencoder, _unconditional, _reconstructs, slow_in_float16=True),
]

CASES = [*_GRAPHS, *_DIFFUSION]

"""The list of all peers. Knows nothing of what they do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from race import adapter, numba_peer, other_peers, torch_peers

if TYPE_CHECKING:
    from race.adapter import Peer

PEERS: tuple[type[Peer], ...] = (
    adapter.Tensorstats,
    torch_peers.TorchSum,
    torch_peers.TorchEager,
    torch_peers.TorchFastest,
    torch_peers.TorchCompile,
    numba_peer.Numba,
    adapter.Numpy,
    adapter.Scipy,
    other_peers.Polars,
    other_peers.Pyarrow,
    other_peers.Duckdb,
    other_peers.Bottleneck,
    other_peers.Numkong,
    adapter.TensorstatsHistogram,
    other_peers.BoostHistogram,
    other_peers.BoostHistogramOneThread,
    other_peers.FastHistogram,
    numba_peer.NumbaHistogram,
    torch_peers.TorchHistc,
    torch_peers.TorchHistogram,
    adapter.NumpyHistogram,
)


def by_name(name: str) -> type[Peer]:
    return next(peer for peer in PEERS if peer.name == name)

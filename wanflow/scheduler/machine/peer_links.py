"""What cards of one computer give each other a second: datasheets, and what is reached. No torch.

NVLink's figures are NVIDIA's datasheets', which have both directions; here is one of them. Of
these an all-gather among eight H100 reaches 360 GB/s (NVIDIA/nccl-tests#326, "exactly what we'd
expect"). Cards without NVLink send through the host's memory, GeForce cards having no direct access
to each other; that half of a copy's rate is reached there is an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping

from wanflow.units import MIB

_G = 1e9
# GB/s one way, all links of a card together.
_NVLINK: Mapping[str, float] = {
    "a100-40g": 300, "a100-80g": 300, "a800": 200, "h100": 450, "h800": 200, "h200": 450,
    "h20": 450,
}  # fmt: skip
_NVLINK_REACHED = 0.8  # of all-gathers of many MB
_HOST_REACHED = 0.5  # of what a copy to the host reaches: the bytes pass there and come back
# What NCCL takes of a card beside PyTorch's allocator: 4 MiB a channel and peer, for as many groups
# of ranks as there are. An estimate.
CARRYING_BYTES = 384 * MIB
EXCHANGE_SECONDS = 30e-6  # to start one, and until the last rank has come to it


def peer_rate(card: str, link_rate: float) -> float:
    """Bytes/s that a card is given by others of its kind; *link_rate* is a copy's to the host."""
    sold = _NVLINK.get(card)
    return link_rate * _HOST_REACHED if sold is None else sold * _NVLINK_REACHED * _G

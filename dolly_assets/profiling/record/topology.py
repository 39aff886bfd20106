"""How GPUs are connected to each other and to the host's CPUs, through NVML.

Knows nothing of what they do.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from dolly_assets.hardware.nvml import Missing, pynvml, query
from dolly_assets.profiling.record.devices import Link

MOST_LINKS = 18  # of an H100; querying more returns an error
_SWITCH = "switch"
_P2P_READ = 0  # pynvml's own constant is a tuple by mistake

# The nearest component that both are attached to, in the words of `nvidia-smi topo -m`.
_LEVELS = {
    pynvml.NVML_TOPOLOGY_INTERNAL: "same board",
    pynvml.NVML_TOPOLOGY_SINGLE: "PIX",
    pynvml.NVML_TOPOLOGY_MULTIPLE: "PXB",
    pynvml.NVML_TOPOLOGY_HOSTBRIDGE: "PHB",
    pynvml.NVML_TOPOLOGY_NODE: "NODE",
    pynvml.NVML_TOPOLOGY_SYSTEM: "SYS",
}
_P2P_STATUS = {
    pynvml.NVML_P2P_STATUS_OK: "ok",
    pynvml.NVML_P2P_STATUS_CHIPSET_NOT_SUPPORTED: "the chipset does not support it",
    pynvml.NVML_P2P_STATUS_GPU_NOT_SUPPORTED: "the GPU does not support it",
    pynvml.NVML_P2P_STATUS_IOH_TOPOLOGY_NOT_SUPPORTED: "not across this I/O hub",
    pynvml.NVML_P2P_STATUS_DISABLED_BY_REGKEY: "disabled",
    pynvml.NVML_P2P_STATUS_NOT_SUPPORTED: "not supported",
}


def find_links(handles: Sequence[tuple[int, Any]]) -> tuple[Link, ...]:
    """Return the link of each pair of GPUs, given as (index, handle).

    What the driver does not report is None.
    """
    peers = {index: _nvlink_peers(handle) for index, handle in handles}
    bus_ids = {
        index: _text(query("nvmlDeviceGetPciInfo", handle), "busId") for index, handle in handles
    }
    return tuple(
        Link(
            first=first,
            second=second,
            level=_word(_LEVELS, query("nvmlDeviceGetTopologyCommonAncestor", one, other)),
            nvlink_count=_nvlink_count(peers[first], peers[second], bus_ids[second]),
            p2p=_word(_P2P_STATUS, query("nvmlDeviceGetP2PStatus", one, other, _P2P_READ)),
        )
        for (first, one), (second, other) in combinations(handles, 2)
    )


def _nvlink_peers(handle: Any) -> Counter[str]:
    """Count the active links to each other GPU (by bus id) and to switches."""
    peers: Counter[str] = Counter()
    for link in range(MOST_LINKS):
        state = query("nvmlDeviceGetNvLinkState", handle, link)
        if isinstance(state, Missing) or not state:
            continue
        kind = query("nvmlDeviceGetNvLinkRemoteDeviceType", handle, link)
        if kind == pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH:
            peers[_SWITCH] += 1
        else:
            peers[_text(query("nvmlDeviceGetNvLinkRemotePciInfo", handle, link), "busId")] += 1
    return peers


def _nvlink_count(one: Counter[str], other: Counter[str], other_bus_id: str) -> int:
    """Count the direct links, and as many through switches as both GPUs have."""
    return one[other_bus_id] + min(one[_SWITCH], other[_SWITCH])


def _word(words: dict[Any, str], value: Any) -> str | None:
    return None if isinstance(value, Missing) else words.get(value, f"unknown ({value})")


def _text(structure: Any, member: str) -> str:
    return "" if isinstance(structure, Missing) else getattr(structure, member)

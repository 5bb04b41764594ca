"""Attribution of kernels' times to the nodes of the float model.

A kernel's time goes to the products that it computes, by their multiply-adds, or else to the
products of their group. Without a product it goes to the first node of the group. A kernel
that changes how values are stored belongs to no node: its time goes in equal parts to the
kernels beside it that need it. So every microsecond is counted once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantcal.onnx._timing.groups import Claims, FloatGraph
from quantcal.onnx._timing.profile import Kernel

if TYPE_CHECKING:
    Parts = dict[str, float]

# Kernels that need their own layout.
_OWN_LAYOUT = "com.microsoft.nchwc."


@dataclass(frozen=True, slots=True)
class Shares:
    """How the time of each kernel of one model is divided among nodes.

    Attributes
    ----------
    of_kernel : dict of str to dict of str to float
        Kernel → node → share. The shares of a kernel are 1 in sum, or there are none.
    conversions : frozenset of str
        The kernels that change how values are stored.
    """

    of_kernel: dict[str, Parts]
    conversions: frozenset[str]

    def divide(
        self, times: Mapping[str, float]
    ) -> tuple[dict[str, float], dict[str, float], float]:
        """Divide the times of one round.

        Parameters
        ----------
        times : mapping of str to float
            Kernel → milliseconds.

        Returns
        -------
        tuple of (dict, dict, float)
            Node → milliseconds; the part of them that conversions take; and the time of
            kernels that belong to no node.
        """
        whole: dict[str, float] = {}
        converting: dict[str, float] = {}
        other = 0.0
        for kernel, time in times.items():
            parts = self.of_kernel.get(kernel, {})
            if not parts:
                other += time
            for node, share in parts.items():
                whole[node] = whole.get(node, 0.0) + share * time
                if kernel in self.conversions:
                    converting[node] = converting.get(node, 0.0) + share * time
        return whole, converting, other


def share_kernels(
    kernels: Mapping[str, Kernel],
    claims: Claims,
    groups: Mapping[str, str],
    graph: FloatGraph,
    preferred: Iterable[str] = (),
) -> Shares:
    """Divide the kernels of one model among the nodes of the float model.

    Parameters
    ----------
    kernels : mapping of str to Kernel
    claims : mapping of str to frozenset of str
        Kernel → its nodes; those without nodes are conversions.
    groups : mapping of str to str
        Node → the first node of its group.
    graph : FloatGraph
    preferred : iterable of str
        The quantized nodes. They come first where no node of a group is a product. Conversions
        are for them where no kernel beside has integers or its own layout.
    """
    wanted = frozenset(preferred)
    members: dict[str, list[str]] = {}
    for node, top in groups.items():
        members.setdefault(top, []).append(node)

    def first(node: str) -> tuple[bool, int]:
        return node not in wanted, graph.order[node]

    shares: dict[str, Parts] = {}
    for name, nodes in claims.items():
        if nodes:
            # A kernel's nodes are one group.
            group = sorted(members[groups[min(nodes)]], key=first)
            shares[name] = _by_products(nodes, group, graph)
    owners = _Neighbors(kernels, claims, wanted)
    conversions = frozenset(name for name in kernels if not claims.get(name))
    for name in conversions:
        beside = owners.of(name)
        parts: Parts = {}
        for kernel in beside:
            for node, share in shares[kernel].items():
                parts[node] = parts.get(node, 0.0) + share / len(beside)
        shares[name] = parts
    return Shares(shares, conversions)


def _by_products(nodes: frozenset[str], group: list[str], graph: FloatGraph) -> Parts:
    for among in (nodes, group):
        counts = {name: graph.counts.get(name, 0) for name in sorted(among)}
        total = sum(counts.values())
        if total:
            return {name: count / total for name, count in counts.items() if count}
    products = [name for name in group if graph.is_product(name)]
    return {(products or group)[0]: 1.0}


class _Neighbors:
    """The kernels beside conversions, over further conversions and what moves codes."""

    def __init__(
        self, kernels: Mapping[str, Kernel], claims: Claims, preferred: frozenset[str]
    ) -> None:
        self._kernels = kernels
        self._claims = claims
        self._preferred = preferred
        self._beside: dict[str, set[str]] = {name: set() for name in kernels}
        makers = {t: name for name, kernel in kernels.items() for t in kernel.outputs}
        for name, kernel in kernels.items():
            for tensor in kernel.inputs:
                maker = makers.get(tensor)
                if maker is not None and maker != name:
                    self._beside[name].add(maker)
                    self._beside[maker].add(name)

    def of(self, name: str) -> list[str]:
        """Return the kernels that a conversion serves."""
        seen, waiting, found = {name}, [name], set()
        while waiting:
            for other in self._beside[waiting.pop()] - seen:
                seen.add(other)
                if self._claims.get(other):
                    found.add(other)
                # Codes are made for what computes on them, behind a Transpose too.
                if not self._claims.get(other) or self._kernels[other].moves_codes:
                    waiting.append(other)
        for wanted in (self._is_special, self._is_preferred):
            if chosen := sorted(filter(wanted, found)):
                return chosen
        return sorted(found)

    def _is_special(self, name: str) -> bool:
        kernel = self._kernels[name]
        return kernel.is_integer or kernel.operator.startswith(_OWN_LAYOUT)

    def _is_preferred(self, name: str) -> bool:
        return bool(self._claims[name] & self._preferred)

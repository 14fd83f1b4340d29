"""Graph files: read with positions, checked whole, bound to the user's values. No torch."""

from wanflow.graph.bind import bind
from wanflow.graph.bound import BoundGraph, BoundStage
from wanflow.graph.check import CheckedGraph
from wanflow.graph.configs import known_config
from wanflow.graph.load import load, load_text, shipped_graphs
from wanflow.graph.ops import PortType
from wanflow.graph.problems import GraphError
from wanflow.graph.rules import VideoRules
from wanflow.graph.show import as_mermaid, describe
from wanflow.graph.values import PortRef, Size

__all__ = [
    "BoundGraph",
    "BoundStage",
    "CheckedGraph",
    "GraphError",
    "PortRef",
    "PortType",
    "Size",
    "VideoRules",
    "as_mermaid",
    "bind",
    "describe",
    "known_config",
    "load",
    "load_text",
    "shipped_graphs",
]

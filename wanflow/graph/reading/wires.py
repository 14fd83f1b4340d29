"""What feeds a port or a param: a literal, `$input`, or `stage.port`; `$$x` is the text `$x`."""

from __future__ import annotations

import attrs

from wanflow.graph.inputs import InputSpec
from wanflow.graph.ops import OPS, PortSpec, PortType
from wanflow.graph.reading.draft import Draft
from wanflow.graph.reading.nodes import Listing, Node, Scalar
from wanflow.graph.reading.scalars import Literal, resolve
from wanflow.graph.reading.tables import what_node
from wanflow.graph.source import Mark
from wanflow.graph.spec import Wire
from wanflow.graph.values import ValueType, parse_input_ref, parse_port_ref
from wanflow.graph.wanted import MisfitError, Wanted, fit
from wanflow.graph.wording import listing

# What an input of a type may feed besides its own type; the value is checked when it is known.
_FEEDS = {
    ValueType.INT: {ValueType.FLOAT},
    ValueType.TEXT: {
        ValueType.CHOICE, ValueType.FILE_NAME, ValueType.FOLDER_NAME, ValueType.NUMBERS,
    },
}  # fmt: skip


@attrs.frozen
class WireReader:
    """Reads what feeds the port or param `name` of a stage."""

    draft: Draft
    stage: str
    name: str

    def port(self, node: Node, spec: PortSpec) -> Wire | None:
        """Read what feeds a port; None when it can't be that."""
        text = self._text(node)
        if text is None:
            return None
        ref = parse_port_ref(text)
        if ref is not None and (spec.wanted is None or ref.stage in self.draft.stage_names):
            return Wire(ref, node.mark)
        if spec.wanted is not None:
            return self.literal(node, spec.wanted)
        self._not_from_a_stage(text, node, spec.type)
        return None

    def literal(self, node: Node, wanted: Wanted) -> Wire | None:
        """Read a literal or `$input`; None when it can't be that."""
        if isinstance(node, Listing) and wanted.type is ValueType.NUMBERS:
            items = [resolve(n) if isinstance(n, Scalar) else what_node(n) for n in node.items]
            return self._fitted(items, wanted, node.mark)
        text = self._text(node)
        if text is None or not isinstance(node, Scalar):
            return None
        ref = parse_input_ref(text)
        if ref is not None:
            spec = self.draft.find_input(ref.name, node.mark, self.stage)
            fits = spec is not None and self._feeds(spec, wanted, node.mark)
            return Wire(ref, node.mark) if fits else None
        value: Literal = text[1:] if text.startswith("$$") else resolve(node)
        return self._fitted(value, wanted, node.mark)

    def _fitted(self, value: object, wanted: Wanted, mark: Mark) -> Wire | None:
        try:
            return Wire(fit(value, wanted), mark)
        except MisfitError as misfit:
            self._tell(misfit.code, misfit.message, mark, misfit.suggestion)
            return None

    def _text(self, node: Node) -> str | None:
        if isinstance(node, Scalar):
            return node.text
        self._tell("wrong-type", f"wants one value, is {what_node(node)}", node.mark)
        return None

    def _feeds(self, spec: InputSpec, wanted: Wanted, mark: Mark) -> bool:
        if wanted.type is spec.type or wanted.type in _FEEDS.get(spec.type, ()):
            return True
        kind = wanted.type.replace("_", " ")
        self._tell("input-type", f"wants {kind}, input '${spec.name}' is {spec.type}", mark)
        return False

    def _not_from_a_stage(self, text: str, node: Node, kind: PortType) -> None:
        givers = sorted(op.name for op in OPS.values() if kind in op.outputs.values())
        ref = parse_input_ref(text)
        what = f"input '${ref.name}'" if ref else what_node(node)
        message = f"wants {kind} from a stage, is {what}"
        advice = f"write STAGE.PORT, of a stage with op {listing(givers)}"
        self._tell("port-type", message, node.mark, advice)

    def _tell(self, code: str, message: str, mark: Mark, advice: str = "") -> None:
        full = f"'{self.stage}.{self.name}' {message}"
        self.draft.problems.add(code, full, mark, stage=self.stage, suggestion=advice)

"""A word means one thing: no class name is used twice."""

import ast
from collections import defaultdict

from wanflow.files.folders import PACKAGE


def test_a_class_name_is_used_once() -> None:
    """Private or not, in the whole package."""
    places = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(str(path.relative_to(PACKAGE)))

    assert len(places) > 300
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}

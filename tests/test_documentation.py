"""The examples in docstrings and in the README run, and are true."""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

import fastrnn

PACKAGE = Path(fastrnn.__file__).parent
README = Path(__file__).parents[1] / "README.md"

WITH_EXAMPLES = [
    path.relative_to(PACKAGE.parent)
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


def module_of(path):
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(name, marks=pytest.mark.torch if "torch" in name else ())
        for name in map(module_of, WITH_EXAMPLES)
    ],
)
def test_examples_in_docstrings_are_true(module):
    if "torch" in module:
        pytest.importorskip("torch")
    failed, tried = doctest.testmod(importlib.import_module(module))
    assert tried
    assert not failed


def docstrings_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.Module):
            yield ast.get_docstring(node) or ""


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_sections_of_docstrings_are_those_of_numpydoc(path):
    """In its order, and no paragraph after one: it would be part of the section's last entry."""
    order = ["Parameters", "Returns", "Yields", "Attributes", "Raises", "Notes", "References"]
    order.append("Examples")
    for text in docstrings_of(path):
        found = re.findall(r"^(\w[\w ]*)\n-{3,}$", text, re.MULTILINE)
        assert found == sorted(found, key=order.index)
        assert not found or not re.search("^Sources?[ :]", text, re.MULTILINE)


@pytest.mark.skipif(not README.exists(), reason="no README beside these tests")
def test_the_lines_of_the_readme_run():
    (lines,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec(lines, names)
    assert names["y"].shape == (128,)

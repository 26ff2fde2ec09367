"""The examples in docstrings and in the README run, and are true."""

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


@pytest.mark.skipif(not README.exists(), reason="no README beside these tests")
def test_the_lines_of_the_readme_run():
    (lines,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec(lines, names)
    assert names["y"].shape == (128,)

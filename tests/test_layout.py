"""The rules on imports between modules, and on what the C kernels may do."""

import ast
import re
import sys
from pathlib import Path

import pytest

import fastrnn

PACKAGE = Path(fastrnn.__file__).parent
KERNELS = Path(__file__).parents[1] / "src" / "kernels"

# Imports run downwards: a part may import those of its own row and of the rows below.
ROWS = [
    {"__init__", "__main__", "cli", "interop"},
    {"training"},
    {"models"},
    {"layers", "losses", "optim", "streaming"},
    {"backends", "data", "parameters", "checkpoint", "initializers", "_config"},
    {"_validation"},
    {"_core", "_files", "_special", "_version", "cells"},
]
ROW = {part: row for row, parts in enumerate(ROWS) for part in parts}
DEPENDENCIES = {"numpy", "scipy", "safetensors", "tqdm"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(module):
    """Return the part of ``fastrnn.part.rest``; a public name belongs to ``__init__``."""
    part = [*module.split("."), "__init__"][1]
    return part if part in ROW else "__init__"


def name_of(path):
    """Return the dotted name of a source file."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def imports(path, at_import_only=False):
    """Yield the dotted name of everything that a file imports when it runs."""
    package = name_of(path).split(".")
    package = package if path.name == "__init__.py" and len(package) > 1 else package[:-1]
    nodes = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif not (at_import_only and isinstance(node, (ast.FunctionDef, ast.Lambda))):
            nodes.extend(ast.iter_child_nodes(node))


def ours(path):
    """Return the modules of the package that a file imports."""
    return {module for module in imports(path) if module.split(".")[0] == "fastrnn"}


def test_there_are_modules():
    assert {part_of(name_of(path)) for path in MODULES} >= {"cells", "backends", "layers", "cli"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_downwards(path):
    part = part_of(name_of(path))
    for module in ours(path):
        assert ROW[part_of(module)] >= ROW[part], f"{name_of(path)} imports {module}"


# Each module of interop stands on its peer, and is imported by those who have it.
EVERYBODYS = [path for path in MODULES if part_of(name_of(path)) != "interop"]


@pytest.mark.parametrize("path", EVERYBODYS, ids=name_of)
def test_what_everybody_imports_is_a_core_dependency(path):
    allowed = DEPENDENCIES | set(sys.stdlib_module_names) | {"fastrnn"}
    assert {module.split(".")[0] for module in imports(path, at_import_only=True)} <= allowed


def test_cells_import_numpy_alone():
    for path in PACKAGE.joinpath("cells").glob("*.py"):
        for module in imports(path):
            known = module.split(".")[0] in {"numpy", "collections", "dataclasses", "typing"}
            assert known or module.startswith("fastrnn.cells"), module


def test_the_reference_needs_no_extension():
    for path in [PACKAGE / "backends" / "reference.py", *PACKAGE.joinpath("cells").glob("*.py")]:
        assert not any("_core" in module or "compiled" in module for module in imports(path))


def test_data_knows_no_model():
    for path in PACKAGE.joinpath("data").rglob("*.py"):
        assert {part_of(module) for module in ours(path)} <= {"data", "_files", "_validation"}


def test_the_core_imports_no_python_of_ours():
    for path in PACKAGE.joinpath("_core").iterdir():
        if path.suffix in {".pyx", ".pxd", ".py"}:
            text = path.read_text(encoding="utf-8")
            found = re.findall(r"^\s*(?:from|c?import)\s+(fastrnn[\w.]*)", text, re.MULTILINE)
            assert all(module.startswith("fastrnn._core") for module in found), path.name


C_FILES = sorted(path for path in KERNELS.rglob("*") if path.suffix in {".c", ".h"})


@pytest.mark.skipif(not KERNELS.exists(), reason="no sources beside these tests")
def test_there_are_kernels():
    assert {path.name for path in C_FILES} >= {"fastrnn_kernels.h", "isa_scalar.c", "isa_avx2.c"}


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: path.name)
def test_kernels_know_no_python_and_do_no_input_or_output(path):
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not re.search(r"#include\s*<(Python|stdio)\.h>", text)
    assert not re.search(r"\b(printf|fprintf|puts|fopen|exit|abort|malloc|calloc|free)\s*\(", text)

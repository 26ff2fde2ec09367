"""The installed package has the intended contents."""

import ast
import importlib
import os
import platform
import subprocess
import sys
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import fastrnn as fr

PACKAGE = Path(fr.__file__).parent
EXTENSIONS = ["blas", "ctc", "functional", "kernels", "loops", "memory", "scan", "stream"]

# Set it as the build had it: FASTRNN_NO_EXTENSION=1 builds the package without its compiled part.
compiled = pytest.mark.skipif(
    os.environ.get("FASTRNN_NO_EXTENSION") == "1", reason="built without the extension"
)


@pytest.fixture
def distribution():
    try:
        return metadata.distribution("fastrnn")
    except metadata.PackageNotFoundError:
        pytest.skip("fastrnn is on the path but not installed")


@compiled
@pytest.mark.parametrize("name", EXTENSIONS)
def test_extension_is_compiled(name):
    module = importlib.import_module(f"fastrnn._core.{name}")
    assert module.__file__.endswith(tuple(EXTENSION_SUFFIXES))
    assert Path(module.__file__).parent == PACKAGE / "_core"


@compiled
def test_recurrent_layer_is_compiled_where_it_is_not_edited():
    module = importlib.import_module("fastrnn.layers.recurrent")
    is_source = (PACKAGE.parent / "setup.py").exists()
    assert module.__file__.endswith((".py",) if is_source else tuple(EXTENSION_SUFFIXES))


@compiled
@pytest.mark.parametrize("name", EXTENSIONS)
def test_stub_names_what_the_extension_has(name):
    module = importlib.import_module(f"fastrnn._core.{name}")
    public = {n for n, value in vars(module).items() if _defined_in(module, n, value)}
    stub = ast.parse((PACKAGE / "_core" / f"{name}.pyi").read_text())
    definitions = (ast.FunctionDef, ast.ClassDef)
    named = {node.name: node for node in stub.body if isinstance(node, definitions)}
    assert set(named) == public
    for node in named.values():
        if isinstance(node, ast.ClassDef):
            methods = {n for n in vars(getattr(module, node.name)) if not n.startswith("_")}
            stated = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
            assert stated - {"__new__"} == methods, node.name


def _defined_in(module, name, value):
    return not name.startswith("_") and getattr(value, "__module__", None) == module.__name__


@compiled
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="libm may be part of the C library")
@pytest.mark.parametrize("name", ["ctc", "functional", "kernels"])
def test_extension_is_linked_with_what_it_calls(name):
    module = importlib.import_module(f"fastrnn._core.{name}")
    assert b"\0libm.so." in Path(module.__file__).read_bytes()


def test_version_is_the_installed_one(distribution):
    assert distribution.version == fr.__version__


def test_package_is_typed():
    assert (PACKAGE / "py.typed").exists()


@pytest.mark.skipif((PACKAGE.parent / "pyproject.toml").exists(), reason="runs from the sources")
def test_sources_of_the_extension_are_not_installed():
    suffixes = {path.suffix for path in PACKAGE.rglob("*")}
    assert not suffixes & {".c", ".h", ".pyx", ".pxd"}


def test_console_script_is_the_command_line(distribution):
    (script,) = distribution.entry_points.select(group="console_scripts", name="fastrnn")
    assert script.load() is importlib.import_module("fastrnn.cli").main


def test_import_takes_the_core_dependencies_alone():
    optional = {"torch", "onnx", "h5py", "sklearn", "matplotlib", "pytest"}
    code = "import sys, fastrnn.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not optional & set(loaded.stdout.split())


def test_interop_has_help_where_no_other_library_is_installed():
    code = """
import sys
sys.modules.update(dict.fromkeys(["h5py", "onnx", "sklearn", "torch"]))
import pydoc, fastrnn.interop
print(pydoc.plain(pydoc.render_doc(fastrnn.interop)))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "inside other libraries" in shown.stdout, shown.stderr

"""Makes the tests and the benchmarks run against the installed package.

``python -m`` puts this folder first on ``sys.path``, and with it the sources, which hold no
compiled extension after ``pip install .``. Where they hold none and ``fastrnn`` is installed
elsewhere, this folder goes to the end of the path; after ``pip install -e .`` or ``build_ext
--inplace`` it stays.
"""

import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def use_installed_package() -> None:
    """Put this folder last on the path where it hides an installed fastrnn."""
    if any((ROOT / "fastrnn" / "_core").glob("*.so")):
        return
    others = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    if PathFinder.find_spec("fastrnn", others):
        sys.path[:] = [*others, str(ROOT)]
        os.environ["PYTHONSAFEPATH"] = "1"  # the same for the processes that tests start


use_installed_package()


def pytest_report_header() -> str:
    """Say which fastrnn is tested."""
    import fastrnn

    config = fastrnn.show_config(mode="dicts")
    return (
        f"fastrnn: {Path(fastrnn.__file__).parent}, backend {config['backend']}, "
        f"instruction set {config['instruction set']}, threads {config['threads']}"
    )

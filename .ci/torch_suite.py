"""PyTorch's own tests of its recurrent modules, on ours: ``python .ci/torch_suite.py [FILE ...]``.

Fetches PyTorch's sources as Debian keeps them and runs their tests that have to do with recurrent
modules and packed sequences, with our classes in the places of ``torch.nn``'s. What fails is run
again with PyTorch's own, and has to fail there too: it is of another version of PyTorch.
``--full`` runs all of them with both, also those that take minutes, and compares.
Needs torch, pytest, hypothesis and expecttest. Files are named as in PyTorch's folder ``test``.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import lzma
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

MIRROR = "http://deb.debian.org/debian/pool/main/p/pytorch/"
# Nearest to the version that is tested first; Debian's stable release keeps the last.
SOURCES = {
    "2.12.1": "95b6f85e1da2776f0cb0e5a635c4430b4e3f05b6ccb9e00237f3cecd15572875",
    "2.6.0": "099a9601bc40d67656e75735c44abedb0fbe92d08817852ab7472eebb7e6ddff",
}
FILES = ["test_nn.py", "test_modules.py", "test_expanded_weights.py", "nn/*.py"]
# In the name of a test or anywhere in its source.
WANTED = re.compile(r"RNN|LSTM|GRU|rnn|lstm|gru|Packed|pack(_padded)?_seq|pad_packed_seq")
# Not of one device, and so not run here, but in their source for all modules.
NOT_WANTED = re.compile("cpu_gpu_parity")
# Up to minutes each. What is left checks cells, and gradients of layers in the other mode.
SLOW = re.compile(r"test_(gradgrad_nn_(RNN|LSTM|GRU)_|grad_nn_(RNN|LSTM|GRU)_train)")

Results = dict[str, list[Any]]  # outcome, calls of our kernels, and why it failed


def fetch(version: str) -> Path:
    """Return the archive of a version, from the cache or from Debian.

    Raises
    ------
    OSError
        If Debian does not answer, or does not have it any more.
    ValueError
        If what came is something else.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastrnn-ci"
    file = cache / f"pytorch_{version}.tar.xz"
    if not file.exists():
        url = f"{MIRROR}pytorch_{version}%2Bdfsg.orig.tar.xz"
        with urllib.request.urlopen(url, timeout=30) as response:
            content = response.read()
        checksum = hashlib.sha256(content).hexdigest()
        if checksum != SOURCES[version]:
            raise ValueError(f"PyTorch {version}: sha256 is {checksum}, not {SOURCES[version]}")
        cache.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}")
        part.write_bytes(content)
        part.replace(file)
    return file


def extract(archive: Path, folder: Path) -> None:
    """Write the Python files of PyTorch's folder ``test``, without its configuration of pytest."""
    with tarfile.open(fileobj=lzma.open(archive)) as files:
        for member in files:
            path = member.name.partition("/")[2]
            if member.isfile() and re.fullmatch(r"test/.*(?<!conftest)\.py", path):
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(files.extractfile(member).read())


def run(side: str, tests: list[str], folder: Path, slow: bool = False) -> Results:
    """Run the tests of files, or those that are named, with this file as a plugin of pytest.

    Raises
    ------
    RuntimeError
        If they do not run.
    """
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    results = folder / f"{side}.json"
    environment = os.environ | {
        "TORCH_SUITE_SIDE": side,
        "TORCH_SUITE_RESULTS": str(results),
        "TORCH_SUITE_SLOW": "1" if slow else "",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTORCH_TESTING_DEVICE_ONLY_FOR": "cpu",
    }
    command = [sys.executable, "-m", "pytest", "-p", "torch_suite", "-c", os.devnull, "--rootdir"]
    command += [".", "-q", "--no-header", "--no-summary", "-p", "no:cacheprovider", "-W", "ignore"]
    command += ["--continue-on-collection-errors"]
    done = subprocess.run(
        [*command, *tests], cwd=folder / "test", env=environment, capture_output=True, text=True
    )
    if done.returncode not in (0, 1):  # all pass, or not all do
        raise RuntimeError((done.stdout + done.stderr)[-4000:])
    return json.loads(results.read_text())


def count(results: Results) -> str:
    """Return how many tests had which outcome."""
    counts = Counter(outcome for outcome, *_ in results.values())
    return ", ".join(f"{n} {outcome}" for outcome, n in counts.most_common())


def check(folder: Path, files: list[str], full: bool) -> list[str]:
    """Run the tests and say how they went; return those that ours alone do not pass."""
    tests = folder / "test"
    found = [str(path.relative_to(tests)) for name in files for path in tests.glob(name)]
    ours = run("ours", found, folder, slow=full)
    print(f"with our modules: {count(ours)}")
    used = sum(calls > 0 for _, calls, _ in ours.values())
    print(f"{used} tests ran our kernels, {sum(calls for _, calls, _ in ours.values())} times")
    failed = [name for name, (outcome, *_) in ours.items() if outcome == "failed"]
    theirs = {}
    if full or failed:
        theirs = run("torch", found if full else failed, folder, slow=full)
        print(f"with PyTorch's modules{'' if full else ' those that failed'}: {count(theirs)}")
    broken = [name for name, (outcome, *_) in theirs.items() if outcome == "passed"]
    broken = [name for name in broken if ours.get(name, [""])[0] != "passed"]
    for name in failed:
        if name not in broken:
            print(f"fails with both: {name}")
    for name in broken:
        print(f"\n{name}\n{ours[name][2] if name in ours else 'did not run'}")
    return broken


def main() -> int:
    """Return 0 where ours pass what PyTorch's pass, or where there is nothing to run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("files", nargs="*", default=FILES, metavar="FILE")
    parser.add_argument("--version", choices=SOURCES, help="of PyTorch's sources")
    parser.add_argument("--full", action="store_true", help="run all tests with both")
    args = parser.parse_args()
    reasons = []
    for version in [args.version] if args.version else SOURCES:
        try:
            archive = fetch(version)
        except OSError as error:
            reasons.append(f"{version}: {error}")
        else:
            break
    else:
        print("PyTorch's tests were skipped, their sources could not be fetched:", *reasons)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        extract(archive, Path(folder))
        print(f"the tests of PyTorch {version}")
        broken = check(Path(folder), args.files, args.full)
    print(f"{len(broken)} tests pass with PyTorch's modules and not with ours")
    return bool(broken)


# ------------------------------------------------------------------------- the plugin of pytest


class Recorder:
    """Puts our classes in PyTorch's places, keeps the tests that matter, and records outcomes."""

    def __init__(self) -> None:
        self.results: Results = {}
        self.calls = 0
        if os.environ["TORCH_SUITE_SIDE"] == "ours":
            self.replace()

    def replace(self) -> None:
        """Replace PyTorch's classes before a test, or its table of modules, has seen them."""
        import torch

        from fastrnn.interop import torch as ours
        from fastrnn.interop.torch import scan

        assert "torch.testing._internal.common_modules" not in sys.modules
        ours.FLOPS_A_STEP = 0  # their cells are small
        for original, own in ours._REPLACEMENTS.items():
            for namespace in (torch.nn, torch.nn.modules):
                setattr(namespace, original.__name__, own)
        start = scan._Run.__init__

        def counted(*args: Any, **options: Any) -> None:
            self.calls += 1
            start(*args, **options)

        scan._Run.__init__ = counted

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:  # a file of another version
            self.results[report.nodeid] = ["failed", 0, report.longreprtext[-2000:]]

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        slow = os.environ["TORCH_SUITE_SLOW"]
        items[:] = [
            item for item in items if is_wanted(item) and (slow or not SLOW.search(item.name))
        ]

    def pytest_runtest_logreport(self, report: Any) -> None:
        outcome, calls, why = self.results.get(report.nodeid, ["passed", 0, ""])
        if report.outcome != "passed":
            outcome, why = report.outcome, report.longreprtext[-2000:]
        self.results[report.nodeid] = [outcome, calls + self.calls, why]
        self.calls = 0

    def pytest_sessionfinish(self) -> None:
        Path(os.environ["TORCH_SUITE_RESULTS"]).write_text(json.dumps(self.results))


def is_wanted(item: Any) -> bool:
    """Return whether a test has to do with recurrent modules."""
    if NOT_WANTED.search(item.name):
        return False
    return bool(WANTED.search(item.name)) or names_them(inspect.unwrap(item.function))


@cache
def names_them(function: Any) -> bool:
    """Return whether a test's source names what is tested; many tests share a function."""
    try:
        return bool(WANTED.search(inspect.getsource(function)))
    except (OSError, TypeError):
        return False


def pytest_configure(config: Any) -> None:
    """Take part in a run of pytest."""
    config.pluginmanager.register(Recorder())


if __name__ == "__main__":
    sys.exit(main())

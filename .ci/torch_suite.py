"""PyTorch's own tests of its recurrent modules, on ours: ``python .ci/torch_suite.py [FILE ...]``.

Fetches PyTorch's sources as Debian keeps them and runs their tests that have to do with recurrent
modules and packed sequences twice, with ``torch.nn``'s own classes and with ours in their places.
What passes with PyTorch's has to pass with ours; what does not is of another version of PyTorch.
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
SIDES = ("torch", "ours")

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
        with urllib.request.urlopen(f"{MIRROR}pytorch_{version}%2Bdfsg.orig.tar.xz") as response:
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
            if re.fullmatch(r"test/.*(?<!conftest)\.py", path):
                member.name = path
                files.extract(member, folder, filter="data")


def run(side: str, patterns: list[str], folder: Path, every: bool) -> subprocess.Popen[bytes]:
    """Start the tests of one side, with this file as a plugin of pytest."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "TORCH_SUITE_SIDE": side,
        "TORCH_SUITE_RESULTS": str(folder / f"{side}.json"),
        "TORCH_SUITE_EVERY": "1" if every else "",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTORCH_TESTING_DEVICE_ONLY_FOR": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "-p", "torch_suite", "-c", os.devnull, "--rootdir"]
    command += [".", "-q", "--no-header", "--no-summary", "-p", "no:cacheprovider", "-W", "ignore"]
    tests = folder / "test"
    command += [str(file.relative_to(tests)) for name in patterns for file in tests.glob(name)]
    with open(folder / f"{side}.log", "wb") as log:
        return subprocess.Popen(command, cwd=tests, env=environment, stdout=log, stderr=log)


def compare(results: dict[str, Results]) -> int:
    """Say what passes on each side; return how many tests ours fail that PyTorch's pass."""
    for side in SIDES:
        counts = Counter(outcome for outcome, *_ in results[side].values())
        print(f"{side}: " + ", ".join(f"{n} {outcome}" for outcome, n in counts.most_common()))
    theirs, ours = (results[side] for side in SIDES)
    skewed = [name for name in theirs if theirs[name][0] == "failed"]
    if skewed:
        print("fail with PyTorch's own:", ", ".join(skewed))
    used = sum(calls > 0 for _, calls, _ in ours.values())
    print(f"{used} tests ran our kernels, {sum(r[1] for r in ours.values())} times")
    broken = [name for name in theirs if theirs[name][0] == "passed" != ours.get(name, [""])[0]]
    for name in broken:
        print(f"\n{name}: {ours.get(name, ['is missing', 0, ''])[2]}")
    return len(broken)


def main() -> int:
    """Run both sides; return 0 where ours pass what PyTorch's pass."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("files", nargs="*", default=FILES, metavar="FILE")
    parser.add_argument("--version", choices=SOURCES, help="of PyTorch's sources")
    parser.add_argument("--every", action="store_true", help="run all tests of the files")
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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        extract(archive, folder)
        processes = [run(side, args.files, folder, args.every) for side in SIDES]
        for side, process in zip(SIDES, processes):
            if process.wait() not in (0, 1):  # tests ran, if some failed
                print((folder / f"{side}.log").read_text()[-4000:])
                return 1
        results = {side: json.loads((folder / f"{side}.json").read_text()) for side in SIDES}
    print(f"PyTorch {version}'s tests:")
    broken = compare(results)
    print(f"\n{broken} tests pass with PyTorch's modules and not with ours")
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
        for original, own in ours._REPLACEMENTS.items():
            for namespace in (torch.nn, torch.nn.modules):
                setattr(namespace, original.__name__, own)
        start = scan._Run.__init__

        def counted(*args: Any, **options: Any) -> None:
            self.calls += 1
            start(*args, **options)

        scan._Run.__init__ = counted

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        if not os.environ["TORCH_SUITE_EVERY"]:
            items[:] = [item for item in items if WANTED.search(item.name + source(item))]

    def pytest_runtest_logreport(self, report: Any) -> None:
        outcome, calls, why = self.results.get(report.nodeid, ["passed", 0, ""])
        if report.outcome != "passed":
            outcome, why = report.outcome, report.longreprtext[-2000:]
        self.results[report.nodeid] = [outcome, calls + self.calls, why]
        self.calls = 0

    def pytest_sessionfinish(self) -> None:
        Path(os.environ["TORCH_SUITE_RESULTS"]).write_text(json.dumps(self.results))


def source(item: Any) -> str:
    """Return the source of a test's function; that of PyTorch's wrappers may not be found."""
    try:
        return inspect.getsource(inspect.unwrap(item.function))
    except (OSError, TypeError):
        return ""


def pytest_configure(config: Any) -> None:
    """Take part in a run of pytest."""
    config.pluginmanager.register(Recorder())


if __name__ == "__main__":
    sys.exit(main())

"""Builds the extension modules; everything static stands in pyproject.toml.

The kernels are compiled once for each instruction set, each file with its own flags, and linked into
``fastrnn._core.kernels``; the program chooses among them when it runs. Nothing is compiled for the machine
that happens to build. ``FASTRNN_NO_EXTENSION=1`` leaves the extension out: the package then works with NumPy alone.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError
from setuptools.modified import newer_group

CORE = Path("fastrnn/_core")
KERNELS = Path("src/kernels")

C_FLAGS = ["-std=gnu11", "-O3", "-g0", "-ffp-contract=off", "-fvisibility=hidden", "-pthread"]
WARNINGS = ["-Wall", "-Wextra"]

# Architecture as the compiler's macros name it: {file: (macro that tells dispatch.c, flags)}.
INSTRUCTION_SETS = {
    "x86_64": {
        "isa_avx2.c": ("FASTRNN_HAVE_AVX2", ["-mavx2", "-mfma"]),
        "isa_avx512.c": (
            "FASTRNN_HAVE_AVX512",
            ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma"],
        ),
    },
    "aarch64": {"isa_neon.c": ("FASTRNN_HAVE_NEON", [])},
}
ALL_SETS = {name for sets in INSTRUCTION_SETS.values() for name in sets}

DIRECTIVES = {
    "language_level": 3,
    "binding": True,
    "embedsignature": True,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
}


class BuildExtensions(build_ext):
    """Compiles the kernels before the module that links them."""

    def finalize_options(self):
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count() or 1

    def build_extension(self, extension):
        inputs = [*extension.sources, *extension.depends]
        outdated = self.force or newer_group(inputs, self.get_ext_fullpath(extension.name))
        if extension.name == "fastrnn._core.kernels" and outdated:
            extension.extra_objects = self.compile_kernels()
        super().build_extension(extension)

    def compile_kernels(self):
        """Compile ``src/kernels`` for every target architecture; return the object files."""
        objects = []
        for architecture, arch_flags in self.targets():
            compile = partial(
                self.compiler.compile,
                output_dir=str(Path(self.build_temp, architecture)),
                include_dirs=[str(KERNELS)],
            )
            flags = [*C_FLAGS, *WARNINGS, *arch_flags]
            chosen = {
                name: (macro, isa_flags)
                for name, (macro, isa_flags) in INSTRUCTION_SETS.get(architecture, {}).items()
                if self.accepts([*arch_flags, *isa_flags])
            }
            macros = [(macro, "1") for macro, _ in chosen.values()]
            jobs = [
                ([str(source)], [*flags, *chosen.get(source.name, ("", []))[1]])
                for source in sorted(KERNELS.glob("*.c"))
                if source.name in chosen or source.name not in ALL_SETS
            ]
            with ThreadPoolExecutor(self.parallel) as pool:
                compiled = pool.map(
                    lambda job: compile(job[0], macros=macros, extra_postargs=job[1]), jobs
                )
                objects += [path for paths in compiled for path in paths]
        return objects

    def targets(self):
        """Yield (architecture, flags that select it) for what the compiler writes, which may not be this machine."""
        command = list(self.compiler.compiler_so)
        if sys.platform == "darwin" and "-arch" in command:  # one, or two for universal2
            names = [name for flag, name in zip(command, command[1:], strict=False) if flag == "-arch"]
            for name in dict.fromkeys(names):
                yield {"arm64": "aarch64"}.get(name, name), ["-arch", name]
            return
        listing = subprocess.run(
            [*command, "-dM", "-E", "-x", "c", os.devnull], capture_output=True, text=True, check=True
        ).stdout
        known = (name for name in INSTRUCTION_SETS if f"#define __{name}__ 1" in listing)
        yield next(known, "other"), []

    def accepts(self, flags):
        """Whether the compiler knows ``flags``; an older one may lack AVX-512."""
        probe = Path(self.build_temp, "probe.c")
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_text("int probe(void) { return 0; }\n")
        try:
            self.compiler.compile([str(probe)], output_dir=self.build_temp, extra_postargs=flags)
        except CompileError:
            self.warn(f"the compiler refuses {' '.join(flags)}: building without this instruction set")
            return False
        return True


def extensions():
    """Extension modules of ``fastrnn._core``, translated to C in the build folder."""
    import numpy
    from Cython.Build import cythonize

    depends = sorted(str(path) for path in KERNELS.rglob("*.[ch]"))
    modules = [
        Extension(
            f"fastrnn._core.{source.stem}",
            [str(source)],
            include_dirs=[str(KERNELS), numpy.get_include()],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
            depends=depends,
            extra_compile_args=C_FLAGS,
            extra_link_args=["-pthread"],
        )
        for source in sorted(CORE.glob("*.pyx"))
    ]
    return cythonize(modules, build_dir="build/cython", compiler_directives=DIRECTIVES)


setup(
    ext_modules=[] if os.environ.get("FASTRNN_NO_EXTENSION") == "1" else extensions(),
    cmdclass={"build_ext": BuildExtensions},
)

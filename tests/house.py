"""The package as its source says it is: modules, their imports, and the rooms that they stand in.

The source is walked with `ast`, so that lazy imports count and nothing is run. `House.planted` gives
the same house with one file more or another, for tests that break a law on purpose.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "neulig_fl"
APPS = ("clients.app", "server.app")
LOOSE = (PACKAGE, f"{PACKAGE}.__main__")
"""What stands in no room."""

LAYERS = (
    ("core",),
    ("config", "privacy", "metrics", "report"),
    ("data", "models", "ledger"),
    ("merging",),
    ("records",),
    ("client", "server", "runtime"),
    ("study",),
    ("verification",),
    ("cli",),
)
"""The rooms, lowest layer first. docs/architecture.md draws them."""

LAYER = {room: layer for layer, rooms in enumerate(LAYERS) for room in rooms}


@dataclass(frozen=True)
class Import:
    """One module that another imports, and where.

    Attributes:
        module: dotted name.
        line: of the statement.
        runtime: False where type checkers alone see it.
    """

    module: str
    line: int
    runtime: bool


@dataclass(frozen=True)
class House:
    """Every file of the package and of the two apps.

    Args:
        sources: source text by dotted name; a package has its own name.
    """

    sources: Mapping[str, str]

    @classmethod
    def standing(cls, root: Path = ROOT) -> House:
        """The house as it stands in a folder."""
        found = {}
        for folder in (PACKAGE, "clients", "server"):
            for path in sorted((root / folder).rglob("*.py")):
                if "_app" not in path.parts:
                    parts = path.relative_to(root).with_suffix("").parts
                    name = ".".join(part for part in parts if part != "__init__")
                    found[name] = path.read_text(encoding="utf-8")
        return cls(found)

    def planted(self, module: str, line: str) -> House:
        """The same house with one line more at the end of a module, or with one module more."""
        return House({**self.sources, module: f"{self.sources.get(module, '')}\n{line}\n"})

    @property
    def library(self) -> list[str]:
        """The package's modules but those that stand in no room."""
        return [m for m in self.sources if m.startswith(f"{PACKAGE}.") and m not in LOOSE]

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """Each module's syntax tree."""
        return {module: ast.parse(text) for module, text in self.sources.items()}

    @cached_property
    def imports(self) -> dict[str, tuple[Import, ...]]:
        """What each module imports, of this house and of others, at the top and in functions."""
        return {module: tuple(self._imports(module)) for module in self.sources}

    def _imports(self, module: str) -> Iterator[Import]:
        tree = self.trees[module]
        for_types = {
            id(node)
            for block in ast.walk(tree)
            if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
            for node in ast.walk(block)
        }
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}:{node.lineno}: relative import"
                whole = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [name if name in self.sources else str(node.module) for name in whole]
            for name in dict.fromkeys(names):
                yield Import(name, node.lineno, id(node) not in for_types)

    def inside(self, module: str, types: bool = False) -> list[Import]:
        """What a module imports of this house; with `types`, also for type checkers alone."""
        return [
            each
            for each in self.imports[module]
            if each.module in self.sources and (each.runtime or types)
        ]

    def variants(self, module: str) -> list[str]:
        """The modules that a module loads by name: the files of a folder, as `variants.load`."""
        tree = self.trees[module]
        named = {"__name__": module} | {
            ast.unparse(node.targets[0]): str(node.value.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        }
        folders = {
            named.get(ast.unparse(node.args[0]), ast.unparse(node.args[0]).strip("'"))
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith("variants.load")
            and node.args
        }
        return [m for m in self.sources if m.rpartition(".")[0] in folders]

    def reached(self, start: str) -> set[str]:
        """Everything that importing and using a module can load of this house."""
        seen: set[str] = set()
        todo = [start]
        while todo:
            module = todo.pop()
            if module not in seen:
                seen.add(module)
                todo += [each.module for each in self.inside(module)]
                todo += self.variants(module)
                package = module.rpartition(".")[0]  # importing a file runs its packages too
                todo += [package] if package in self.sources and package != PACKAGE else []
        return seen


def room(module: str) -> str | None:
    """The room that a module stands in; None for the package itself, its `__main__` and the apps."""
    parts = module.split(".")
    return parts[1] if parts[0] == PACKAGE and module not in LOOSE else None


# ---------------------------------------------------------------- the laws


def loose(house: House) -> Iterator[str]:
    """Modules that stand in no room."""
    for module in house.library:
        if module.count(".") == 1 and not any(m.startswith(f"{module}.") for m in house.sources):
            yield f"{module}: stands loose at the package's root"
        elif room(module) not in LAYER:
            yield f"{module}: no room of that name"


def upward(house: House) -> Iterator[str]:
    """Imports of a room that is not of a lower layer, also those for type checkers alone."""
    for module in house.library:
        own = room(module)
        for found in house.inside(module, types=True):
            other = room(found.module)
            if other is None and found.module not in LOOSE:
                yield f"{module}:{found.line}: imports the app {found.module}"
            elif other is not None and own != other and LAYER[other] >= LAYER[str(own)]:
                yield f"{module}:{found.line}: {own} imports {other}"


def circles(house: House) -> Iterator[str]:
    """Circles of imports between files."""
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> Iterator[str]:
        if module in path:
            circle = path[path.index(module) :]
            first = circle.index(min(circle))
            yield " -> ".join((*circle[first:], *circle[: first + 1]))
        elif module not in done:
            for found in house.inside(module):
                if found.module != PACKAGE:
                    yield from visit(found.module, (*path, module))
            done.add(module)

    for module in house.sources:
        if module != PACKAGE:
            yield from visit(module, ())


WALLS = {
    "server.app": ("client", "verification", "cli"),
    "clients.app": ("server", "study", "verification", "cli"),
}
"""Rooms that nothing leads to from an app."""


def walls(house: House) -> Iterator[str]:
    """What one party's app can load of the other's room."""
    for app, closed in WALLS.items():
        for module in sorted(house.reached(app)):
            if room(module) in closed:
                yield f"{app} leads to {module}"


FLOWER = ("flwr", "ray")


def flower(house: House) -> Iterator[str]:
    """Flower outside of `runtime` and the apps."""
    for module in house.library:
        for found in house.imports[module]:
            if found.module.partition(".")[0] in FLOWER and room(module) != "runtime":
                yield f"{module}:{found.line}: imports {found.module}"


LIGHT = ("config", "report")
HEAVY = (*FLOWER, "torch", "torchvision", "open_clip")


def heavy(house: House) -> Iterator[str]:
    """What `config` and `report` can load of torch or Flower."""
    for start in house.library:
        if room(start) in LIGHT:
            for module in sorted(house.reached(start)):
                for found in house.imports[module]:
                    if found.runtime and found.module.partition(".")[0] in HEAVY:
                        yield f"{start} leads to {module}:{found.line}, which imports {found.module}"


def below(house: House) -> dict[str, set[str]]:
    """The rooms that each room imports at run time."""
    found: dict[str, set[str]] = {name: set() for name in LAYER}
    for module in house.library:
        for each in house.inside(module):
            other = room(each.module)
            if other is not None and other != room(module):
                found[str(room(module))].add(other)
    return found


def all_below(found: Mapping[str, set[str]], name: str) -> set[str]:
    """The rooms that a room stands on, over others too."""
    return found[name].union(*(all_below(found, other) for other in found[name]))


def floors(house: House) -> int:
    """How many rooms stand on one another, by run-time imports."""
    found = below(house)

    def height(name: str) -> int:
        return 1 + max((height(other) for other in found[name]), default=0)

    return max(height(name) for name in found)

"""The house keeps its shape: walls that are named, small rooms, and one thing to each name."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import ROOT

TOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
LINTER = TOOLS["importlinter"]
PRODUCT: list[str] = LINTER["root_packages"]
MOST_FOLDERS, MOST_MODULES = 12, 8
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 350, 60
REASON = "One module because"
"""How a line of the docstring begins that says why a module is longer than others may be."""

OTHER_FRAMEWORKS = "benchmarks/servers/*_app.py"
"""The same service for other servers; each has an environment of its own, where no other is."""


def layers_of(container: str | None) -> set[str]:
    """The names in the contract of layers for a package, or for the packages themselves."""
    contracts = [each for each in LINTER["contracts"] if each["type"] == "layers"]
    (contract,) = (
        each for each in contracts if each.get("containers") == (container and [container])
    )
    return {name.strip() for layer in contract["layers"] for name in layer.split("|")}


def modules_in(folder: Path) -> set[str]:
    """Names of the modules and packages that lie in a folder."""
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    return modules | {path.parent.name for path in folder.glob("[!.]*/*.py")}


@cache
def sources(*packages: str) -> dict[Path, ast.Module]:
    """Every module of these packages, parsed, by its path in the checkout."""
    paths = [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    return {path.relative_to(ROOT): ast.parse(path.read_text()) for path in paths}


def test_every_module_of_serving_has_a_layer() -> None:
    assert layers_of("serving") == modules_in(ROOT / "serving")


def test_every_package_has_a_layer_and_is_checked() -> None:
    packages = {path.parent.name for path in ROOT.glob("[!.]*/*.py")} - {"tests"}
    assert set(PRODUCT) == packages
    assert layers_of(None) == packages


@pytest.mark.parametrize("file", ["Dockerfile", "deploy/triton.Dockerfile"])
def test_every_package_that_is_installed_is_copied_into_images(file: str) -> None:
    installed = {each.rstrip("*") for each in TOOLS["setuptools"]["packages"]["find"]["include"]}
    copied = re.findall(r"^COPY (\w+) \1$", (ROOT / file).read_text(), re.MULTILINE)
    assert set(copied) == installed


def test_serving_is_seen_at_a_glance() -> None:
    inside = [path for path in (ROOT / "serving").iterdir() if not path.name.startswith("_")]
    folders = sorted(path.name for path in inside if path.is_dir())
    modules = sorted(path.name for path in inside if path.suffix == ".py")
    assert len(folders) <= MOST_FOLDERS, folders
    assert len(modules) <= MOST_MODULES, modules


def test_modules_are_short_or_say_why_not() -> None:
    long = {
        str(path): lines
        for path, module in sources("tests", *PRODUCT).items()
        if (lines := (ROOT / path).read_text().count("\n")) > MOST_LINES
        and not has_reason(ast.get_docstring(module) or "")
    }
    assert not long, f"over {MOST_LINES} lines, and no '{REASON} ..' in the docstring: {long}"


def has_reason(docstring: str) -> bool:
    return any(line.startswith(REASON) for line in docstring.splitlines())


def test_functions_are_short() -> None:
    long = {
        f"{path}:{function.lineno} {function.name}": lines
        for path, module in sources("tests", *PRODUCT).items()
        for function, lines in functions(module)
        if lines > MOST_LINES_OF_A_FUNCTION
    }
    assert not long, f"over {MOST_LINES_OF_A_FUNCTION} lines: {long}"


def functions(module: ast.Module) -> Iterator[tuple[Any, int]]:
    """Each with how many lines it has, decorators aside."""
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node, node.end_lineno - node.lineno + 1


def test_no_class_has_the_name_of_another() -> None:
    homes = defaultdict(list)
    for path, module in sources(*PRODUCT).items():
        if not path.match(OTHER_FRAMEWORKS):
            for node in module.body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    homes[node.name].append(str(path))
    shared = {name: where for name, where in homes.items() if len(where) > 1}
    assert not shared, f"a name that means two things: {shared}"


def test_what_a_newcomer_is_told_to_look_at_is_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.partition("## Where to look")[2].partition("##")[0]
    rows = re.findall(r"^\| (?!for |--)(.*?) \| (.*) \|$", table, re.MULTILINE)
    assert len(rows) == 10
    for subject, told in rows:
        paths = re.findall(r"`([\w/]+\.py)`", told)
        assert paths, subject
        for path in paths:
            assert (ROOT / path).is_file(), path

"""No process of ours talks to anybody, or writes a file, that it was not asked to."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.checkout import ROOT
from tests.running.process import running
from tests.running.server import announced
from tests.running.traced import can_trace, contacts, ended, traced, written
from tests.running.waiting import wait_until
from tests.test_house import PRODUCT, sources

TIMEOUT_S = 240
TRAINING = (
    *("--preset", "cifar10-lt", "--imbalance-factor", 4, "--epochs", 1, "--batch-size", 8),
    *("--experts", 2, "--workers", 1),
)


@dataclass(frozen=True)
class Place:
    """Where commands are run whose every file and contact is looked at.

    Attributes:
        folder: the working directory, with an empty home and a folder for temporary files.
        asked: a folder below it, the only one that commands are told to write to.
    """

    folder: Path
    asked: Path

    @property
    def trace(self) -> Path:
        return self.folder / "trace.txt"

    def command(self, *arguments: object) -> list[str]:
        """Traced, where that is possible; the home is looked at everywhere."""
        prefix = traced(self.trace) if can_trace() else []
        return [*prefix, sys.executable, "-m", "ride", *map(str, arguments)]

    def run(self, *arguments: object) -> None:
        """Run a command to its end, which is a good one."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        self.assert_nothing_unasked()

    def assert_nothing_unasked(self) -> None:
        assert list((self.folder / "home").rglob("*")) == []
        if can_trace():
            wait_until(lambda: ended(self.trace))
            assert contacts(self.trace) == []
            allowed = (self.asked, self.folder / "temporary")
            paths = written(self.trace, self.folder)
            assert {path for path in paths if not any(map(path.is_relative_to, allowed))} == set()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for variable, name in (("HOME", "home"), ("TMPDIR", "temporary")):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / name))
    for name in [*os.environ]:
        if name.startswith("XDG_") or name in {"MPLCONFIGDIR", "ORT_DISABLE_TELEMETRY"}:
            monkeypatch.delenv(name)
    for variable, value in (
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("OMP_NUM_THREADS", "1"),
        ("PYTHONPATH", str(ROOT)),
    ):
        monkeypatch.setenv(variable, value)
    asked = tmp_path / "asked"
    asked.mkdir()
    return Place(tmp_path, asked)


@pytest.mark.slow
def test_commands_leave_what_they_were_asked_for_and_talk_to_nobody(
    place: Place, repository: Path, cifar10_folder: Path
) -> None:
    examples, run, scored = ROOT / "examples", place.asked / "run", place.asked / "scored"
    data = ("--data", cifar10_folder, "--device", "cpu")
    place.run("classify", "--repository", repository, *sorted(examples.glob("*.png")))
    place.run("score", examples, "--model", repository, "--output", scored)
    place.run("compare", scored, scored)
    place.run("train", *data, *TRAINING, "--output", run)
    place.run("route", run, *data, "--compare")
    place.run("evaluate", run, *data, "--report", place.asked / "report")
    place.run("export", run, place.asked / "exported")


def test_a_server_leaves_nothing_and_talks_only_to_its_clients(
    place: Place, repository: Path
) -> None:
    log = place.asked / "log.txt"
    flags = ("--port", 0, "--grpc-port", 0)
    image = (ROOT / "examples" / "cup-many.png").read_bytes()
    with running(place.command("serve", repository, *flags), log) as process:
        url = announced(process, log)
        assert httpx.post(f"{url}/v1/classify", content=image).status_code == 200
    assert process.returncode == 0
    place.assert_nothing_unasked()


def test_whatever_imports_onnx_runtime_has_switched_its_telemetry_off() -> None:
    """ONNX Runtime looks when it is imported; a package's own module is run before the others."""
    careless = {
        path.parts[0]
        for path, module in sources(*PRODUCT).items()
        if "onnxruntime" in imported(module) and not switches_off(path.parts[0])
    }
    assert careless == set()


def switches_off(package: str) -> bool:
    own = ast.parse((ROOT / package / "__init__.py").read_text())
    return package == "serving" or "serving" in imported(own)


def imported(module: ast.Module) -> set[str]:
    """The top packages that a module imports, at whatever place."""
    names = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names

"""The `ride` command itself: what all subcommands share at a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import pytest

from ride import STOPPED
from tests.checkout import ROOT
from tests.test_help_pages import COMMANDS

Ride = Callable[..., "subprocess.CompletedProcess[str]"]

ASCII_TERMINALS = (
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
)
BUNDLED = ("--repository", str(ROOT / "model_repository"))
INTERRUPTED_AT_IMPORT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # as at a terminal

def interrupt(event, arguments):
    if event == "import" and arguments[0] == {module!r}:
        os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(interrupt)
sys.argv = ["ride", *{arguments!r}]
import ride
ride.main()
"""


def run_with(environment: Mapping[str, str], *arguments: object) -> tuple[int, str, str]:
    """Exit status, output and errors."""
    done = subprocess.run(
        [sys.executable, "-m", "ride", *map(str, arguments)],
        capture_output=True,
        env={**os.environ, **environment},
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_the_version_is_told(call_ride: Ride) -> None:
    done = call_ride("--version")
    assert (done.returncode, done.stdout) == (0, f"ride {version('ride-server')}\n")


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_has_a_short_name(call_ride: Ride, name: str | None) -> None:
    words = [] if name is None else [name]
    short, long = call_ride(*words, "-h"), call_ride(*words, "--help")
    assert short.returncode == 0
    assert "-h, --help" in short.stdout or "-h" in short.stdout.split()
    assert short.stdout == long.stdout


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("typer", ["--help"]),
        ("numpy", ["--version"]),
        ("rich", ["bench"]),
        ("onnxruntime", ["serve"]),
        ("onnxruntime", ["classify", "photo.png"]),
        ("pyarrow", ["score", "photos", "--output", "nowhere"]),
        ("pyarrow", ["compare", "a", "b"]),
        ("torch", ["train", "--data", "data", "--output", "nowhere"]),
        ("torch", ["evaluate", "nowhere", "--data", "data"]),
        ("torch", ["route", "nowhere", "--data", "data"]),
        ("torch", ["export", "nowhere", "nowhere"]),
        ("torch", ["verify", str(ROOT / "examples"), "--run", "nowhere", *BUNDLED]),
    ],
)
def test_ctrl_c_while_a_command_starts_ends_it_in_order(
    tmp_path: Path, module: str, arguments: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT_IMPORT.format(module=module, arguments=arguments)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == STOPPED, done
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("environment", ASCII_TERMINALS, ids=str)
def test_a_terminal_that_knows_ascii_alone_gets_the_rest_as_escapes(
    repository: Path, cifar10_folder: Path, tmp_path: Path, environment: Mapping[str, str]
) -> None:
    """Names, tables that are cut with an ellipsis, and progress bars alike."""
    folder = tmp_path / "größe"
    folder.mkdir()
    image = (ROOT / "examples" / "cup-many.png").read_bytes()
    (folder / "über.png").write_bytes(image)
    model = ("--repository", repository)
    status, printed, _ = run_with(environment, "classify", *model, folder / "über.png")
    assert (status, "über" in printed) == (0, False)
    assert "ber.png" in printed
    status, _, errors = run_with(environment, "classify", *model, tmp_path / "größe.png")
    assert status == 1
    assert "Traceback" not in errors

    scores = ("--model", repository, "--output", tmp_path / "scores-größe")
    status, _, errors = run_with(environment, "score", folder, *scores)
    assert (status, "Traceback" in errors) == (0, False), errors
    output = ("--output", tmp_path / "run-größe", "--device", "cpu", "--epochs", 1)
    flags = ("--preset", "cifar10-lt", "--imbalance-factor", 4, "--experts", 2)
    status, _, errors = run_with(environment, "train", "--data", cifar10_folder, *flags, *output)
    assert (status, errors) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no name may hold such characters")
def test_names_of_files_send_a_terminal_no_commands(
    repository: Path, tmp_path: Path, call_ride: Ride
) -> None:
    odd = tmp_path / "red\x1b[31m\nline\udcff.png"
    written = f"{tmp_path}/red\\x1b[31m\\nline\\udcff.png"
    odd.write_text("no image")
    for command in (
        ("classify", "--repository", repository, odd),
        ("classify", "--repository", odd, odd),
        ("serve", odd),
        ("score", tmp_path / "none\x1b", "--output", tmp_path / "out"),
        ("score", odd.parent / "*.none", "--model", odd, "--output", tmp_path / "out"),
        ("compare", odd, odd),
        ("train", "--data", odd, "--output", tmp_path / "run"),
        ("evaluate", odd, "--data", odd),
        ("export", odd, tmp_path / "repository"),
    ):
        done = call_ride(*command)
        assert done.returncode == 1, command
        assert "\x1b" not in done.stderr + done.stdout, command
        assert done.stderr.count("\n") == 1, command
        if odd in command[1:3]:
            assert written in done.stderr

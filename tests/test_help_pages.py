"""What `--help` shows: readable at 80 columns, every option with its subject and its text."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

import pytest
import typer

from ride import command_line
from serving.options import MOST_USED

Ride = Callable[..., "CompletedProcess[str]"]
COMMANDS: dict[str, Any] = typer.main.get_command(command_line()).commands  # type: ignore[attr-defined]


def page(call_ride: Ride, name: str, monkeypatch: pytest.MonkeyPatch, columns: int) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    done = call_ride(name, "--help")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", COMMANDS)
def test_no_line_is_longer_than_the_terminal(
    call_ride: Ride, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = page(call_ride, name, monkeypatch, columns=80)
    assert not [line for line in lines if len(line) > 80]
    # Text fills the width: no column squeezes it.
    texts = [line for line in lines if line.startswith("      ") and "[" not in line]
    assert max(map(len, texts)) > 60


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_text_and_a_subject(name: str) -> None:
    options = [each for each in COMMANDS[name].params if each.param_type_name == "option"]
    assert options
    for each in options:
        assert each.help, each.name
        assert each.rich_help_panel, each.name
    most_used = [each for each in options if each.rich_help_panel == MOST_USED]
    assert 1 <= len(most_used) <= 6


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_most_used_comes_first_and_examples_can_be_pasted(
    call_ride: Ride, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = page(call_ride, name, monkeypatch, columns=60)
    panels = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert panels[:2] in (["Arguments:", f"{MOST_USED}:"], [f"{MOST_USED}:", *panels[1:2]])
    text = "\n".join(lines).replace("\\\n", "")
    examples = [line for line in text.splitlines() if line.startswith("  $ ")]
    assert examples
    for example in examples:
        assert shlex.split(example.removeprefix("  $ "))[:2] == ["ride", name]


def test_an_option_shows_its_default_and_its_variable(
    call_ride: Ride, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n".join(page(call_ride, "serve", monkeypatch, columns=80))
    assert "--max-body-mib <int>\n      Largest request body, in MiB.\n" in text
    assert "[env var: RIDE_MAX_BODY_MIB; default: 32]" in text

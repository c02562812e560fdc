"""Options declared as fields of dataclasses: what is typed, and what a command gets of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

import pytest
import typer

from serving.options import argument, option, with_options
from serving.settings import Settings

PANEL = "Panel"


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    colour: Annotated[Colour | None, option("A colour.", PANEL)] = None


@dataclass(frozen=True)
class Request:
    files: Annotated[tuple[str, ...], argument("Files.", kind=list[str], read=tuple)]
    size_bytes: Annotated[int, option("In KiB.", PANEL, flag="--size-kib", unit=1024)] = 2048
    pause_s: Annotated[float, option("In ms.", PANEL, flag="--pause-ms", per=1_000)] = 0.25
    most: Annotated[int | None, option("No more.", PANEL, min=1)] = None
    names: Annotated[
        tuple[str, ...], option("Names.", PANEL, kind=str, read=lambda typed: (typed,), shown="x")
    ] = ("x",)
    loud: Annotated[bool, option("Loud.", PANEL)] = False
    check: Annotated[bool, option("Check.", PANEL, negatable=True)] = True
    inner: Inner = field(default_factory=Inner)
    typed: str = "not an option"


def given(*arguments: str, kind: Any = Request, env_prefix: str | None = None) -> Any:
    """What a command with options of `kind`, and one of its own, gets of arguments."""
    app, got = typer.Typer(add_completion=False), []

    def command(request: Any, other: Annotated[int, option("Other.", PANEL)] = 7) -> None:
        got.append((request, other))

    command.__annotations__["request"] = kind
    app.command()(with_options(env_prefix)(command))
    app(list(arguments), standalone_mode=False)
    return got[0]


def test_nothing_typed_is_the_defaults() -> None:
    assert given("a", "b") == (Request(("a", "b")), 7)
    assert given(kind=Settings, env_prefix="NO_SUCH_") == (Settings(), 7)


@pytest.mark.parametrize(
    ("typed", "name", "value"),
    [
        ("--size-kib=3", "size_bytes", 3 * 1024),
        (f"--size-kib={10**30 + 1}", "size_bytes", (10**30 + 1) * 1024),
        ("--pause-ms=12.5", "pause_s", 0.0125),
        ("--most=4", "most", 4),
        ("--names=y", "names", ("y",)),
        ("--loud", "loud", True),
        ("--no-check", "check", False),
        ("--colour=blue", "inner", Inner(Colour.BLUE)),
    ],
)
def test_what_is_typed_reaches_its_field_in_its_unit(typed: str, name: str, value: object) -> None:
    request, _ = given("a", typed)
    assert getattr(request, name) == value
    assert type(getattr(request, name)) is type(value)


def test_options_of_the_command_stay_beside_them() -> None:
    assert given("a", "--other", "8", "--most", "2") == (Request(("a",), most=2), 8)


def test_only_a_prefix_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIDE_SIZE_KIB", "5")
    assert given("a")[0].size_bytes == 2048
    assert given("a", env_prefix="RIDE_")[0].size_bytes == 5 * 1024
    assert given("a", "--size-kib", "6", env_prefix="RIDE_")[0].size_bytes == 6 * 1024


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ((), "FILES|files"),
        (("a", "--most=0"), "--most"),
        (("a", "--colour=green"), "--colour"),
        (("a", "--typed=x"), "--typed"),
    ],
)
def test_what_is_missing_out_of_range_or_unknown_is_named(
    typed: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer(add_completion=False)

    def command(request: Any) -> None:
        raise AssertionError(request)

    command.__annotations__["request"] = Request
    app.command()(with_options()(command))
    with pytest.raises(SystemExit) as ended:
        app(list(typed))
    assert ended.value.code == 2
    assert re.search(sentence, capsys.readouterr().err)


def test_a_parameter_that_could_not_be_given_is_a_mistake() -> None:
    def command(forgotten: int) -> None:
        raise AssertionError(forgotten)

    with pytest.raises(TypeError, match="without an option: forgotten"):
        with_options()(command)

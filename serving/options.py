"""A command's options as the fields of dataclasses: each declared once, read by Typer, then built.

    @dataclass(frozen=True)
    class Settings:
        port: Annotated[int, option("HTTP port; 0 takes a free one.", LISTEN)] = 8000

    @with_options
    def serve(settings: Settings) -> None: ...

gives `ride serve --port 8000`. A field whose type is such a dataclass brings that one's options.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer

Command = TypeVar("Command", bound=Callable[..., None])

MOST_USED = "Most used"
"""The panel of what most users need, which comes first."""


@dataclass(frozen=True)
class Option:
    """How a field is given on the command line.

    Attributes:
        help: what it means, in sentences.
        panel: the subject that it is listed under.
        flag: where it is not the field's name.
        unit: how many of the field's units one of the flag's is.
        per: how many of the flag's units make one of the field's.
        kind: the type of what is typed, where it is not the field's.
        read: makes the field's value of what was typed; other than by its unit.
        shown: the default as it is typed, where it is not the field's.
        typed: further settings of `typer.Option` or `typer.Argument`.
        argument: whether it is given by its place.
    """

    help: str
    panel: str
    flag: str | None = None
    unit: int = 1
    per: int = 1
    kind: Any = None
    read: Callable[[Any], Any] | None = None
    shown: Any = ...
    typed: Mapping[str, Any] | None = None
    argument: bool = False

    def value(self, typed: Any) -> Any:
        """The field's value."""
        if self.read is not None:
            return self.read(typed)
        if typed is None or self.unit == self.per:
            return typed
        return type(typed)(typed * self.unit / self.per)

    def default(self, own: Any) -> Any:
        """What to type for a field's default."""
        if own is MISSING:
            return inspect.Parameter.empty
        if self.shown is not ...:
            return self.shown
        if own is None or self.unit == self.per:
            return own
        return type(own)(own * self.per / self.unit)


def option(help: str, panel: str, **more: Any) -> Option:  # noqa: A002, as Typer calls it
    """An option; `more` are attributes of `Option`, or settings of `typer.Option`."""
    own = {name: more.pop(name) for name in list(more) if name in Option.__dataclass_fields__}
    return Option(help, panel, **own, typed=more)


def argument(help: str, **more: Any) -> Option:  # noqa: A002
    """An argument, given by its place."""
    return option(help, "Arguments", argument=True, **more)


def with_options(env_prefix: str | None = None) -> Callable[[Command], Command]:
    """Let a command take dataclasses of options; with a prefix, from the environment as well."""

    def expanded(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            if is_dataclass(parameter.annotation):
                parameters += _parameters(parameter.annotation, env_prefix)
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

        @functools.wraps(command)
        def run(**given: Any) -> None:
            command(
                **{
                    name: _build(parameter.annotation, given)
                    if is_dataclass(parameter.annotation)
                    else given[name]
                    for name, parameter in signature.parameters.items()
                }
            )

        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run  # type: ignore[return-value]

    return expanded


def _fields(kind: Any) -> Iterator[tuple[Field[Any], Any, Option | None]]:
    """Fields with their types and options; None for a dataclass of options."""
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        hint = hints[field.name]
        if is_dataclass(hint):
            yield field, hint, None
        elif get_origin(hint) is Annotated:
            plain, *about = get_args(hint)
            yield from ((field, plain, each) for each in about if isinstance(each, Option))


def _name(field: Field[Any], its: Option) -> str:
    return (its.flag or field.name).removeprefix("--").replace("-", "_")


def _parameters(kind: Any, env_prefix: str | None) -> Iterator[inspect.Parameter]:
    for field, hint, its in _fields(kind):
        if its is None:
            yield from _parameters(hint, env_prefix)
            continue
        name, more = _name(field, its), dict(its.typed or {})
        if its.argument:
            declared: Any = typer.Argument(help=its.help, **more)
        else:
            # Typer makes --name and --no-name of a flag, unless it is told the only one.
            names = more.pop("names", () if hint is bool else (f"--{name.replace('_', '-')}",))
            variable = None if env_prefix is None else f"{env_prefix}{name.upper()}"
            declared = typer.Option(
                *names, help=its.help, rich_help_panel=its.panel, envvar=variable, **more
            )
        own = field.default if field.default_factory is MISSING else field.default_factory()
        yield inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=its.default(own),
            annotation=Annotated[its.kind or hint, declared],
        )


def _build(kind: Any, given: Mapping[str, Any]) -> Any:
    return kind(
        **{
            field.name: _build(hint, given) if its is None else its.value(given[_name(field, its)])
            for field, hint, its in _fields(kind)
        }
    )

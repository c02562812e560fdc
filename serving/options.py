"""A command's options as the fields of dataclasses: each declared once, read by Typer, then built.

    @dataclass(frozen=True)
    class Settings:
        port: Annotated[int, option("HTTP port; 0 takes a free one.", LISTEN)] = 8000

    @with_options()
    def serve(settings: Settings) -> None: ...

gives `ride serve --port 8000`. A field whose type is such a dataclass brings that one's options.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer

Command = TypeVar("Command", bound=Callable[..., None])

_BY_NAME = inspect.Parameter.KEYWORD_ONLY

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
        negatable: whether there is --no-.. too.
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
    negatable: bool = False

    def value(self, typed: Any) -> Any:
        """The field's value."""
        if self.read is not None:
            return self.read(typed)
        if typed is None or self.unit == self.per:
            return typed
        return _scaled(typed, self.unit, self.per)

    def default(self, own: Any) -> Any:
        """What to type for a field's default."""
        if own is inspect.Parameter.empty:
            return own
        if self.shown is not ...:
            return self.shown
        if own is None or self.unit == self.per:
            return own
        return _scaled(own, self.per, self.unit)


def _scaled(value: Any, times: int, over: int) -> Any:
    """In another unit; a whole number stays one, and exact however large it is."""
    return value * times // over if isinstance(value, int) else value * times / over


def option(help: str, panel: str, **more: Any) -> Option:  # noqa: A002, as Typer calls it
    """An option; `more` are attributes of `Option`, or settings of `typer.Option`."""
    own = {name: more.pop(name) for name in list(more) if name in Option.__dataclass_fields__}
    return Option(help, panel, **own, typed=more)


def argument(help: str, **more: Any) -> Option:  # noqa: A002
    """An argument, given by its place."""
    return option(help, "Arguments", argument=True, **more)


def with_options(env_prefix: str | None = None) -> Callable[[Command], Command]:
    """Let a command take options and dataclasses of them; with a prefix, of the environment too."""

    def expanded(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        for each in signature.parameters.values():
            if not is_dataclass(each.annotation) and _option(each) is None:
                raise TypeError(f"{command} has a parameter without an option: {each.name}")
        declared = list(_declared(signature.parameters.values(), env_prefix))

        @functools.wraps(command)
        def run(**given: Any) -> None:
            command(**dict(_taken(signature.parameters.values(), given)))

        run.__signature__ = signature.replace(parameters=declared)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in declared}
        return run  # type: ignore[return-value]

    return expanded


def as_typed(options: object, field: str) -> tuple[str, Any]:
    """The flag of a field, and what to type for the value that it has; for messages."""
    (declared,) = (each for each in _fields(type(options)) if each.name == field)
    its = _option(declared)
    assert its is not None, f"{field} is no option"
    return _flag(_name(declared, its)), its.default(getattr(options, field))


def _taken(
    parameters: Iterable[inspect.Parameter], given: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """What each parameter of a command, or field of a dataclass, gets of what was typed."""
    for each in parameters:
        if is_dataclass(each.annotation):
            kind: Any = each.annotation
            yield each.name, kind(**dict(_taken(_fields(kind), given)))
        elif (its := _option(each)) is not None:
            yield each.name, its.value(given[_name(each, its)])


def _declared(
    parameters: Iterable[inspect.Parameter], env_prefix: str | None
) -> Iterator[inspect.Parameter]:
    """The same as Typer reads them."""
    for each in parameters:
        if is_dataclass(each.annotation):
            yield from _declared(_fields(each.annotation), env_prefix)
        elif (its := _option(each)) is not None:
            yield _parameter(each, its, env_prefix)


def _fields(kind: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        own = field.default if field.default_factory is MISSING else field.default_factory()
        default = inspect.Parameter.empty if own is MISSING else own
        yield inspect.Parameter(field.name, _BY_NAME, default=default, annotation=hints[field.name])


def _option(parameter: inspect.Parameter) -> Option | None:
    if get_origin(parameter.annotation) is not Annotated:
        return None
    return next((each for each in get_args(parameter.annotation) if isinstance(each, Option)), None)


def _name(parameter: inspect.Parameter, its: Option) -> str:
    return (its.flag or parameter.name).removeprefix("--").replace("-", "_")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _parameter(own: inspect.Parameter, its: Option, env_prefix: str | None) -> inspect.Parameter:
    name, more, hint = _name(own, its), dict(its.typed or {}), get_args(own.annotation)[0]
    if its.argument:
        declared: Any = typer.Argument(help=its.help, **more)
    else:
        # Typer makes --name and --no-name of a truth value, unless it is told the only one.
        names = () if its.negatable else (_flag(name),)
        variable = None if env_prefix is None else f"{env_prefix}{name.upper()}"
        declared = typer.Option(
            *names, help=its.help, rich_help_panel=its.panel, envvar=variable, **more
        )
    return inspect.Parameter(
        name,
        _BY_NAME,
        default=its.default(own.default),
        annotation=Annotated[its.kind or hint, declared],
    )

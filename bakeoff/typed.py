"""Dataclasses of settings from plain values, checked against their types; unknown names are errors."""

import dataclasses
import types
import typing

from bakeoff.errors import UserError, hint


def build(section: type, values: object, where: str) -> typing.Any:
    """A dataclass of settings from nested dicts; `where` begins what UserError says of a mistake."""
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected a section of settings, found {values!r}")
    hints = typing.get_type_hints(section)
    built = {}
    for name, value in values.items():
        if name not in hints:
            raise UserError(f"{where}: unknown setting {name!r}; {hint(name, hints)}")
        at = f"{where}: {name}"
        built[name] = (
            build(hints[name], value, at) if dataclasses.is_dataclass(hints[name]) else _typed(hints[name], value, at)
        )
    return section(**built)


def _typed(hint: typing.Any, value: typing.Any, where: str) -> typing.Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if typing.get_origin(hint) is types.UnionType:  # one value, or a list of such
        one, several = typing.get_args(hint)
        return _typed(several if isinstance(value, list) else one, value, where)
    if typing.get_origin(hint) is list:
        if not isinstance(value, list):
            raise UserError(f"{where}: expected a list, found {value!r}")
        item = typing.get_args(hint)[0]
        make = build if dataclasses.is_dataclass(item) else _typed
        return [make(item, v, f"{where} {number}") for number, v in enumerate(value, 1)]  # type: ignore[arg-type]
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise UserError(f"{where}: expected {hint.__name__}, found {value!r}")
    return value

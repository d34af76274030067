"""Which keys there are: the settings' models, walked along a way of keys."""

from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

__all__ = ["Model", "at_end_of", "fields_of", "inside", "is_list", "is_mapping", "is_optional", "without_empty"]

Model = type[BaseModel]


def fields_of(kind: Any) -> Mapping[str, FieldInfo]:
    """The keys that are known in a value of this type; none for a mapping with names of the user's choice.

    Of what may be null, those of what it is otherwise.
    """
    if is_optional(kind):
        kind = next(each for each in get_args(kind) if each is not type(None))
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return {}
    return {field.alias or name: field for name, field in kind.model_fields.items()}


def without_empty(kind: Model, data: Any) -> Any:
    """The keys of a section but for the empty ones: one whose own keys are all commented out is null in YAML."""
    if not isinstance(data, dict):
        return data
    return {key: value for key, value in data.items() if value is not None or key not in fields_of(kind)}


def is_mapping(kind: Any) -> bool:
    """Whether the keys are names of the user's choice."""
    return get_origin(kind) is dict


def is_list(kind: Any) -> bool:
    """Whether the value is a list."""
    return get_origin(kind) is tuple


def is_optional(kind: Any) -> bool:
    """Whether null is a value."""
    return get_origin(kind) in (Union, UnionType) and type(None) in get_args(kind)


def inside(kind: Any, key: str | int) -> Any:
    """The type of what stands under `key` in a value of this type, or None if there is no such key."""
    if isinstance(key, str) and key in fields_of(kind):
        return _bare(fields_of(kind)[key].annotation)
    if is_mapping(kind):
        return _bare(get_args(kind)[1])
    if is_list(kind) and isinstance(key, int):
        return _bare(get_args(kind)[0])
    return None


def at_end_of(kind: Any, keys: Iterable[str | int]) -> Any:
    """The type of what stands at the end of a way of keys, or None if there is no such way."""
    for key in keys:
        kind = inside(kind, key)
    return kind


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation

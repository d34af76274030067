"""From the text of a JSON Schema (json-schema.org, draft 4 to 2020-12) to a checker of payloads that can't stall.

All that may be wrong with a schema is found here, at load. Nothing is ever fetched: what `$ref` names is in the file.
How a check is bounded is in `schema_keywords`, in which words a misfit is told in `schema_words`.
"""

from collections.abc import Iterator
from typing import Any, Final

import orjson
from jsonschema import Draft202012Validator, SchemaError, validators
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import specification_with

from gateway.config.problems import shown
from gateway.config.schema_keywords import Budget, TooMuch, bounded_keywords, compile_pattern, copied
from gateway.config.schema_words import misfit, way
from gateway.core.routes import Accepts

__all__ = ["UnfitSchema", "compile_schema"]

DRAFTS: Final = (
    "http://json-schema.org/draft-04/schema",
    "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-07/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
)
MAXIMUM_DEPTH: Final = 64
REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
TRIALS: Final[tuple[Any, ...]] = (None, True, 0, "", [], {})
"""One value of each type, to find a schema that refers to itself without end."""


class UnfitSchema(ValueError):
    """A schema that can't be used; the text says where in it, and why."""


def compile_schema(text: bytes) -> Accepts:
    """What says of a payload how it misfits the schema, with the path to where.

    Raises:
        UnfitSchema: it is no schema, refers to something outside of itself, or can't be checked within bounds.
    """
    schema = _read(text)
    kind = _draft(schema)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise UnfitSchema(f"{way('', error.absolute_path)}: {error.message[:200]}") from None
    draft = kind.ID_OF(kind.META_SCHEMA)
    schema.pop("$schema", None)  # the library would go back to its own keywords where it meets this
    resource = specification_with(draft).create_resource(schema)
    patterns, parts = {}, list(_parts(resource))
    for where, part in parts:
        for pattern in _patterns(part):
            try:
                patterns[pattern] = compile_pattern(pattern)
            except ValueError as error:
                raise UnfitSchema(f"{where}: {error}") from None
    for where, part in parts:
        if "unevaluatedProperties" in part and patterns:  # the library would match those by itself, in any time
            raise UnfitSchema(f"{where}: expected `additionalProperties` in a schema with patterns")
    budget = Budget()
    keywords = bounded_keywords(kind.VALIDATORS, budget, patterns)
    bounded = validators.extend(kind, keywords)  # type: ignore[no-untyped-call]
    validator = bounded(schema, registry=Registry())

    def accepts(data: Any) -> str | None:
        try:
            budget.renew()
            error = next(validator.iter_errors(copied(data)), None)
        except TooMuch as too_much:
            return f"data: {too_much}"
        return None if error is None else misfit(error)

    _try(accepts)
    return accepts


def _read(text: bytes) -> dict[str, Any]:
    try:
        schema = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UnfitSchema(f"expected JSON: {error}") from None
    if not isinstance(schema, dict):
        raise UnfitSchema(f"expected a JSON object, found {shown(schema)}")
    _check_shape(schema)
    return schema


def _check_shape(schema: Any) -> None:
    """No deeper than can be walked, and of one draft throughout."""
    level = [schema]
    for depth in range(MAXIMUM_DEPTH + 1):
        if depth and any(isinstance(part, dict) and isinstance(part.get("$schema"), str) for part in level):
            raise UnfitSchema("expected `$schema` only at the top")
        level = [
            inner
            for part in level
            if isinstance(part, (dict, list))
            for inner in (part.values() if isinstance(part, dict) else part)
        ]
        if not level:
            return
    raise UnfitSchema(f"expected at most {MAXIMUM_DEPTH} levels of nesting, found more")


def _draft(schema: dict[str, Any]) -> Any:
    """The validator of the draft that `$schema` names, or of the newest."""
    if "$schema" not in schema:
        return Draft202012Validator
    named = schema["$schema"]
    if not isinstance(named, str) or named.removesuffix("#") not in DRAFTS:
        raise UnfitSchema(f"$schema: expected {', '.join(DRAFTS)}, found {shown(named)}")
    return validators.validator_for(schema)


def _parts(resource: Resource[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """All schemas within a schema, and what they refer to, each with its place in words.

    Raises:
        UnfitSchema: one refers to what isn't there.
    """
    resolver = Registry().with_resource("", resource).crawl().resolver_with_root(resource)
    waiting, seen = [(resource, resolver, "schema")], set()
    while waiting:
        part, resolver, where = waiting.pop()
        schema = part.contents
        if not isinstance(schema, dict) or id(schema) in seen:
            continue
        seen.add(id(schema))
        yield where, schema
        for key in REFERENCES:
            reference = schema.get(key)
            if not isinstance(reference, str):
                continue
            try:
                found = resolver.lookup(reference)
            except (Unresolvable, ValueError):
                raise UnfitSchema(
                    f"{key}: expected a reference into this file, such as #/$defs/level, found {shown(reference)}"
                ) from None
            waiting.append((part._specification.create_resource(found.contents), found.resolver, reference))
        waiting += ((inner, resolver.in_subresource(inner), where) for inner in part.subresources())


def _patterns(schema: dict[str, Any]) -> Iterator[str]:
    if isinstance(schema.get("pattern"), str):
        yield schema["pattern"]
    if isinstance(schema.get("patternProperties"), dict):
        yield from schema["patternProperties"]


def _try(accepts: Accepts) -> None:
    for value in TRIALS:
        try:
            accepts(value)
        except RecursionError:
            raise UnfitSchema("$ref: expected an end, found a schema that refers to itself without one") from None

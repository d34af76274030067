"""A route's `schema`: a file with a JSON Schema, read and compiled once, when the configuration is loaded."""

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final, TypeAlias

from pydantic import PlainValidator

from gateway.config.files import path_of, read_bounded
from gateway.config.problems import shown
from gateway.core.routes import Accepts

__all__ = ["MAXIMUM_SCHEMA_BYTES", "SchemaFile", "SchemaFromFile"]

MAXIMUM_SCHEMA_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class SchemaFile:
    """A file, and the checker that was made of it."""

    path: Path
    accepts: Accepts = field(compare=False)
    digest: bytes
    """Of what is in it: checkers themselves can't be compared."""


def _read_schema(value: object) -> SchemaFile:
    path = path_of(value)
    from gateway.config.json_schema import UnfitSchema, compile_schema  # slow to import, and most need none

    text = read_bounded(path, MAXIMUM_SCHEMA_BYTES)
    try:
        return SchemaFile(path, compile_schema(text), sha256(text).digest())
    except UnfitSchema as error:
        raise ValueError(f"{error} (in {shown(path.name)})") from None


SchemaFromFile: TypeAlias = Annotated[SchemaFile, PlainValidator(_read_schema)]

"""What the values of Sparkplug B metrics are in JSON, by their datatype (specification 3.0, §6.4.16).

Signed numbers travel as two's complement in unsigned fields. Dates are text (RFC 3339), bytes and files base64, data
sets and templates objects.
"""

import struct
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

from gateway.core.codec import PayloadError

__all__ = ["MAXIMUM_DEPTH", "Values", "name_of_type"]

MAXIMUM_DEPTH: Final = 16
"""Templates within templates, property sets within property sets."""
_NAMES: Final = (
    "Unknown", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float", "Double", "Boolean",
    "String", "DateTime", "Text", "UUID", "DataSet", "Bytes", "File", "Template", "PropertySet", "PropertySetList",
    "Int8Array", "Int16Array", "Int32Array", "Int64Array", "UInt8Array", "UInt16Array", "UInt32Array", "UInt64Array",
    "FloatArray", "DoubleArray", "BooleanArray", "StringArray", "DateTimeArray",
)  # fmt: skip
"""By their numbers."""
_BITS: Final[Mapping[str, int]] = MappingProxyType({"Int8": 8, "Int16": 16, "Int32": 32, "Int64": 64})
_ARRAYS: Final[Mapping[str, str]] = MappingProxyType(
    {**dict(zip(_NAMES[22:32], "bhiqBHIQfd", strict=True)), "DateTimeArray": "q"}
)
"""How the values of an array lie in its bytes, one after the other, the lowest byte first."""
_SIMPLE_FIELDS: Final = ("int_value", "long_value", "float_value", "double_value", "boolean_value", "string_value")
_VALUE_FIELDS: Final = (*_SIMPLE_FIELDS, "bytes_value", "dataset_value", "template_value")


def name_of_type(datatype: int) -> str:
    """The datatype of a number."""
    return _NAMES[datatype] if datatype < len(_NAMES) else "Unknown"


class Values:
    """The values of one payload: so many in all, lest one takes too long."""

    def __init__(self, most: int) -> None:
        self._left = most

    def of_metric(self, metric: Any, datatype: int, depth: int = 0) -> Any:
        """What a metric says.

        Raises:
            PayloadError: it isn't of its datatype, or there are too many values, or levels.
        """
        self._spend(1, depth)
        if metric.is_null:
            return None
        kind = name_of_type(datatype)
        field = next((field for field in _VALUE_FIELDS if metric.HasField(field)), None)
        if field is None:
            return None
        value = getattr(metric, field)
        if field == "dataset_value":
            return self._data_set(value, depth)
        if field == "template_value":
            return self._template(value, depth)
        return self._array(kind, value) if field == "bytes_value" and kind.endswith("Array") else _plain(kind, value)

    def _spend(self, count: int, depth: int) -> None:
        self._left -= count
        if self._left < 0:
            raise PayloadError("expected fewer values in one payload")
        if depth > MAXIMUM_DEPTH:
            raise PayloadError(f"expected at most {MAXIMUM_DEPTH} levels of templates or properties")

    def _data_set(self, found: Any, depth: int) -> Any:
        kinds = [name_of_type(each) for each in found.types]
        rows = []
        for row in found.rows:
            self._spend(1 + len(row.elements), depth)
            if len(row.elements) != len(kinds):
                raise PayloadError(f"expected {len(kinds)} elements in each row of a data set")
            rows.append([_of_one(kind, each) for kind, each in zip(kinds, row.elements, strict=True)])
        self._spend(len(kinds) + len(found.columns), depth)
        return {"columns": list(found.columns), "types": kinds, "rows": rows}

    def _template(self, found: Any, depth: int) -> Any:
        said: dict[str, Any] = {"template": found.template_ref} if found.template_ref else {}
        if found.version:
            said["version"] = found.version
        said["metrics"] = {metric.name: self.of_metric(metric, metric.datatype, depth + 1) for metric in found.metrics}
        if found.parameters:
            self._spend(len(found.parameters), depth)
            said["parameters"] = {each.name: _of_one(name_of_type(each.type), each) for each in found.parameters}
        return said

    def properties(self, found: Any, depth: int = 0) -> dict[str, Any]:
        """A metric's properties, such as its unit.

        Raises:
            PayloadError: as `of_metric`.
        """
        self._spend(1 + len(found.values), depth)
        if len(found.keys) != len(found.values):
            raise PayloadError("expected as many keys as values in a set of properties")
        return {key: self._property(value, depth) for key, value in zip(found.keys, found.values, strict=True)}

    def _property(self, value: Any, depth: int) -> Any:
        if value.HasField("propertyset_value"):
            return self.properties(value.propertyset_value, depth + 1)
        if value.HasField("propertysets_value"):
            self._spend(1, depth)
            return [self.properties(each, depth + 1) for each in value.propertysets_value.propertyset]
        return None if value.is_null else _of_one(name_of_type(value.type), value)

    def _array(self, kind: str, raw: bytes) -> list[Any]:
        found = list(islice(_array(kind, raw), self._left + 1))
        self._spend(len(found), 0)
        return found


def _array(kind: str, raw: bytes) -> Iterable[Any]:
    if kind == "StringArray":
        return _strings(raw)
    if kind == "BooleanArray":
        return _booleans(raw)
    code = _ARRAYS[kind]
    size = struct.calcsize(f"<{code}")
    if len(raw) % size:
        raise PayloadError(f"expected {kind} of {size} bytes a value, found {len(raw)} bytes")
    found = struct.unpack(f"<{len(raw) // size}{code}", raw)
    return map(_date, found) if kind == "DateTimeArray" else found


def _of_one(kind: str, value: Any) -> Any:
    """What an element of a data set, a parameter or a property says."""
    field = next((field for field in _SIMPLE_FIELDS if value.HasField(field)), None)
    return None if field is None else _plain(kind, getattr(value, field))


def _plain(kind: str, value: Any) -> Any:
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if kind in _BITS and type(value) is int:
        bits = _BITS[kind]
        value &= (1 << bits) - 1
        return value - (1 << bits) if value >> (bits - 1) else value
    if kind == "DateTime" and type(value) is int:
        return _date(value)
    return value


def _date(milliseconds: int) -> str:
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    except OverflowError:
        raise PayloadError(f"expected a date until the year 9999, found {milliseconds} ms") from None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _strings(raw: bytes) -> Iterator[str]:
    """Each ends with a NUL."""
    if raw and not raw.endswith(b"\0"):
        raise PayloadError("expected a NUL after each string of an array")
    try:
        yield from (each.decode() for each in raw.split(b"\0")[:-1])
    except UnicodeDecodeError:
        raise PayloadError("expected UTF-8 in an array of strings") from None


def _booleans(raw: bytes) -> Iterator[bool]:
    """Their number, then eight in a byte, the first in the highest bit."""
    count = int.from_bytes(raw[:4], "little")
    if len(raw) != 4 + (count + 7) // 8:
        raise PayloadError("expected an array of booleans as long as it says")
    yield from (bool(raw[4 + place // 8] >> (7 - place % 8) & 1) for place in range(count))

"""Payloads of Sparkplug B, as an edge node would write them."""

from collections.abc import Mapping
from typing import Any, Final

from bridges.codec_sparkplug_schema import make_payload_class

__all__ = ["birth", "payload"]

TYPES: Final[Mapping[str, tuple[int, str]]] = {
    "Int8": (1, "int_value"),
    "Int32": (3, "int_value"),
    "Int64": (4, "long_value"),
    "UInt64": (8, "long_value"),
    "Float": (9, "float_value"),
    "Double": (10, "double_value"),
    "Boolean": (11, "boolean_value"),
    "String": (12, "string_value"),
    "DateTime": (13, "long_value"),
    "Bytes": (17, "bytes_value"),
}


def payload(*metrics: tuple[str | int, str | None, Any], seq: int | None = None) -> Any:
    """A payload of metrics: each a name or alias, a datatype (None leaves it out) and a value; None is null."""
    made = make_payload_class()(timestamp=1_700_000_000_000)
    if seq is not None:
        made.seq = seq
    for name, datatype, value in metrics:
        metric = made.metrics.add()
        setattr(metric, "name" if isinstance(name, str) else "alias", name)
        if datatype is not None:
            metric.datatype = TYPES[datatype][0]
        if value is None:
            metric.is_null = True
        else:
            field = "double_value" if datatype is None else TYPES[datatype][1]
            setattr(metric, field, value)
    return made


def birth(death: int | None, *metrics: tuple[str, int, str, Any], seq: int = 0) -> bytes:
    """A birth certificate: each metric with name, alias, datatype and value; a node's has the `bdSeq` of its death."""
    made = payload(*((name, datatype, value) for name, _, datatype, value in metrics), seq=seq)
    for metric, (_, alias, _, _) in zip(made.metrics, metrics, strict=True):
        metric.alias = alias
    if death is not None:
        made.metrics.add(name="bdSeq", datatype=8, long_value=death)
    raw: bytes = made.SerializeToString()
    return raw

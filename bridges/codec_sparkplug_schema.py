"""The messages of Sparkplug B (specification 3.0, §6.4), built from a table: no code is generated, no file shipped."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto

__all__ = ["make_payload_class"]

PACKAGE: Final = "org.eclipse.tahu.protobuf"
_TYPES: Final[Mapping[str, FieldDescriptorProto.Type.ValueType]] = MappingProxyType(
    {
        "uint32": FieldDescriptorProto.TYPE_UINT32,
        "uint64": FieldDescriptorProto.TYPE_UINT64,
        "float": FieldDescriptorProto.TYPE_FLOAT,
        "double": FieldDescriptorProto.TYPE_DOUBLE,
        "bool": FieldDescriptorProto.TYPE_BOOL,
        "string": FieldDescriptorProto.TYPE_STRING,
        "bytes": FieldDescriptorProto.TYPE_BYTES,
    }
)
_MESSAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Payload": "1 timestamp uint64, 2 metrics *Metric, 3 seq uint64, 4 uuid string, 5 body bytes",
        "Metric": "1 name string, 2 alias uint64, 3 timestamp uint64, 4 datatype uint32, 5 is_historical bool,"
        "6 is_transient bool, 7 is_null bool, 8 metadata MetaData, 9 properties PropertySet, 10 int_value uint32,"
        "11 long_value uint64, 12 float_value float, 13 double_value double, 14 boolean_value bool,"
        "15 string_value string, 16 bytes_value bytes, 17 dataset_value DataSet, 18 template_value Template",
        "MetaData": "1 is_multi_part bool, 2 content_type string, 3 size uint64, 4 seq uint64, 5 file_name string,"
        "6 file_type string, 7 md5 string, 8 description string",
        "PropertySet": "1 keys *string, 2 values *PropertyValue",
        "PropertySetList": "1 propertyset *PropertySet",
        "PropertyValue": "1 type uint32, 2 is_null bool, 3 int_value uint32, 4 long_value uint64, 5 float_value float,"
        "6 double_value double, 7 boolean_value bool, 8 string_value string, 9 propertyset_value PropertySet,"
        "10 propertysets_value PropertySetList",
        "DataSet": "1 num_of_columns uint64, 2 columns *string, 3 types *uint32, 4 rows *Row",
        "Row": "1 elements *DataSetValue",
        "DataSetValue": "1 int_value uint32, 2 long_value uint64, 3 float_value float, 4 double_value double,"
        "5 boolean_value bool, 6 string_value string",
        "Template": "1 version string, 2 metrics *Metric, 3 parameters *Parameter, 4 template_ref string,"
        "5 is_definition bool",
        "Parameter": "1 name string, 2 type uint32, 3 int_value uint32, 4 long_value uint64, 5 float_value float,"
        "6 double_value double, 7 boolean_value bool, 8 string_value string",
    }
)
"""Number, name and type of each field; `*` for those that may stand several times."""


def make_payload_class() -> Any:
    """The class of Sparkplug B payloads."""
    file = descriptor_pb2.FileDescriptorProto(name="sparkplug_b.proto", package=PACKAGE, syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields.split(","):
            number, field_name, kind = field.split()
            _add(message, int(number), field_name, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.Payload"))


def _add(message: descriptor_pb2.DescriptorProto, number: int, name: str, kind: str) -> None:
    repeated, kind = kind.startswith("*"), kind.removeprefix("*")
    field = message.field.add(name=name, number=number)
    field.label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    if kind in _TYPES:
        field.type = _TYPES[kind]
    else:
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"

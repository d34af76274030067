"""A descriptor file as `protoc --descriptor_set_out --include_imports` would write it, made by the library alone."""

from google.protobuf import any_pb2, descriptor_pb2, struct_pb2, timestamp_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

__all__ = ["descriptors"]


def descriptors() -> bytes:
    """The message `plant.Reading`, with what it imports."""
    file = descriptor_pb2.FileDescriptorProto(name="plant.proto", package="plant", syntax="proto3")
    imported = [module.DESCRIPTOR for module in (timestamp_pb2, struct_pb2, any_pb2)]
    file.dependency.extend(each.name for each in imported)
    message = file.message_type.add(name="Reading")
    for number, (name, kind, type_name) in enumerate(
        (
            ("temp_c", Field.TYPE_DOUBLE, None),
            ("serial", Field.TYPE_UINT64, None),
            ("label", Field.TYPE_STRING, None),
            ("raw", Field.TYPE_BYTES, None),
            ("parts", Field.TYPE_MESSAGE, ".plant.Reading"),
            ("samples", Field.TYPE_INT32, None),
            ("at", Field.TYPE_MESSAGE, ".google.protobuf.Timestamp"),
            ("more", Field.TYPE_MESSAGE, ".google.protobuf.Struct"),
            ("anything", Field.TYPE_MESSAGE, ".google.protobuf.Any"),
        ),
        1,
    ):
        repeated = name in ("parts", "samples")
        label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
        message.field.add(name=name, number=number, type=kind, label=label, type_name=type_name)
    files = descriptor_pb2.FileDescriptorSet()
    for each in imported:
        each.CopyToProto(files.file.add())
    files.file.append(file)
    return files.SerializeToString()

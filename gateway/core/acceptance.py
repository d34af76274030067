"""What a route lets through to devices: data is checked, then encoded, the same way for `publish` and `request`."""

from gateway.core.errors import BadMessage
from gateway.core.payload import PayloadError, encode
from gateway.core.routes import RouteSpec

__all__ = ["encode_accepted"]


def encode_accepted(spec: RouteSpec, data: object, *, binary: bool) -> bytes:
    """The bytes that a device is given for a browser's data, if the route accepts that.

    Raises:
        BadMessage: it doesn't, or the data isn't of the route's payload; it names the field.
    """
    if spec.accepts is not None:
        if binary:  # its bytes could spell anything, past the check
            raise BadMessage("binary: expected data that is no base64, since the route has a schema")
        problem = spec.accepts(data)
        if problem is not None:
            raise BadMessage(problem)
    if spec.transform_to_device is not None:
        if binary:
            raise BadMessage("binary: expected data that is no base64, since the route transforms it")
        try:
            data = spec.transform_to_device(data)
        except PayloadError as error:
            raise BadMessage(f"data: {error}") from None
    return encode(spec.payload, data, binary=binary)

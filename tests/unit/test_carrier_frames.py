"""Frames that all clients share, compressed or not."""

import zlib
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame
from websockets.streams import StreamReader

from bridges.carrier_frames import WINDOW_BITS, binary_frame, compressed, text_frame
from bridges.websocket import SPEECHES

RSV1 = 0x40
SIZES = st.sampled_from([0, 1, 125, 126, 65_535, 65_536, 70_000])


def read(data: bytes) -> Frame:
    """The one frame that these bytes are, by the library's own reader; but it is left compressed."""
    reader = StreamReader()
    reader.feed_data(bytes((data[0] & ~RSV1,)) + data[1:])
    parser = Frame.parse(reader.read_exact, mask=False)
    try:
        next(parser)
    except StopIteration as end:
        frame: Frame = end.value
        assert not reader.buffer
        return replace(frame, rsv1=bool(data[0] & RSV1))
    raise AssertionError("no whole frame")


@given(SIZES)
def test_a_frame_of_any_size_is_read_as_it_was_written(size: int) -> None:
    payload = b"x" * size
    for frame, opcode in ((read(text_frame(payload)), 1), (read(binary_frame(payload)), 2)):
        assert (frame.opcode, frame.data, frame.fin, frame.rsv1) == (opcode, payload, True, False)


@given(st.binary(max_size=300), st.integers(1, 300), st.booleans())
def test_what_is_compressed_is_inflated_to_the_same_by_itself(part: bytes, times: int, text: bool) -> None:
    payload = part * times
    frame = read(compressed(payload, text=text))
    assert frame.opcode == (1 if text else 2)
    if frame.rsv1:
        assert len(frame.data) < len(payload)
        inflated = zlib.decompressobj(wbits=-WINDOW_BITS).decompress(bytes(frame.data) + b"\0\0\xff\xff")
        assert inflated == payload
    else:
        assert frame.data == payload


def test_what_gets_no_smaller_is_not_compressed() -> None:
    assert not read(compressed(Random(1).randbytes(2000), text=False)).rsv1


def test_only_what_is_large_enough_is_compressed() -> None:
    for speech in SPEECHES.values():
        framing, payload = speech.compressing(100), b'{"type":"ping","x":"%b"}' % (b"a" * 200)
        assert read(framing("ping", payload, None)).rsv1
        small = b'{"type":"ping"}'
        assert framing("ping", small, None) == speech.framing("ping", small, None)


def test_who_names_no_subprotocol_shares_the_bytes_of_who_names_the_usual_one() -> None:
    assert SPEECHES[None] is SPEECHES["tidegate.v1.json"]

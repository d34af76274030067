import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadMessage, TidegateError
from gateway.core.limit_errors import RoomRateLimited, TooManyRooms
from gateway.core.limits import Limits
from gateway.core.plain_rooms import MEMORY_SECONDS, PlainRooms, RoomRates
from gateway.core.publishing import Sending
from tests.unit.conftest import HandClock, make_world


def test_clients_of_one_address_bring_so_many_rooms_into_use(clock: HandClock) -> None:
    rooms = PlainRooms(100, clock)
    rooms.use("a", "here", 2)
    rooms.use("b", "here", 2)
    rooms.use("a", "here", 2)
    with pytest.raises(TooManyRooms) as refused:
        rooms.use("c", "here", 2)
    assert (refused.value.limit, refused.value.retry_after_seconds) == ("rooms_per_address", MEMORY_SECONDS)
    rooms.use("c", "there", 2)
    rooms.use("c", "here", 2)  # it is in use already


def test_all_together_bring_so_many_into_use(clock: HandClock) -> None:
    rooms = PlainRooms(2, clock)
    rooms.use("a", "here", 9)
    rooms.use("b", "there", 9)
    with pytest.raises(TooManyRooms) as refused:
        rooms.use("c", "elsewhere", 9)
    assert refused.value.limit == "rooms"


def test_a_room_that_nobody_uses_any_more_counts_no_more(clock: HandClock) -> None:
    rooms = PlainRooms(2, clock)
    rooms.use("a", "here", 9)
    rooms.use("b", "here", 9)
    clock.advance(MEMORY_SECONDS - 1)
    rooms.use("a", "there", 9)
    clock.advance(1)
    rooms.use("c", "here", 2)
    assert len(rooms) == 2
    with pytest.raises(TooManyRooms) as refused:
        rooms.use("d", "there", 9)
    assert refused.value.retry_after_seconds == MEMORY_SECONDS - 1
    clock.advance(MEMORY_SECONDS)
    assert len(rooms) == 0


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("xy"), st.sampled_from([0, 100, 400])), max_size=60)
)
def test_rooms_are_counted_as_a_naive_model_has_them(steps: list[tuple[str, str, int]]) -> None:
    clock = HandClock()
    rooms, known = PlainRooms(4, clock), dict[str, tuple[str, float]]()
    for room, address, pause in steps:
        clock.advance(pause)
        known = {name: (owner, at) for name, (owner, at) in known.items() if at + MEMORY_SECONDS > clock.now}
        may = room in known or (len(known) < 4 and sum(owner == address for owner, _ in known.values()) < 3)
        try:
            rooms.use(room, address, 3)
        except TidegateError:
            assert not may
        else:
            assert may
            known[room] = (known.get(room, (address, 0.0))[0], clock.now)
        assert len(rooms) == len(known)


def test_all_senders_of_a_room_share_its_rate(clock: HandClock) -> None:
    rates = RoomRates(Limits(publishes_per_room_per_second=2, publishes_per_room_burst=3), clock)
    for _ in range(3):
        rates.spend("a")
    with pytest.raises(RoomRateLimited, match="at most 2 messages a second") as refused:
        rates.spend("a")
    assert refused.value.retry_after_seconds == 0.5
    rates.spend("b")
    clock.advance(0.5)
    rates.spend("a")


def test_no_more_rates_are_remembered_than_may_be(clock: HandClock) -> None:
    rates = RoomRates(Limits(publishes_per_room_burst=1), clock, capacity=2)
    for room in "abc":
        rates.spend(room)
    assert len(rates) == 2
    rates.spend("a")
    with pytest.raises(RoomRateLimited):
        rates.spend("c")  # used later than `b`, which was forgotten
    rates.spend("b")
    with pytest.raises(RoomRateLimited):
        rates.spend("c")


def test_sending_into_a_devices_room_brings_no_room_into_use() -> None:
    world = make_world(limits=Limits(rooms=1, rooms_per_address=1))
    for number in range(5):
        world.namespace.publish(Sending(f"devices/fan-{number}/commands", {}), lambda error: None)
    world.namespace.publish(Sending("chat/x", 1), lambda error: None)
    with pytest.raises(TooManyRooms):
        world.namespace.publish(Sending("chat/y", 1), lambda error: None)


def test_an_address_whose_rooms_are_all_forgotten_is_forgotten_itself(clock: HandClock) -> None:
    rooms = PlainRooms(100, clock)
    for number in range(50):
        rooms.use(f"room-{number}", f"address-{number}", 9)
    clock.advance(MEMORY_SECONDS)
    assert len(rooms) == 0
    assert not rooms._by_address


def test_a_room_counts_for_ten_minutes(clock: HandClock) -> None:
    rooms = PlainRooms(1, clock)
    rooms.use("a", "here", 9)
    clock.advance(599)
    assert len(rooms) == 1
    clock.advance(1)
    assert len(rooms) == 0


def test_a_role_may_bring_more_rooms_into_use_than_others() -> None:
    world = make_world(limits=Limits(rooms_per_address=1))
    for room in ("chat/a", "chat/b"):
        world.namespace.publish(Sending(room, 1, address="here", rooms_per_address=2), lambda error: None)
    with pytest.raises(TooManyRooms):
        world.namespace.publish(Sending("chat/c", 1, address="here"), lambda error: None)


def test_what_is_sent_to_devices_and_what_is_asked_of_them_shares_the_rate_of_the_room() -> None:
    world = make_world(limits=Limits(publishes_per_room_burst=2))
    world.upstream.reply_topic = "replies"
    world.namespace.publish(Sending("devices/fan/commands", {}), lambda error: None)
    world.namespace.requests.send("me", "devices/fan/commands", {}, lambda answer: None)
    with pytest.raises(RoomRateLimited):
        world.namespace.publish(Sending("devices/fan/commands", {}), lambda error: None)
    with pytest.raises(RoomRateLimited):
        world.namespace.requests.send("me", "devices/fan/commands", {}, lambda answer: None)
    assert len(world.upstream.published) == 2


def test_a_refused_message_brings_no_room_into_use() -> None:
    world = make_world(limits=Limits(rooms=1))
    for bad in (Sending("chat/a", "no base64!", binary=True), Sending("chat/#", 1)):
        with pytest.raises(BadMessage):
            world.namespace.publish(bad, lambda error: None)
    assert len(world.namespace.plain_rooms) == 0


def test_an_error_names_no_more_of_a_room_than_fits_a_line(clock: HandClock) -> None:
    rates = RoomRates(Limits(publishes_per_room_burst=1), clock)
    rates.spend("x" * 60_000)
    with pytest.raises(RoomRateLimited) as refused:
        rates.spend("x" * 60_000)
    assert len(refused.value.message) < 300

from tests.unit.conftest import World


def notices(written: list[dict[str, object]]) -> list[tuple[object, object]]:
    return [(sent["name"], sent["state"]) for sent in written if sent["type"] == "upstream"]


def test_every_session_hears_each_change_once(world: World) -> None:
    sinks = [world.join()[1] for _ in range(2)]
    for up in (False, False, True, True, False):
        world.namespace.upstream_states.changed("plant", up)
    for sink in sinks:
        assert notices(sink.written) == [("plant", "down"), ("plant", "up"), ("plant", "down")]


def test_after_welcome_come_those_that_are_away(world: World) -> None:
    for name, up in [("north", False), ("south", False), ("north", True)]:
        world.namespace.upstream_states.changed(name, up)
    _, sink, conversation = world.join()
    conversation.greet(25)
    assert [sent["type"] for sent in sink.written] == ["welcome", "upstream"]
    assert notices(sink.written) == [("south", "down")]


def test_who_has_left_hears_nothing(world: World) -> None:
    session, sink, _ = world.join()
    session.end()
    world.namespace.upstream_states.changed("plant", False)
    assert sink.written == []

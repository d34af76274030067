"""Three nodes over Redis against a naive model of one room, whatever happens to them."""

from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.presence import PresenceBounds, Who
from tests.presence_nodes import ANN, PresenceNode, PresenceWorld, presence_world
from tests.redis import RedisServer, redis_server
from tests.unit.test_presence import Listener, Naive


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("presence")) as running:
        yield running


PEOPLE = st.sampled_from([Who(kind, name) for kind in ("user", "member") for name in "ab"])
NODE = st.integers(0, 2)
ACT = st.one_of(
    st.tuples(st.sampled_from(["enter", "leave"]), NODE, PEOPLE, st.sampled_from("12")),
    st.tuples(st.just("state"), NODE, PEOPLE, st.sampled_from("xy")),
)
Act = tuple[str, int, Who, str]
STEP = st.one_of(ACT, st.tuples(st.sampled_from(["die", "blink"]), NODE, st.lists(ACT, max_size=3)), st.just("time"))
Step = Act | tuple[str, int, list[Act]] | str
GRACE_SECONDS = 1000.0
"""So long, and with the time that passes in three steps, that it is no matter how slow the machine is."""


class Model:
    """Three nodes over Redis, each with a listener, beside a room in the plainest way."""

    def __init__(self, world: PresenceWorld, grace_seconds: float) -> None:
        self.world = world
        self.naive = Naive(grace_seconds)
        self.listeners: dict[str, Listener] = {}
        for _ in range(3):
            self.join()

    def join(self) -> None:
        node = self.world.join()
        listener = self.listeners[node.life] = Listener()
        for change in node.take():
            listener.hear(change)
        node.presence.attach(listener.hear)

    def step(self, step: Step) -> None:
        match step:
            case str():
                self.world.advance(400)
            case "die", int(index), list(acts):
                for act in acts:
                    self.act(act)
                self.die(self.world.nodes[index])
                self.join()
            case "blink", int(index), list(acts):
                self.blink(self.world.nodes[index], acts)
            case _:
                self.act(step)  # type: ignore[arg-type]

    def die(self, node: PresenceNode) -> None:
        self.world.kill(node)
        for who, person in tuple(self.naive.people.items()):
            for source in tuple(person.sources):
                if source.startswith(node.life):
                    self.naive.act(self.world.clock.now, "leave", who, source)

    def blink(self, node: PresenceNode, acts: list[Act]) -> None:
        """A node is cut off for a moment, while all act."""
        self.world.do(node.go_away)
        at = self.world.nodes.index(node)
        for act in [act for act in acts if act[1] != at] + [act for act in acts if act[1] == at]:
            self.act(act)  # those of the node itself are heard last
        self.world.do(node.come_back)

    def act(self, act: Act) -> None:
        what, index, who, detail = act
        node = self.world.nodes[index]
        if what == "state":
            self.world.do(lambda: node.presence.set_state("hall", who, detail.encode()))
        else:
            self.world.do(lambda: getattr(node.presence, what)("hall", who, detail))
            detail = f"{node.life}.{detail}"
        self.naive.act(self.world.clock.now, what, who, detail)

    def check(self) -> None:
        there = self.naive.look(self.world.clock.now)
        for node in self.world.nodes:
            members = self.world.attendees(node, "hall").members
            assert members is not None
            assert {member.who: member.state for member in members} == self.listeners[node.life].members == there


@settings(max_examples=40)
@given(st.lists(STEP, max_size=25), st.sampled_from([0.0, GRACE_SECONDS]))
@example([("enter", 0, ANN, "1"), ("enter", 1, ANN, "1"), ("die", 0, []), "time", ("die", 0, []), "time", "time"], 1000)
@example([("enter", 0, ANN, "1"), ("leave", 0, ANN, "1"), ("die", 0, []), "time", "time", "time"], 1000)
@example([("enter", 0, ANN, "1"), ("blink", 0, [("leave", 0, ANN, "1"), ("enter", 1, ANN, "1")])], 0)
def test_all_nodes_know_what_a_naive_model_says_whatever_happens_to_them(
    server: RedisServer, steps: list[Step], grace_seconds: float
) -> None:
    with presence_world(server, PresenceBounds(grace_seconds)) as world:
        model = Model(world, grace_seconds)
        for step in steps:
            model.step(step)
        model.check()
        world.advance(GRACE_SECONDS + 400)
        model.check()

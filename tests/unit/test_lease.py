"""One holder at a time, whatever network and scheduler do; and one that thinks otherwise is known by its token."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from gateway.core.lease import Granted, Lease, Taken
from tests.unit.conftest import HandClock

SECONDS = 6.0


@dataclass
class Server:
    """What a store does, by its own clock."""

    clock: HandClock = field(default_factory=HandClock)
    holder: str | None = None
    token: int = 0
    until: float = 0.0
    granted: list[int] = field(default_factory=list)

    @property
    def is_taken(self) -> bool:
        return self.holder is not None and self.clock.now < self.until

    def acquire(self, node: str, least: int) -> Granted | Taken:
        if self.is_taken and self.holder != node:
            assert self.holder is not None
            return Taken(self.holder, self.token, self.until - self.clock.now)
        self.holder, self.token, self.until = node, max(self.token, least) + 1, self.clock.now + SECONDS
        self.granted.append(self.token)
        return Granted(self.token)

    def renew(self, node: str, token: int) -> bool:
        if not self.is_taken or (self.holder, self.token) != (node, token):
            return False
        self.until = self.clock.now + SECONDS
        return True

    def release(self, node: str, token: int) -> bool:
        if not self.is_taken or (self.holder, self.token) != (node, token):
            return False
        self.holder = None
        return True

    def forget(self) -> None:
        """Lose all data, as a Redis without persistence does when it restarts."""
        self.holder, self.token = None, 0


class Node:
    """A node with its lease, and its way to the server: what it asks and is answered arrives when the test says so."""

    def __init__(self, name: str, server: Server) -> None:
        self.name = name
        self.clock = HandClock()
        self.paused = False
        self.told: list[int | str] = []
        self.followed = False
        self._server = server
        self._asked: deque[tuple[Callable[[], object], Callable[[object], None]]] = deque()
        self._answers: deque[tuple[Callable[[object], None], object]] = deque()
        self.lease = Lease("plant", SECONDS, self, self.clock, self.told.append, self.told.append)

    def acquire(self, name: str, least: int, done: Callable[[Granted | Taken | None], None]) -> None:
        self._asked.append((lambda: self._server.acquire(self.name, least), done))  # type: ignore[arg-type]

    def renew(self, name: str, token: int, done: Callable[[bool | None], None]) -> None:
        self._asked.append((lambda: self._server.renew(self.name, token), done))  # type: ignore[arg-type]

    def follow(self, name: str, hurry: Callable[[], None]) -> None:
        self.followed = True

    def unfollow(self, name: str) -> None:
        self.followed = False

    def release(self, name: str, token: int) -> None:
        self._asked.append((lambda: self._server.release(self.name, token), lambda _: None))

    @property
    def asks(self) -> int:
        return len(self._asked)

    def send(self) -> None:
        """The server gets what was asked so far."""
        while self._asked:
            question, done = self._asked.popleft()
            self._answers.append((done, question()))

    def hear(self) -> None:
        """The node gets what was answered so far, unless it is paused."""
        while self._answers and not self.paused:
            done, answer = self._answers.popleft()
            done(answer)

    def cut(self) -> None:
        """The connection is lost: what was asked may have arrived, or not; nobody says so."""
        lost = [*(done for done, _ in self._answers), *(done for _, done in self._asked)]
        self._answers.clear()
        self._asked.clear()
        for done in lost:
            done(None)

    def pass_time(self, seconds: float) -> None:
        if self.paused:
            self.clock.now += seconds
        else:
            self.clock.advance(seconds)

    def go_on(self) -> None:
        self.paused = False
        self.clock.advance(0)


class Cluster:
    def __init__(self, *names: str) -> None:
        self.server = Server()
        self.nodes = [Node(name, self.server) for name in names]

    def pass_time(self, seconds: float) -> None:
        self.server.clock.advance(seconds)
        for node in self.nodes:
            node.pass_time(seconds)

    def settle(self) -> None:
        """Everything that was said arrives."""
        while any(node.asks or node._answers for node in self.nodes if not node.paused):
            for node in self.nodes:
                if not node.paused:
                    node.send()
                    node.hear()

    def run(self, seconds: float) -> None:
        """Let time pass, with a network without delay."""
        for _ in range(round(seconds * 10)):
            self.pass_time(0.1)
            self.settle()


def pair() -> tuple[Cluster, Node, Node]:
    """Two nodes of which the first owns, and the other waits."""
    cluster = Cluster("a", "b")
    a, b = cluster.nodes
    for node in (a, b):
        node.lease.seek()
        cluster.settle()
    assert a.lease.held
    assert not b.lease.held
    return cluster, a, b


def test_the_first_gets_it_and_keeps_it_for_as_long_as_it_lives() -> None:
    cluster, a, b = pair()
    assert b.lease.holder == "a"
    cluster.run(10 * SECONDS)
    assert a.told == [1]
    assert b.told == []


def test_another_takes_it_within_its_time_from_the_last_sign_of_life() -> None:
    cluster, a, b = pair()
    cluster.run(SECONDS * 2.5)
    a.paused = True
    cluster.run(SECONDS + 0.2)
    assert b.lease.held
    assert b.told == [2]


def test_a_lease_that_is_given_back_is_taken_as_soon_as_others_hear_of_it() -> None:
    cluster, a, b = pair()
    a.lease.resign()
    cluster.settle()
    b.lease.hurry()
    cluster.settle()
    assert b.lease.held
    assert a.told == [1], "who gives it back knows that"
    cluster.run(3 * SECONDS)
    assert not a.lease.held


def test_who_was_paused_holds_nothing_when_it_goes_on_and_is_told_before_it_asks() -> None:
    cluster, a, b = pair()
    a.paused = True
    cluster.run(2 * SECONDS)
    assert not a.lease.held, "by its clock, though it could not be told"
    a.go_on()
    assert a.told == [1, f"it couldn't be renewed for {SECONDS:g} s"]
    cluster.settle()
    assert (a.lease.held, b.lease.held) == (False, True)


def test_a_silent_store_costs_the_lease_in_its_time_and_an_answer_after_that_is_none() -> None:
    cluster, a, _ = pair()
    cluster.run(SECONDS / 2)
    a.send()
    for _ in range(70):
        cluster.pass_time(0.1)
    assert a.told[1:] == [f"it couldn't be renewed for {SECONDS:g} s"]
    a.send()
    cluster.pass_time(2 * SECONDS)
    a.hear()
    assert not a.lease.held, "what was granted so long ago may be another's by now"
    assert len(a.told) == 2, "nor is it told, to begin what would have to end at once"


def test_it_lasts_from_when_it_was_asked_for_not_from_when_the_answer_came() -> None:
    cluster = Cluster("a")
    (a,) = cluster.nodes
    a.lease.seek()
    for seconds, until in ((SECONDS - 1, SECONDS), (0.5, 2 * SECONDS - 1)):  # granted, then renewed
        a.send()
        cluster.pass_time(seconds)
        a.hear()
        a.pass_time(0)
        assert a.lease.held
        assert a.lease._until == 1000 + until


def test_a_lost_connection_costs_nothing_if_it_is_back_in_time() -> None:
    cluster, a, _ = pair()
    for _ in range(5):
        cluster.pass_time(SECONDS / 2)
        a.cut()
        a.lease.hurry()
        cluster.settle()
    assert a.told == [1]
    assert a.lease.held


def test_a_store_that_lost_its_data_gives_no_lower_token() -> None:
    cluster, a, b = pair()
    for _ in range(5):
        a.lease.give_up("for a test")
        cluster.run(SECONDS)
        b.lease.give_up("for a test")
        cluster.run(SECONDS)
    cluster.server.forget()
    cluster.run(SECONDS * 2)
    assert cluster.server.granted == sorted(set(cluster.server.granted))


def test_a_token_seen_elsewhere_is_exceeded() -> None:
    cluster, a, _ = pair()
    a.lease.give_up("it was fenced", above=100)
    cluster.nodes[1].lease.rest()
    cluster.run(SECONDS)
    assert a.told == [1, "it was fenced", 101]


def test_who_gives_up_lets_others_go_first_and_takes_it_again_if_none_does() -> None:
    cluster, a, b = pair()
    b.lease.rest()
    a.lease.give_up("its broker is away")
    cluster.settle()
    a.lease.hurry()  # it is told, too, that the lease is free
    cluster.settle()
    assert not a.lease.held
    cluster.run(SECONDS)
    assert a.lease.held


def test_who_doesnt_seek_it_any_more_keeps_what_it_has_but_takes_nothing() -> None:
    cluster, a, b = pair()
    a.lease.rest()
    cluster.run(3 * SECONDS)
    assert a.lease.held
    b.lease.rest()
    a.lease.give_up("for a test")
    cluster.run(3 * SECONDS)
    assert cluster.server.holder is None


def test_a_grant_that_nobody_wants_any_more_is_given_back() -> None:
    cluster = Cluster("a")
    (a,) = cluster.nodes
    a.lease.seek()
    a.lease.rest()
    cluster.settle()
    assert a.told == []
    assert cluster.server.holder is None


def test_a_grant_whose_answer_was_lost_is_found_again_by_its_node() -> None:
    cluster = Cluster("a")
    (a,) = cluster.nodes
    a.lease.seek()
    a.send()
    a.cut()
    cluster.run(SECONDS / 2)
    assert a.told == [2]


def test_one_that_is_idle_asks_nothing() -> None:
    cluster, a, b = pair()
    a.lease.resign()
    b.lease.rest()
    cluster.settle()
    cluster.run(2 * SECONDS)
    assert a.clock.waiting == 0
    assert a.asks == 0
    assert (a.followed, b.followed) == (False, True)


ACTS = ("time",) * 4 + ("send",) * 5 + ("hear",) * 6 + ("cut", "pause", "go on", "go on", "seek")
RARE_ACTS = ("resign", "give up", "rest")


def act(cluster: Cluster, node: Node, what: str, seconds: float) -> None:
    """One thing that may happen to one node, or to all."""
    if what == "time":
        cluster.pass_time(seconds)
    elif what == "pause":
        node.paused = True
    else:
        acts: dict[str, Callable[[], None]] = {
            "send": node.send,
            "cut": node.cut,
            "go on": node.go_on,
            "hear": node.hear,
            "seek": node.lease.seek,
            "rest": node.lease.rest,
            "resign": node.lease.resign,
            "give up": partial(node.lease.give_up, "for a test"),
        }
        if not node.paused or what in ("send", "cut", "go on"):
            acts[what]()


def test_never_do_two_hold_it_while_clocks_run_alike() -> None:
    held = 0
    for seed in range(200):
        chance, cluster = Random(seed), Cluster("a", "b", "c")
        for node in cluster.nodes:
            node.lease.seek()
        for _ in range(300):
            what = chance.choice(RARE_ACTS if chance.random() < 0.02 else ACTS)
            act(cluster, chance.choice(cluster.nodes), what, chance.uniform(0.01, SECONDS / 4))
            holders = [each.lease for each in cluster.nodes if each.lease.held]
            assert len(holders) <= 1, seed
            assert all(each.token == max(cluster.server.granted) for each in holders), "and it has the highest token"
            held += len(holders)
        assert cluster.server.granted == sorted(set(cluster.server.granted))
    assert held > 10_000, "it was held often enough for this to say something"

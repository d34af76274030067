"""Every client in every respect: the cells of the table in docs/clients.md."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser

from tests.javascript import ClientError
from tests.matrix.bench import Bench
from tests.matrix.calls import CALL_TRIALS
from tests.matrix.cells import BEHAVIOURS, CLIENTS, DOCUMENT, NOT_APPLICABLE, table
from tests.matrix.programs import Program, last_values
from tests.matrix.trial import Trial
from tests.proxy import Relay
from tests.real import wait_until

MANY = 200
SECRET = "secret/plans"


@pytest.fixture
def trial(running: Bench, between: Relay, chromium: Browser, client: str) -> Trial:
    return Trial(running, between, chromium, client)


@contextmanager
def subscribed(trial: Trial) -> Iterator[Program]:
    """A client that hears what the device measures."""
    with trial.client_of("operator") as program:
        program.do("subscribe", room=trial.measurements)
        yield program


def live_message(trial: Trial) -> None:
    with subscribed(trial) as program:
        trial.bench.measure(trial.device, {"celsius": 21.5})
        assert trial.measured(program, 1) == [{"celsius": 21.5}]


def order(trial: Trial) -> None:
    with subscribed(trial) as program:
        trial.bench.measure(trial.device, *range(MANY))
        assert trial.measured(program, MANY) == list(range(MANY))


def last_value(trial: Trial) -> None:
    trial.bench.measure(trial.device, 1, 2)
    wait_until(lambda: trial.bench.last(trial.device) == [2], "the gateway has them")
    with trial.client_of("operator") as program:
        answer = program.do("subscribe", room=trial.measurements)
        wait_until(lambda: last_values(program, answer), "the last value is told")
        assert last_values(program, answer) == [2]
        assert trial.measured(program, 0) == []


def resume_without_loss(trial: Trial) -> None:
    with subscribed(trial) as program:
        trial.bench.measure(trial.device, 0, 1, 2)
        trial.measured(program, 3)
        trial.between.refuse()
        trial.bench.measure(trial.device, *range(3, 100))
        trial.between.serve()
        trial.bench.measure(trial.device, *range(100, 120))
        assert trial.measured(program, 120) == list(range(120))


def publish_to_a_device(trial: Trial) -> None:
    with trial.client_of("operator") as program:
        program.do("publish", room=trial.commands, data={"switch": True})
        wait_until(lambda: trial.bench.reached(trial.device), "the device has it")
        assert trial.bench.reached(trial.device) == [{"switch": True}]


def refused_without_permission(trial: Trial) -> None:
    with trial.client_of("guest") as program, pytest.raises(ClientError, match="forbidden"):
        program.do("subscribe", room=SECRET)
    # MQTT 3.1.1 has no way to refuse a message but to close the connection (MQTT-3.3.5-2).
    with trial.client_of("guest") as program, pytest.raises(ClientError, match=r"forbidden|closed"):
        program.do("publish", room=trial.commands, data={"switch": True})
    assert trial.bench.reached(trial.device) == []


def limited_when_flooding(trial: Trial) -> None:
    if CLIENTS["Paho (Chromium)"] is trial.client:
        slowed_when_flooding(trial)
        return
    with trial.client_of("flooder") as program, pytest.raises(ClientError):
        for number in range(40):
            program.do("publish", room=trial.commands, data=number)
    assert len(trial.bench.reached(trial.device)) < 40


def slowed_when_flooding(trial: Trial) -> None:
    """MQTT 3.1.1 can't tell of a refusal, so the gateway reads no further until the client is within its rate."""
    before = trial.bench.limited()
    with trial.client_of("flooder") as program:
        program.do("flood", room=trial.commands, count=40)
        wait_until(lambda: trial.bench.limited() > before, "it is held to its rate")
    assert len(trial.bench.reached(trial.device)) < 40


def clean_disconnection(trial: Trial) -> None:
    transport = trial.client.transport
    wait_until(lambda: trial.bench.sessions(transport) == 0, "no session is left of before")
    said = len(trial.bench.gateway.text)
    with subscribed(trial) as program:
        program.do("disconnect")
        wait_until(lambda: trial.bench.sessions(transport) == 0, "the session has ended")
    assert "rror" not in trial.bench.gateway.text[said:]


def presence(trial: Trial) -> None:
    with trial.client_of("operator") as program:
        program.do("subscribe", room=trial.people)
        wait_until(lambda: trial.bench.members(trial.people), "it is shown")
        assert trial.bench.members(trial.people) == ["operator"]
        program.do("disconnect")
        wait_until(lambda: not trial.bench.members(trial.people), "it isn't shown any more")


TRIALS: dict[str, Callable[[Trial], None]] = {
    "live message": live_message,
    "order": order,
    "last value": last_value,
    "resume without loss": resume_without_loss,
    "publish to a device, with ack": publish_to_a_device,
    "refused without permission": refused_without_permission,
    "limited when flooding": limited_when_flooding,
    "clean disconnection": clean_disconnection,
    "presence": presence,
}
CELLS = [
    (client, behaviour) for client in CLIENTS for behaviour in BEHAVIOURS if (client, behaviour) not in NOT_APPLICABLE
]


@pytest.mark.parametrize(("client", "behaviour"), CELLS, ids=[f"{client}-{behaviour}" for client, behaviour in CELLS])
def test_cell(trial: Trial, client: str, behaviour: str) -> None:
    trials = CALL_TRIALS if CLIENTS[client].transport == "peerjs" else TRIALS
    trials[behaviour](trial)


def test_the_document_has_the_whole_table() -> None:
    assert table() in DOCUMENT.read_text()

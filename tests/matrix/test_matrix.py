"""Every client in every respect: the cells of the table in docs/clients.md."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.javascript import ClientError
from tests.matrix.bench import TOKENS, Bench
from tests.matrix.cells import BEHAVIOURS, CLIENTS, DOCUMENT, NOT_APPLICABLE, table
from tests.matrix.programs import Program, messages_of
from tests.matrix.programs import running as run
from tests.proxy import Relay
from tests.real import wait_until

MANY = 200


class Trial:
    """One client that is being tried, with rooms of its own."""

    def __init__(self, bench: Bench, between: Relay, chromium: Browser, name: str) -> None:
        self.bench = bench
        self.between = between
        self.chromium = chromium
        self.client = CLIENTS[name]
        self.device = bench.name()
        self.measurements = self._address(f"sites/{self.device}/t", f"sensors/{self.device}/t")
        self.commands = self._address(f"devices/{self.device}/commands", f"commands/{self.device}")
        self.secret = "secret/plans"
        self.people = f"people/{self.device}"
        self.url = f"http://127.0.0.1:{between.port}"

    def _address(self, room: str, topic: str) -> str:
        return topic if self.client.topics else room

    def start(self) -> Any:
        return run(lambda: self.client.start(self.chromium, self.url))

    def connect(self, program: Program, who: str = "operator", **options: Any) -> None:
        program.do("connect", url=self.url, token=TOKENS[who], **options)


@pytest.fixture
def trial(running: Bench, between: Relay, chromium: Browser, client: str) -> Trial:
    return Trial(running, between, chromium, client)


def live_message(trial: Trial) -> None:
    with trial.start() as program:
        trial.connect(program)
        program.do("subscribe", room=trial.measurements)
        trial.bench.measure(trial.device, {"celsius": 21.5})
        assert messages_of(program, trial.measurements, 1) == [{"celsius": 21.5}]


def order(trial: Trial) -> None:
    with trial.start() as program:
        trial.connect(program)
        program.do("subscribe", room=trial.measurements)
        trial.bench.measure(trial.device, *range(MANY))
        assert messages_of(program, trial.measurements, MANY) == list(range(MANY))


def last_value(trial: Trial) -> None:
    trial.bench.measure(trial.device, 1, 2)
    wait_until(lambda: trial.bench.last(trial.device) == [2], "the gateway has them")
    with trial.start() as program:
        trial.connect(program)
        program.do("subscribe", room=trial.measurements)

        def told() -> list[Any]:
            return [event["data"] for event in tuple(program.events) if event.get("last")]

        wait_until(told, "the last value is told")
        assert told() == [2]
        assert messages_of(program, trial.measurements, 0) == []


def resume_without_loss(trial: Trial) -> None:
    with trial.start() as program:
        trial.connect(program)
        program.do("subscribe", room=trial.measurements)
        trial.bench.measure(trial.device, 0, 1, 2)
        messages_of(program, trial.measurements, 3)
        trial.between.refuse()
        trial.bench.measure(trial.device, *range(3, 100))
        trial.between.serve()
        trial.bench.measure(trial.device, *range(100, 120))
        assert messages_of(program, trial.measurements, 120) == list(range(120))


def publish_to_a_device(trial: Trial) -> None:
    with trial.start() as program:
        trial.connect(program)
        program.do("publish", room=trial.commands, data={"switch": True})
        wait_until(lambda: trial.bench.reached(trial.device), "the device has it")
        assert trial.bench.reached(trial.device) == [{"switch": True}]


def refused_without_permission(trial: Trial) -> None:
    with trial.start() as program:
        trial.connect(program, "guest")
        with pytest.raises(ClientError, match="forbidden"):
            program.do("subscribe", room=trial.secret)
    with trial.start() as program:
        trial.connect(program, "guest")
        with pytest.raises(ClientError, match=r"forbidden|closed"):
            program.do("publish", room=trial.commands, data={"switch": True})
    assert trial.bench.reached(trial.device) == []


def limited_when_flooding(trial: Trial) -> None:
    with trial.start() as program:
        trial.connect(program, "flooder")
        refused = 0
        for number in range(40):
            try:
                program.do("publish", room=trial.commands, data=number)
            except ClientError:
                refused += 1
                break
        assert refused, "none of forty in a row was refused"
    assert len(trial.bench.reached(trial.device)) < 40


def clean_disconnection(trial: Trial) -> None:
    transport = trial.client.transport
    wait_until(lambda: trial.bench.sessions(transport) == 0, "no session is left of before")
    said = len(trial.bench.gateway.text)
    with trial.start() as program:
        trial.connect(program)
        program.do("subscribe", room=trial.measurements)
        program.do("disconnect")
        wait_until(lambda: trial.bench.sessions(transport) == 0, "the session has ended")
    assert "rror" not in trial.bench.gateway.text[said:]


def presence(trial: Trial) -> None:
    with trial.start() as program:
        trial.connect(program)
        program.do("subscribe", room=trial.people)
        wait_until(lambda: trial.bench.members(trial.people), "it is shown")
        assert trial.bench.members(trial.people) == ["operator"]
        program.do("disconnect")
        wait_until(lambda: not trial.bench.members(trial.people), "it isn't shown any more")


TRIALS: dict[str, Callable[[Trial], None]] = dict(
    zip(
        BEHAVIOURS,
        (
            live_message,
            order,
            last_value,
            resume_without_loss,
            publish_to_a_device,
            refused_without_permission,
            limited_when_flooding,
            clean_disconnection,
            presence,
        ),
        strict=True,
    )
)
CELLS = [
    (client, behaviour) for client in CLIENTS for behaviour in BEHAVIOURS if (client, behaviour) not in NOT_APPLICABLE
]


@pytest.mark.parametrize(("client", "behaviour"), CELLS, ids=[f"{client}-{behaviour}" for client, behaviour in CELLS])
def test_cell(trial: Trial, client: str, behaviour: str) -> None:
    TRIALS[behaviour](trial)


def test_the_document_has_the_whole_table() -> None:
    assert table() in DOCUMENT.read_text()

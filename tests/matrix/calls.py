"""The cells of PeerJS, whose messages go from page to page."""

from collections.abc import Callable
from typing import Final

import pytest

from tests.javascript import ClientError
from tests.matrix.programs import messages_of
from tests.matrix.trial import Trial
from tests.real import wait_until

__all__ = ["CALL_TRIALS"]


def live_message_and_order(trial: Trial) -> None:
    ann, bob = f"ann-{trial.device}", f"bob-{trial.device}"
    with (
        trial.client_of("operator", id=ann, key=trial.calls) as calling,
        trial.client_of("operator", id=bob, key=trial.calls) as called,
    ):
        calling.do("call", id=bob)
        for number in range(50):
            calling.do("send", id=bob, data=number)
        assert messages_of(called, ann, 50) == list(range(50))


def refused_without_permission(trial: Trial) -> None:
    with pytest.raises(ClientError, match="server-error"), trial.client_of("guest", id="ann", key=trial.calls):
        pass


def limited_when_flooding(trial: Trial) -> None:
    with trial.client_of("flooder", id=f"ann-{trial.device}", key=trial.calls) as program:
        program.do("flood", id="nobody", count=60)
        wait_until(lambda: [event for event in program.events if event["event"] == "error"], "it is told")


def clean_disconnection(trial: Trial) -> None:
    wait_until(lambda: trial.bench.sessions("peerjs") == 0, "no session is left of before")
    with trial.client_of("operator", id=f"ann-{trial.device}", key=trial.calls) as program:
        assert trial.bench.sessions("peerjs") == 1
        program.do("disconnect")
        wait_until(lambda: trial.bench.sessions("peerjs") == 0, "the session has ended")


def presence(trial: Trial) -> None:
    with trial.client_of("operator", id=f"ann-{trial.device}", key=trial.calls) as program:
        assert trial.bench.members(trial.calls) == ["operator"]
        program.do("disconnect")
        wait_until(lambda: not trial.bench.members(trial.calls), "it isn't shown any more")


CALL_TRIALS: Final[dict[str, Callable[[Trial], None]]] = {
    "live message": live_message_and_order,
    "order": live_message_and_order,
    "refused without permission": refused_without_permission,
    "limited when flooding": limited_when_flooding,
    "clean disconnection": clean_disconnection,
    "presence": presence,
}

"""From the configuration to how brokers are reached, by one gateway and by several."""

from gateway.config import UpstreamSettings
from gateway.upstreams import options_of, options_of_a_member


def upstream(**keys: object) -> UpstreamSettings:
    return UpstreamSettings.model_validate({"url": "mqtt://h", **keys})


def test_one_gateway_has_the_session_that_is_configured() -> None:
    options = options_of("plant", upstream(client_id="me"))
    assert (options.client_id, options.persistent, options.session, options.share) == ("me", False, None, None)
    assert options_of("plant", upstream(client_id="me", session="persistent")).persistent


def test_an_owner_has_the_session_of_all_which_is_kept_unless_it_is_configured_otherwise() -> None:
    options = options_of_a_member("plant", upstream(), node="one", group="tidegate")
    assert (options.client_id, options.persistent) == ("tidegate-plant", True)
    assert (options.session, options.share, options.status_topic) == (None, None, "tidegate/status")
    settings = upstream(client_id="me", session="clean", status_topic=None)
    options = options_of_a_member("plant", settings, node="one", group="tidegate")
    assert (options.client_id, options.persistent, options.status_topic) == ("me", False, None)


def test_who_shares_has_a_session_and_a_status_of_its_own() -> None:
    settings = upstream(ingest="shared")
    options = options_of_a_member("plant", settings, node="one", group="tidegate")
    assert (options.client_id, options.persistent) == ("tidegate-plant-one", True)
    assert (options.session, options.share, options.status_topic) == ("plant/one", "tidegate", "tidegate/status/one")

"""The gateway's own certificate: what is refused at load, and what is taken while it runs."""

import logging
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.certificates import Certificates
from gateway.config import ConfigurationError, Settings, load_settings
from tests.certificates import Authority, replace


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def load(folder: Path, listen: str) -> Settings:
    (folder / "config.yaml").write_text(f"listen: {listen}")
    return load_settings(folder / "config.yaml", environment={})


def problem(folder: Path, listen: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        load(folder, listen)
    (found,) = refused.value.problems
    return str(found).replace(str(folder), "…")


PAIR = "{tls_certificate_file: tls.pem, tls_key_file: tls.key}"


def test_both_files_are_found_beside_the_configuration(tmp_path: Path, authority: Authority) -> None:
    authority.issue(tmp_path)
    assert load(tmp_path, PAIR).listen.tls_files == (tmp_path / "tls.pem", tmp_path / "tls.key")
    assert Settings().listen.tls_files is None


def test_one_without_the_other_is_refused(tmp_path: Path, authority: Authority) -> None:
    authority.issue(tmp_path)
    together = "expected `tls_certificate_file` and `tls_key_file` together, found one of them"
    assert together in problem(tmp_path, "{tls_certificate_file: tls.pem}")
    assert together in problem(tmp_path, "{tls_key_file: tls.key}")


def test_a_file_that_is_no_certificate_or_key_is_named(tmp_path: Path, authority: Authority) -> None:
    authority.issue(tmp_path)
    key, pem = (tmp_path / "tls.key").read_bytes(), (tmp_path / "tls.pem").read_bytes()
    (tmp_path / "tls.pem").write_bytes(key)
    said = problem(tmp_path, PAIR)
    assert said.endswith("listen.tls_certificate_file: expected a certificate in PEM, found none in 'tls.pem'")
    (tmp_path / "tls.pem").write_bytes(pem)
    (tmp_path / "tls.key").write_bytes(pem)
    said = problem(tmp_path, PAIR)
    assert said.endswith("listen.tls_key_file: expected the key of that certificate in PEM, found none in 'tls.key'")
    (tmp_path / "tls.key").unlink()
    assert "listen.tls_key_file: expected a file, found none" in problem(tmp_path, PAIR)


def test_another_ones_key_is_refused(tmp_path: Path, authority: Authority) -> None:
    authority.issue(tmp_path)
    pem = (tmp_path / "tls.pem").read_bytes()
    authority.issue(tmp_path)
    (tmp_path / "tls.pem").write_bytes(pem)
    assert problem(tmp_path, PAIR).endswith("expected the key of the certificate in 'tls.pem', found another one's")


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked(tmp_path: Path, authority: Authority) -> None:
    authority.issue(tmp_path)
    key = load_pem_private_key((tmp_path / "tls.key").read_bytes(), None)
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (tmp_path / "tls.key").write_bytes(sealed)
    assert "expected a key without a passphrase" in problem(tmp_path, PAIR)


def test_files_that_dont_change_are_not_read_again_and_a_bad_one_is_told_once(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    authority.issue(tmp_path)
    certificates = Certificates((tmp_path / "tls.pem", tmp_path / "tls.key"))

    def look() -> None:
        for _ in range(3):
            if certificates._watch.settled():
                certificates.take()

    look()
    assert caplog.messages == []
    replace(tmp_path / "tls.key", b"half")
    look()
    (tmp_path / "tls.pem").unlink()
    look()
    authority.issue(tmp_path)
    look()
    assert [message.partition(" in ")[0] for message in caplog.messages] == [
        "the new certificate", "the new certificate", "new connections see the new certificate",
    ]  # fmt: skip

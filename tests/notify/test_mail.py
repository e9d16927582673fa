"""Mail by a real SMTP server: encryption and passwords, as far as loopback can show them."""

import pytest
from aiosmtpd.smtp import AuthResult
from servers import Mail

from singlerun.notify import delivery
from singlerun.notify.failure import DeliveryError, RefusedError

EVENT = {"schema": 1, "event": "queue-empty", "name": "q", "host": "box", "run": None}


def deliver(url, **more):
    delivery.deliver({"url": url, "event": EVENT, "id": "1"} | more)


@pytest.fixture
def mail():
    server = Mail()
    yield server
    server.close()


def test_mail_to_the_configured_server(mail):
    smtp = {"url": mail.url, "from": "us@example.org"}
    deliver("mailto:a@example.org?from=others@example.org", smtp=smtp)
    deliver("mailto:a@example.org", smtp=smtp)
    senders = [str(message["From"]) for message, _ in mail.seen]
    assert senders == ["others@example.org", "us@example.org"]
    assert str(mail.seen[0][0]["Subject"]) == "the queue q is empty (box)"


def test_mail_is_refused_where_it_must_be_encrypted_and_is_not(mail):
    with pytest.raises(RefusedError, match="the server offers no TLS"):
        deliver(f"{mail.url}/?to=a@example.org&tls=always")
    assert mail.seen == []


def test_the_password_is_sent_and_never_shown():
    given = []

    def authenticate(server, session, envelope, mechanism, data):
        given.append((data.login, data.password))
        return AuthResult(success=data.password == b"pa:55/word", handled=False)

    server = Mail(authenticator=authenticate, auth_require_tls=False)
    try:
        good, bad = (
            server.url.replace("//", f"//us3r:{password}@") + "/?to=a@example.org"
            for password in ("pa%3A55%2Fword", "pa66word")
        )
        deliver(good)
        assert set(given) == {(b"us3r", b"pa:55/word")}
        with pytest.raises(DeliveryError) as raised:
            deliver(bad)
        assert "535" in raised.value.reason
        assert "pa66word" not in raised.value.reason
    finally:
        server.close()
    assert len(server.seen) == 1


def test_the_password_is_not_sent_to_another_host_unencrypted():
    """127.0.0.2 is loopback, too, but none of the names of this host."""
    given = []

    def authenticate(*arguments):
        given.append(arguments)
        return AuthResult(success=True)

    server = Mail(authenticator=authenticate, auth_require_tls=False, hostname="127.0.0.2")
    try:
        with pytest.raises(RefusedError, match="offers no TLS, and the password is not sent so"):
            deliver(server.url.replace("//", "//user:s3cret-word@") + "/?to=a@example.org")
    finally:
        server.close()
    assert (given, server.seen) == ([], [])


def test_answers(mail):
    mail.answers += ["451 later", "552 too large"]
    with pytest.raises(DeliveryError) as raised:
        deliver(f"{mail.url}/?to=a@example.org")
    assert not raised.value.is_final
    with pytest.raises(RefusedError, match="552 too large"):
        deliver(f"{mail.url}/?to=a@example.org")


def test_without_a_server():
    with pytest.raises(DeliveryError, match="refused"):
        deliver("smtp://127.0.0.1:1/?to=a@example.org")


def test_sendmail_gets_the_recipients(tmp_path, monkeypatch):
    program = tmp_path / "sendmail"
    program.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/words\ncat > {tmp_path}/text\nexit $STATUS\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr("singlerun.notify.mail.SENDMAIL", (str(program),))
    monkeypatch.setenv("STATUS", "0")
    deliver("mailto:a@example.org,root")
    assert (tmp_path / "words").read_text() == "-i a@example.org root\n"
    text = (tmp_path / "text").read_text()
    assert "To: a@example.org, root\n" in text
    assert "From:" not in text, "sendmail knows better"
    monkeypatch.setenv("STATUS", "75")
    with pytest.raises(DeliveryError, match="exit status 75"):
        deliver("mailto:a@example.org")

"""Which service a URL names, what is wrong with one, and that none is shown with its secrets."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from singlerun import url
from singlerun.errors import UsageError

KINDS = {
    "mailto:a@example.org": url.MAIL,
    "smtp://mail.example.org/?to=a@example.org": url.SMTP,
    "SMTPS://mail.example.org/?to=a@example.org": url.SMTP,
    "ping+https://hc-ping.com/uuid": url.PING,
    "https://hc-ping.com/uuid": url.PING,
    "ping+http://checks.example.org:8000/ping/uuid": url.PING,
    "https://example.org/hook": url.WEBHOOK,
    "https://hooks.slack.com/services/T/B/X": url.SLACK,
    "https://hooks.slack.com/triggers/T/1/X": url.WEBHOOK,
    "slack+https://chat.example.org/hooks/X": url.SLACK,
    "https://discord.com/api/webhooks/1/X": url.DISCORD,
    "https://discordapp.com/api/webhooks/1/X": url.DISCORD,
    "https://discord.com.example.org/api/webhooks/1/X": url.WEBHOOK,
    "https://example.org/@discord.com/api/webhooks/1/X": url.WEBHOOK,
    "ntfy://topic": url.NTFY,
    "ntfy+http://127.0.0.1:8080/topic": url.NTFY,
    "gotify+https://push.example.org/TOKEN": url.GOTIFY,
    "tgram://TOKEN/CHAT": url.OTHER,
    "json://example.org/": url.OTHER,
}


@pytest.mark.parametrize("text", KINDS)
def test_kinds(text):
    assert url.kind_of(text) == KINDS[text]
    url.check(text)


@pytest.mark.parametrize(
    "text",
    [
        "mailto:", "mailto:-oProxy@example.org", "mailto:a@example.org?subject=x",
        "mailto:a%0Ab@example.org", "mailto:a b@example.org", "smtp://mail.example.org/",
        "smtp:///?to=a@b", "smtp://h/?to=a@b&tls=maybe", "https://", "https:///path",
        "http://h:99999/", "http://h:0/", "http://[::1/", "ntfy://", "ntfy://host/a/b",
        "gotify+https://h/", "nonsense:", "nonsense:x", "://x", "http://h/a b", "http://h/\n",
    ],
)  # fmt: skip
def test_what_nothing_can_be_sent_to(text):
    with pytest.raises(UsageError):
        url.check(text)


def test_services_with_parts():
    assert url.ntfy("ntfy://topic") == ("https://ntfy.sh", "topic")
    assert url.ntfy("ntfy://:tk_x@push.example.org/t") == ("https://push.example.org", "t")
    assert url.ntfy("ntfy+http://127.0.0.1:80/t/") == ("http://127.0.0.1:80", "t")
    message = "https://h:1/base/message"
    assert url.gotify("gotify+https://h:1/base/TOKEN") == (message, "TOKEN")
    assert url.gotify("gotify+https://h:1/base/message?token=TOKEN") == (message, "TOKEN")
    assert url.plain("slack+https://u:p@h/x?y=z") == "https://h/x?y=z"
    assert url.recipients("mailto:a@b,%63@d") == ["a@b", "c@d"]


HIDDEN = {
    "mailto:ops@example.org": "mailto:ops@example.org",
    "https://user:pa55@example.org:8443/t0ken?key=va1ue": "https://example.org:8443/…",
    "https://example.org": "https://example.org",
    "smtp://user:pa55@mail.example.org/?to=a@b": "smtp://mail.example.org/…",
    "ntfy://t0pic": "ntfy://…",
    "ntfy://:tk_x@h/t0pic": "ntfy://h/…",
    "tgram://t0ken/chat": "tgram://…",
    "weird:t0ken": "weird:…",
    "a-target": "a-target",
    "https://user:p@ss/w0rd@example.org/": "https://ss/…",
}


@pytest.mark.parametrize("text", HIDDEN)
def test_hidden(text):
    assert url.hidden(text) == HIDDEN[text]


SECRET = st.text("abcdefghijklmnopqrstuvwxyz0123456789%+-_", min_size=8, max_size=20)


@given(SECRET, st.sampled_from(["https", "slack+https", "ping+http", "tgram", "smtp", "ntfy"]))
@example("ab%20cdef", "https")
def test_no_secret_is_shown(secret, scheme):
    for text in (
        f"{scheme}://user:{secret}@example.org/", f"{scheme}://example.org/{secret}",
        f"{scheme}://example.org/x/{secret}/y", f"{scheme}://example.org/?key={secret}",
    ):  # fmt: skip
        assert secret not in url.hidden(text)
        said = f"cannot reach {text}: {secret} is wrong at http://example.org/{secret}"
        assert secret not in url.scrubbed(said, text)
        with pytest.raises(UsageError) as raised:
            url.check(text + " ")
        assert secret not in str(raised.value)


@given(st.text(max_size=40))
@example("https://[")
@example("ntfy://@")
def test_no_text_is_an_internal_error(text):
    try:
        url.check(text)
    except UsageError:
        pass
    url.hidden(text)
    url.scrubbed(text, text)

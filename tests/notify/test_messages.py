"""What each service gets, in the form that its documentation asks for."""

import json

import pytest
from servers import Web

from singlerun.event import KINDS
from singlerun.notify import delivery, http, mail, message
from singlerun.notify.failure import DeliveryError, RefusedError

EVENT = {
    "schema": 1, "event": "failure", "at": "2026-11-25T18:57:58Z", "host": "box", "name": "sync",
    "run": {"id": 7, "command": ["sh", "-c", "a <b> & ```c```"], "elapsed_s": 61.5},
    "job_id": None, "exit_status": 3, "count": None, "usual_s": None,
}  # fmt: skip


def event(kind, **more):
    return EVENT | {"event": kind} | more


@pytest.fixture
def web():
    server = Web()
    yield server
    server.close()


def deliver(url, **more):
    delivery.deliver({"url": url, "event": EVENT, "output": "the end\n"} | more)


def sent(web):
    (path, headers, body) = web.seen.pop()
    return path, headers, json.loads(body)


def test_slack(web):
    deliver(f"slack+{web.url}/services/T/B/X")
    path, headers, body = sent(web)
    assert (path, headers["Content-Type"]) == ("/services/T/B/X", "application/json")
    assert headers["User-Agent"].startswith("singlerun/")
    assert list(body) == ["text"]
    assert body["text"].startswith("*sync has failed: exit status 3 (box)*\n```\n")
    assert "a &lt;b&gt; &amp; '''c'''" in body["text"]
    assert body["text"].count("```") == 2


def test_discord(web):
    deliver(f"discord+{web.url}/api/webhooks/1/X", output="x" * 9000)
    _, _, body = sent(web)
    assert set(body) == {"content", "allowed_mentions"}
    assert body["allowed_mentions"] == {"parse": []}
    assert len(body["content"]) <= 2000
    assert body["content"].endswith("…```")


def test_ntfy_is_posted_to_the_root(web):
    deliver(web.url.replace("http://", "ntfy+http://:tk_x@") + "/t0pic", output="ü" * 9000)
    path, headers, body = sent(web)
    assert path in {"", "/"}
    assert headers["Authorization"] == "Basic OnRrX3g="
    assert (body["topic"], body["title"]) == ("t0pic", "sync has failed: exit status 3 (box)")
    assert (body["priority"], body["tags"]) == (4, ["warning"])
    assert len(body["message"].encode()) <= 4096


def test_gotify_gets_its_token_in_a_header(web):
    deliver(f"gotify+{web.url}/base/T0KEN")
    path, headers, body = sent(web)
    assert (path, headers["X-Gotify-Key"]) == ("/base/message", "T0KEN")
    assert set(body) == {"title", "message", "priority", "extras"}
    assert body["priority"] == 8


def test_a_webhook_gets_the_event(web):
    deliver(f"{web.url}/hook?a=b")
    path, _, body = sent(web)
    assert path == "/hook?a=b"
    assert body == EVENT | {"output": "the end\n"}


@pytest.mark.parametrize(
    "kind, status, path",
    [
        ("start", None, "/uuid/start"), ("success", 0, "/uuid"), ("recovery", 0, "/uuid"),
        ("failure", 3, "/uuid/3"), ("failure", 143, "/uuid/143"), ("failure", None, "/uuid/fail"),
        ("change", 0, "/uuid"), ("change", 1, "/uuid/1"), ("lost", None, "/uuid/fail"),
        ("overdue", None, "/uuid/fail"), ("refused", 75, "/uuid/log"),
        ("overlong", None, "/uuid/log"), ("test", None, "/uuid/log"),
    ],
)  # fmt: skip
def test_pings(kind, status, path):
    url = http.ping_url("ping+https://hc-ping.com/uuid?create=1", event(kind, exit_status=status))
    assert url == f"https://hc-ping.com{path}?create=1"


@pytest.mark.parametrize("kind", [*KINDS, "test"])
def test_each_event_has_words(kind):
    title = message.title(event(kind, count=3, usual_s=60.0))
    assert title.endswith(" (box)")
    assert "sync" in title
    assert "\n" not in title
    text = message.text(event(kind), None)
    if kind == "test":
        return
    assert "Command:     sh -c" in text
    assert "singlerun history sync" in text


def test_titles():
    assert message.title(event("refused", count=60)) == "sync was refused 60 times in a row (box)"
    timed_out = event("failure", run={"state": "timed-out"}, exit_status=124)
    assert message.title(timed_out) == "sync has failed: timed out (box)"
    killed = event("failure", run={"state": "failed", "signal": 9}, exit_status=137)
    assert message.title(killed) == "sync has failed: killed by signal 9 (box)"
    assert "\\n" in message.title(event("start", name="a\nBcc: b"))


def test_what_a_name_holds_is_no_header():
    made = {"url": "mailto:a@example.org", "event": event("start", name="x\r\nBcc: b@c"), "id": "1"}
    composed = mail.compose(made)
    assert composed["Bcc"] is None
    assert composed["To"] == "a@example.org"


# -- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 404, 410, 301])
def test_answers_for_good(web, status):
    web.answers.append(status)
    with pytest.raises(RefusedError):
        deliver(f"{web.url}/t0ken-of-mine")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503, "reset"])
def test_answers_that_pass(web, status):
    web.answers.append(status)
    with pytest.raises(DeliveryError) as raised:
        deliver(f"{web.url}/t0ken-of-mine")
    assert not raised.value.is_final
    assert "t0ken" not in raised.value.reason

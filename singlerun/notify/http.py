"""Notifications by HTTP: pings, webhooks, and the services that have a form of their own."""

import json
from base64 import b64encode
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import unquote
from urllib.request import HTTPRedirectHandler, Request, build_opener

import singlerun
from singlerun import url as urls
from singlerun.errors import said
from singlerun.notify import message
from singlerun.notify.failure import DeliveryError, RefusedError
from singlerun.timings import DELIVERY_TIMEOUT, GIVE_UP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_AGENT = f"singlerun/{singlerun.__version__}"
_JSON = "application/json"
_LATER = {408, 425, 429}
"""Of the errors that are the client's, those that pass."""
_SAID = 500
"""Bytes of an answer that are read."""
DISCORD_CHARACTERS = 2000
NTFY_BYTES = 4096
"""What is longer becomes an attachment, or is rejected."""
SLACK_CHARACTERS = 4000
"""What is longer may be cut, or split into several messages."""
_FAILED_PINGS = {"failure", "lost", "overdue"}
_GOOD_PINGS = {"success", "recovery"}


def send(kind: str, entry: "dict[str, Any]") -> None:
    """Send a notification; raise DeliveryError if it was not accepted."""
    url, event = entry["url"], entry["event"]
    title, text = message.title(event), message.text(event, entry.get("output"))
    if kind == urls.PING:
        body = (entry.get("output") or "").encode(errors="replace")
        answer = _post(ping_url(url, event), body or b"", "text/plain; charset=utf-8", url)
        _check_ping(answer)
    elif kind == urls.NTFY:
        base, topic = urls.ntfy(url)
        _post_json(base, ntfy(topic, title, text, event), url)
    elif kind == urls.GOTIFY:
        address, token = urls.gotify(url)
        _post_json(address, gotify(title, text, event), url, {"X-Gotify-Key": token})
    elif kind == urls.SLACK:
        _post_json(urls.plain(url), slack(title, text), url)
    elif kind == urls.DISCORD:
        _post_json(urls.plain(url), discord(title, text), url)
    else:
        _post_json(urls.plain(url), event | {"output": entry.get("output")}, url)


# -- the forms that services want ---------------------------------------------------------------


def ping_url(url: str, event: "dict[str, Any]") -> str:
    """Return the URL of a ping for an event: its path ends in what has happened.

    ``/start``, nothing for a success, the exit status (or ``/fail``) for a failure, and ``/log``
    for what is neither.
    """
    parts = urls.split(urls.plain(url))
    kind, status = event["event"], event.get("exit_status")
    if kind == "change":
        kind = "failure" if status else "success"
    end = "/log"
    if kind == "start":
        end = "/start"
    elif kind in _GOOD_PINGS:
        end = ""
    elif kind in _FAILED_PINGS:
        end = f"/{status}" if isinstance(status, int) and 0 < status < 256 else "/fail"
    return parts._replace(path=parts.path.rstrip("/") + end).geturl()


def ntfy(topic: str, title: str, text: str, event: "dict[str, Any]") -> "dict[str, Any]":
    """Return a message of ntfy, which is posted to the server's root."""
    is_good = message.is_good(event)
    return {
        "topic": topic, "title": title, "message": _within(text, NTFY_BYTES),
        "priority": 3 if is_good else 4, "tags": ["white_check_mark" if is_good else "warning"],
    }  # fmt: skip


def gotify(title: str, text: str, event: "dict[str, Any]") -> "dict[str, Any]":
    """Return a message of Gotify."""
    return {
        "title": title, "message": text, "priority": 4 if message.is_good(event) else 8,
        "extras": {"client::display": {"contentType": "text/plain"}},
    }  # fmt: skip


def slack(title: str, text: str) -> "dict[str, Any]":
    """Return a message of Slack, in which three characters are special."""
    room = SLACK_CHARACTERS - len(title) - 20
    body = text if len(text) <= room else text[: room - 1] + "…"
    body, title = (
        part.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        for part in (_unfenced(body), title)
    )
    return {"text": f"*{title}*\n```\n{body}```"}


def discord(title: str, text: str) -> "dict[str, Any]":
    """Return a message of Discord, which pings no one."""
    room = DISCORD_CHARACTERS - len(title) - 20
    body = text if len(text) <= room else text[: room - 1] + "…"
    return {
        "content": f"**{title}**\n```\n{_unfenced(body)}```"[:DISCORD_CHARACTERS],
        "allowed_mentions": {"parse": []},
    }


def _unfenced(text: str) -> str:
    """Return a text that does not end the block of code in which it is shown."""
    return text.replace("```", "'''")


def _within(text: str, most: int) -> str:
    return (
        text
        if len(text.encode()) <= most
        else text.encode()[: most - 3].decode("utf-8", "ignore") + "…"
    )


# -- the request ------------------------------------------------------------------------------


class _NoRedirect(HTTPRedirectHandler):
    """Follows no redirect: what is posted would be lost on the way."""

    def redirect_request(self, *_: "Any") -> None:
        return None


def _post_json(
    address: str, document: "dict[str, Any]", url: str, headers: "dict[str, str] | None" = None
) -> None:
    _post(address, json.dumps(document).encode(), _JSON, url, headers)


def _post(
    address: str, body: bytes, content_type: str, url: str, headers: "dict[str, str] | None" = None
) -> str:
    """Post to an address, with the user and password of the URL; return the answer's beginning."""
    user = urls.split(url).netloc.rpartition("@")[0]
    sent = {"User-Agent": _AGENT, "Content-Type": content_type, **(headers or {})}
    if user:
        sent["Authorization"] = f"Basic {b64encode(unquote(user).encode()).decode()}"
    request = Request(address, data=body, headers=sent, method="POST")  # noqa: S310 - http or https
    try:
        with build_opener(_NoRedirect).open(request, timeout=DELIVERY_TIMEOUT) as answer:
            return str(answer.read(_SAID).decode("utf-8", "replace"))
    except HTTPError as error:
        _raise(error)
    except URLError as error:
        reason = error.reason
        raise DeliveryError(
            said(reason) if isinstance(reason, Exception) else str(reason)
        ) from None
    except (HTTPException, OSError) as error:
        raise DeliveryError(said(error)) from None


def _raise(error: HTTPError) -> "NoReturn":
    """Raise what an answer means that is not a success."""
    with error:
        body = error.read(_SAID).decode("utf-8", "replace").strip()
    what = f"the server answered {error.code} {error.reason}" + (f": {body}" if body else "")
    if 300 <= error.code < 400:
        place = urls.hidden(error.headers.get("Location") or "elsewhere")
        raise RefusedError(f"the server redirects to {place}: write the URL of that")
    if error.code >= 500 or error.code in _LATER:
        after = error.headers.get("Retry-After") or ""
        seconds = min(float(after), GIVE_UP) if after.replace(".", "", 1).isdecimal() else None
        raise DeliveryError(what, seconds)
    raise RefusedError(what)


def _check_ping(answer: str) -> None:
    """Healthchecks answers with 200 also where it does nothing."""
    if "not found" in answer:
        raise RefusedError("the server knows no such check")
    if "rate limited" in answer:
        raise DeliveryError("the server limits the rate of pings", 60.0)

"""One try to deliver one notification, in a process that can be given up."""

from singlerun import url as urls
from singlerun.errors import UsageError, said
from singlerun.notify.failure import DeliveryError, RefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LONGEST_REASON = 200
"""Characters of what a server or a library has said."""


def deliver(entry: "dict[str, Any]") -> None:
    """Try to deliver an entry of the spool.

    Raises:
        DeliveryError: it failed; its reason holds no secret.
    """
    url: str = entry["url"]
    try:
        _deliver(urls.kind_of(url), entry)
    except DeliveryError as error:
        reason = urls.scrubbed(error.reason, url)
        raise type(error)(_short(reason), error.after) from None
    except UsageError as error:
        raise RefusedError(_short(urls.scrubbed(error.args[0], url))) from None
    except Exception as error:  # noqa: BLE001 - whatever a library raises, it was not delivered
        raise DeliveryError(_short(urls.scrubbed(said(error), url))) from None


def _deliver(kind: str, entry: "dict[str, Any]") -> None:
    if kind in {urls.MAIL, urls.SMTP}:
        from singlerun.notify import mail  # noqa: PLC0415 - each imports what it needs

        mail.send(entry)
    elif kind == urls.OTHER:
        from singlerun.notify import others  # noqa: PLC0415

        others.send(entry)
    else:
        from singlerun.notify import http  # noqa: PLC0415

        http.send(kind, entry)


def _short(reason: str) -> str:
    line = " ".join(reason.split()) or "it failed"
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 1] + "…"

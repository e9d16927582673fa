"""Notifications by all other services: those of Apprise (``pip install 'singlerun[notify]'``)."""

import importlib
import sys
from typing import Any

from singlerun.notify import message
from singlerun.notify.failure import DeliveryError, RefusedError


def send(entry: dict[str, Any]) -> None:
    """Send a notification by Apprise; raise DeliveryError if it fails."""
    try:
        apprise = _apprise()
    except ImportError:
        scheme = entry["url"].partition(":")[0]
        what = f"{scheme}: needs Apprise: pip install 'singlerun[notify]'"
        raise RefusedError(what) from None
    event = entry["event"]
    kind = apprise.NotifyType.SUCCESS if message.is_good(event) else apprise.NotifyType.WARNING
    with apprise.LogCapture(level=apprise.logging.WARNING) as log:
        service = apprise.Apprise()
        if not service.add(entry["url"]):
            raise RefusedError("Apprise knows no such service, or the URL is not one of it")
        if service.notify(
            title=message.title(event), body=message.text(event, entry.get("output")),
            notify_type=kind, body_format=apprise.NotifyFormat.TEXT,
        ):  # fmt: skip
            return
        said = log.getvalue().strip().splitlines()
    raise DeliveryError(said[-1] if said else "Apprise could not deliver it")


def _apprise() -> Any:
    """Import it: an extra, and 200 ms. It may be where only ``site`` looks; see interpreter.py."""
    try:
        return importlib.import_module("apprise")
    except ImportError:
        if not sys.flags.no_site:
            raise
    site = importlib.import_module("site")
    site.main()
    return importlib.import_module("apprise")

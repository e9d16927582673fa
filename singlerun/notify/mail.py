"""Notifications by mail: through sendmail, or an SMTP server."""

import os
import smtplib
import ssl
import subprocess
from email.message import EmailMessage
from email.utils import formatdate
from functools import partial
from shutil import which
from typing import Any
from urllib.parse import unquote

from singlerun import url as urls
from singlerun.notify import message
from singlerun.notify.failure import DeliveryError, RefusedError
from singlerun.timings import DELIVERY_TIMEOUT

SENDMAIL = ("/usr/sbin/sendmail", "/usr/lib/sendmail")
_LOCAL = {"localhost", "127.0.0.1", "::1"}
_EX_TEMPFAIL = 75


def send(entry: dict[str, Any]) -> None:
    """Send a mail; raise DeliveryError if no mail server has accepted it.

    ``mailto:`` goes to the server of ``[notify.smtp]`` if one is set, else to sendmail.
    """
    url, smtp = entry["url"], entry.get("smtp") or {}
    mail = compose(entry)
    if urls.kind_of(url) == urls.SMTP:
        _by_smtp(url, mail, urls.recipients(url))
    elif smtp.get("url"):
        _by_smtp(smtp["url"], mail, urls.recipients(url))
    else:
        _by_sendmail(mail, urls.recipients(url))


def compose(entry: dict[str, Any]) -> EmailMessage:
    """Return the mail of an entry; each try has the same Message-ID."""
    url, event, smtp = entry["url"], entry["event"], entry.get("smtp") or {}
    sender = urls.query_of(url).get("from") or smtp.get("from")
    host = os.uname().nodename
    mail = EmailMessage()
    mail["Subject"] = message.title(event)
    mail["To"] = ", ".join(urls.recipients(url))
    if sender or smtp or urls.kind_of(url) == urls.SMTP:
        mail["From"] = sender or f"singlerun@{host}"
    mail["Date"] = formatdate(entry.get("written", 0), localtime=True)
    mail["Message-ID"] = f"<{entry.get('id', 'x')}@singlerun.{host}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answer by a vacation program
    mail["X-Singlerun-Event"] = str(event["event"])
    mail.set_content(message.text(event, entry.get("output")), cte="quoted-printable")
    return mail


def _by_sendmail(mail: EmailMessage, recipients: list[str]) -> None:
    program = next((path for path in SENDMAIL if os.access(path, os.X_OK)), which("sendmail"))
    if program is None:
        raise RefusedError("there is no sendmail; name a mail server in [notify.smtp]")
    try:
        done = subprocess.run(
            [program, "-i", *recipients], input=mail.as_bytes(), capture_output=True,
            timeout=DELIVERY_TIMEOUT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise DeliveryError(f"{program} gave no answer") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip() or f"exit status {done.returncode}"
        raise DeliveryError(f"{program}: {said}")


def _by_smtp(url: str, mail: EmailMessage, recipients: list[str]) -> None:
    parts, host = urls.split(url), os.uname().nodename
    encrypted, server = parts.scheme.lower() == "smtps", parts.hostname or ""
    connect: Any = smtplib.SMTP
    if encrypted:
        connect = partial(smtplib.SMTP_SSL, context=ssl.create_default_context())
    try:
        with connect(server, parts.port or 0, host, timeout=DELIVERY_TIMEOUT) as session:
            if not encrypted:
                encrypted = _start_tls(session, urls.query_of(url).get("tls"))
            if parts.username:
                if not encrypted and server not in _LOCAL:
                    raise RefusedError("the server offers no TLS, and the password is not sent so")
                session.login(unquote(parts.username), unquote(parts.password or ""))
            refused = session.send_message(mail, to_addrs=recipients)
    except smtplib.SMTPRecipientsRefused as error:
        code, said = next(iter(error.recipients.values()))
        raise _of_code(code, said) from None
    except smtplib.SMTPResponseException as error:
        raise _of_code(error.smtp_code, error.smtp_error) from None
    if refused:  # the others have it, and would get it twice
        code, said = next(iter(refused.values()))
        raise RefusedError(f"not all recipients were accepted: {_of_code(code, said).reason}")


def _start_tls(session: smtplib.SMTP, wanted: str | None) -> bool:
    """Encrypt a session if the server offers that; raise RefusedError if it does not, and must."""
    if wanted == "never":
        return False
    session.ehlo_or_helo_if_needed()
    if not session.has_extn("starttls"):
        if wanted == "always":
            raise RefusedError("the server offers no TLS")
        return False
    session.starttls(context=ssl.create_default_context())
    session.ehlo()
    return True


def _of_code(code: int, said: bytes | str) -> DeliveryError:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    what = f"the mail server answered {code} {text}"
    return RefusedError(what) if 500 <= code < 600 else DeliveryError(what)

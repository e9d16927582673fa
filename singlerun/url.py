"""Where notifications go: URLs, what kind of service each names, and how one is shown.

Most of them hold a secret: a password, or a token in the path. ``hidden`` and ``scrubbed`` are what
every screen, log and message shows of them.
"""

from singlerun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from urllib.parse import SplitResult

MAIL, SMTP, PING, WEBHOOK, OTHER = "mail", "smtp", "ping", "webhook", "other"
SLACK, DISCORD, NTFY, GOTIFY = "slack", "discord", "ntfy", "gotify"
_PREFIXED = {PING, SLACK, DISCORD, NTFY, GOTIFY}
ELLIPSIS = "…"
_SHORTEST_SECRET = 4
"""Characters; what is shorter is no secret, and may stand in any word."""
_OPEN_KEYS = {"to", "from", "tls"}
"""Keys of a query whose values are no secrets."""


def kind_of(url: str) -> str:
    """Return the kind of service that a URL names: MAIL, SMTP, PING, WEBHOOK, SLACK …, or OTHER.

    The webhooks of Slack and Discord, and Healthchecks' pings, are recognised by their hosts: a
    plain webhook would not do what is meant there.
    """
    scheme, _, rest = url.partition(":")
    scheme = scheme.lower()
    if scheme in {"mailto", "smtp", "smtps", "ntfy"}:
        return {"mailto": MAIL, "ntfy": NTFY}.get(scheme, SMTP)
    prefix, plus, base = scheme.partition("+")
    if plus and base in {"http", "https"} and prefix in _PREFIXED:
        return prefix
    if scheme not in {"http", "https"}:
        return OTHER
    host, _, path = rest.removeprefix("//").partition("/")
    host = host.rpartition("@")[2].lower()
    if host in {"hooks.slack.com", "hooks.slack-gov.com"} and path.startswith("services/"):
        return SLACK
    if host in {"discord.com", "discordapp.com"} and path.startswith("api/"):
        return DISCORD
    return PING if host == "hc-ping.com" else WEBHOOK


def is_url(text: str) -> bool:
    """Return whether this is a URL, and not the name of a target."""
    return ":" in text


def split(url: str) -> "SplitResult":
    """Return the parts of a URL with an authority, without the prefix that names the service.

    Raises UsageError if it has no host, or a port that is none.
    """
    from urllib.parse import urlsplit  # noqa: PLC0415 - rare

    kind, plain = kind_of(url), url
    if kind in _PREFIXED and "+" in url.partition(":")[0]:
        plain = url.partition("+")[2]
    try:
        parts = urlsplit(plain)
        port = parts.port
    except ValueError:
        raise UsageError(f"bad URL {hidden(url)}: its host or port cannot be read") from None
    if not parts.hostname or port == 0:
        raise UsageError(f"bad URL {hidden(url)}: it names no host")
    return parts


def query_of(url: str) -> dict[str, str]:
    """Return what stands after the question mark, decoded."""
    from urllib.parse import parse_qsl  # noqa: PLC0415 - rare

    return dict(parse_qsl(url.partition("?")[2], keep_blank_values=True))


def recipients(url: str) -> list[str]:
    """Return the addresses that ``mailto:`` names, or ``to=`` in the query of ``smtp://``."""
    from urllib.parse import unquote  # noqa: PLC0415 - rare

    if kind_of(url) == MAIL:
        text = unquote(url.partition(":")[2].partition("?")[0])
    else:
        text = query_of(url).get("to", "")
    return [address.strip() for address in text.split(",") if address.strip()]


def check(url: str) -> None:
    """Raise UsageError if nothing can ever be sent to a URL."""
    kind = kind_of(url)
    if any(character.isspace() or not character.isprintable() for character in url):
        raise UsageError(f"bad URL {hidden(url)}: it has a blank or a control character")
    if kind in {MAIL, SMTP}:
        _check_mail(url, kind)
    elif kind == OTHER:
        scheme, mark, rest = url.partition("://")
        known = "mailto, smtp, http, https, ping+https, slack+https, ntfy or one of Apprise's"
        if not mark or not rest or not scheme.replace("+", "").replace("-", "").isalnum():
            raise UsageError(f"bad URL {hidden(url)}: begin it with {known}")
    elif kind == NTFY:
        ntfy(url)
    elif kind == GOTIFY:
        gotify(url)
    else:
        split(url)


def _check_mail(url: str, kind: str) -> None:
    found = recipients(url)
    example = "mailto:ops@example.org"
    if kind == SMTP:
        split(url)
        example = "smtp://mail.example.org/?to=ops@example.org"
    if not found:
        raise UsageError(f"bad URL {hidden(url)}: it names no recipient; write {example}")
    query = query_of(url)
    for address in [*found, query.get("from", "x")]:
        if address.startswith("-") or not address.isprintable() or set(address) & set(' <>"'):
            raise UsageError(f"bad URL {hidden(url)}: {address!r} is no mail address")
    allowed = _OPEN_KEYS if kind == SMTP else {"from"}
    for key in set(query) - allowed:
        raise UsageError(f"bad URL {hidden(url)}: {key!r} is not one of {', '.join(allowed)}")
    if query.get("tls", "never") not in {"always", "never"}:
        raise UsageError(f"bad URL {hidden(url)}: tls is always or never")


def ntfy(url: str) -> tuple[str, str]:
    """Return the server and the topic of ntfy; ``ntfy://TOPIC`` is one of ntfy.sh.

    Raises UsageError if no topic is named.
    """
    parts = split(url)
    base, topic = f"{parts.scheme}://{_host(parts)}", parts.path.strip("/")
    if parts.scheme == "ntfy":
        base = f"https://{_host(parts)}" if topic else "https://ntfy.sh"
        topic = topic or (parts.netloc.rpartition("@")[2])
    if not topic or "/" in topic:
        raise UsageError(f"bad URL {hidden(url)}: write ntfy://HOST/TOPIC")
    return base, topic


def gotify(url: str) -> tuple[str, str]:
    """Return where messages are sent to, and the application's token; UsageError: there is none."""
    parts = split(url)
    path = parts.path.rstrip("/")
    token = query_of(url).get("token", "")
    if token:
        path = path.removesuffix("/message")
    else:
        path, _, token = path.rpartition("/")
    if not token:
        raise UsageError(f"bad URL {hidden(url)}: write gotify+https://HOST/TOKEN")
    return f"{parts.scheme}://{_host(parts)}{path}/message", token


def plain(url: str) -> str:
    """Return a URL without the prefix that names the service, and without user and password."""
    parts = split(url)
    return parts._replace(netloc=_host(parts)).geturl()


def _host(parts: "SplitResult") -> str:
    return parts.netloc.rpartition("@")[2]


# -- what may be shown ------------------------------------------------------------------------


def hidden(url: str) -> str:
    """Return a URL as it may be shown: without user, password, path and query.

    Addresses of mail are shown. The services of Apprise keep tokens in every part.
    """
    scheme, mark, rest = url.partition("://")
    kind = kind_of(url)
    if not is_url(url) or (kind == MAIL and not mark):
        return url
    if not mark or kind == OTHER:
        return f"{url.partition(':')[0]}:{'//' if mark else ''}{ELLIPSIS}"
    authority = rest.partition("?")[0].partition("#")[0].partition("/")[0]
    host = authority.rpartition("@")[2]
    if scheme == "ntfy" and not rest.removeprefix(authority).strip("/"):
        return f"{scheme}://{ELLIPSIS}"
    return f"{scheme}://{host}{f'/{ELLIPSIS}' if rest != host else ''}"


def scrubbed(text: str, url: str) -> str:
    """Return what a library or server has said, without the secrets of a URL."""
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, ELLIPSIS)
    return text


def _secrets(url: str) -> set[str]:
    from base64 import b64encode  # noqa: PLC0415 - rare
    from urllib.parse import parse_qsl, unquote  # noqa: PLC0415

    _, mark, rest = url.partition("://")
    if not mark:
        return set()
    before, _, query = rest.partition("?")
    authority, _, path = before.partition("/")
    user, _, host = authority.rpartition("@")
    found = [url, rest, path, query, *path.split("/"), user, *user.split(":", 1)]
    for field in query.split("&"):
        key, _, value = field.partition("=")
        found += [] if key in _OPEN_KEYS else [value, *(each for _, each in parse_qsl(field))]
    if kind_of(url) == OTHER or not path.strip("/"):
        found += [host] if kind_of(url) in {OTHER, NTFY} else []
    found += [unquote(secret) for secret in found]
    found.append(b64encode(unquote(user).encode()).decode())
    return {secret for secret in found if len(secret) >= _SHORTEST_SECRET}

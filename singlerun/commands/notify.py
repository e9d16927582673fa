"""``singlerun notify``: try notifications, see what waits to be told, and send it."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import click

from singlerun import config, paths, rule, url
from singlerun.commands import common
from singlerun.errors import UsageError
from singlerun.notify import spool, trial, wakeup
from singlerun.render.notifications import Delivered, Waiting
from singlerun.render.result import Result
from singlerun.render.text import shown

ACTIONS = ("test", "list", "flush")


@common.subcommand("Try notifications, and see what waits to be told.",
                   example="singlerun notify test mailto:ops@example.org")  # fmt: skip
@click.argument("action", type=click.Choice(ACTIONS), metavar="test|list|flush")
@click.argument("target", required=False, metavar="[NAME|TARGET]")
@common.json_option
def command(ctx: click.Context, action: str, target: str | None) -> Iterator[Result] | Result:
    """Try, list or send notifications.

    test sends one to each URL that the configuration has for NAME, to the TARGET of that name or
    URL, or to all URLs of [notify], and tells how each went; it exits with 1 if one failed. list
    shows what waits to be delivered, and why. flush tries to deliver that now, in the background.
    """
    if action == "test":
        return _test(ctx, target)
    if target is not None:
        raise click.UsageError(f"{action} takes no NAME or TARGET")
    state, _ = common.open_record(ctx)
    found = None if state is None else spool.existing(state)
    if state is None or found is None:
        return Waiting([])
    if action == "flush":
        if found.names() or found.watches():
            wakeup.ensure(state, hurry=True)
        return Result()
    entries = [(found.read(name), found.tries(name)) for name in found.names()]
    return Waiting([(entry, tries) for entry, tries in entries if entry is not None])


def _test(ctx: click.Context, target: str | None) -> Iterator[Result]:
    """Try each URL; yield how that went as soon as it is known."""
    name, table = _table(ctx, target)
    found = _urls(target, table)
    if not found:
        what = f" for {shown(target)}" if target else ""
        raise UsageError(f"no notification is configured{what}; name a URL, or write [notify]")
    for address in found:
        made = trial.entry(address, name, table)
        yield Delivered(address, trial.outcome(made))


def _table(ctx: click.Context, target: str | None) -> tuple[str, Mapping[str, Any]]:
    """Return the name to speak of, and the table [notify] for it."""
    name = "singlerun" if target is None or url.is_url(target) else target
    if not paths.is_configured():
        return name, {}
    settings = config.load(paths.state_path(ctx.obj))
    return name, settings.notify(os.fsencode(target)) if target else settings.table("notify")


def _urls(target: str | None, table: Mapping[str, Any]) -> list[str]:
    """Return the URLs to try, each once."""
    if target is not None and url.is_url(target):
        url.check(target)
        return [target]
    if target is not None and (address := rule.address(target, table)) is not None:
        return [address]
    targets = [each.target for each in rule.wanted((), table)]
    if target is None:
        targets += list(table.get("targets", {}))
    missing = [each for each in targets if rule.address(each, table) is None]
    if missing:
        raise UsageError(f"there is no {missing[0]!r} in [notify.targets]")
    return list(dict.fromkeys(rule.address(each, table) or each for each in targets))

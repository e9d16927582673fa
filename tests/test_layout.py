"""The floors: a file imports only from below its own, and only some files speak to people."""

import ast
from pathlib import Path

import singlerun

ROOT = Path(singlerun.__file__).parent
FLOORS = [
    {"errors", "outcome", "duration", "owner", "processes"},
    {"interpreter", "paths", "job", "options", "signals"},
    {"program", "family"},
    {"child", "kept", "lock", "store"},
    {"render"},
    {"recorder", "reaper", "holder", "pump", "kick"},
    {"ending", "enqueue", "output"},
    {"replacement", "throttle"},
    {"conflict", "hooks"},
    {"runner", "worker"},
    {"holding"},
    {"fastpath", "commands", "running"},
    {"__main__"},
]
WITHIN = {
    # Who asks whom on one floor, where that is not a circle of modules at import time.
    ("duration", "errors"), ("processes", "owner"), ("child", "lock"),
    ("holder", "reaper"),
    ("reaper", "holder"), ("fastpath", "commands"), ("job", "options"),
}  # fmt: skip


def floor_of(room):
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("singlerun"):
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]


def room_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0]


def modules():
    return [path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py"]


def test_every_room_has_a_floor():
    assert {room_of(path) for path in modules()} == set().union(*FLOORS)


def test_imports_go_down():
    wrong = [
        f"{room_of(path)} imports {other}"
        for path in modules()
        for other in imports(path)
        if other in set().union(*FLOORS) and other != room_of(path)
        and floor_of(other) >= floor_of(room_of(path))
        and (room_of(path), other) not in WITHIN
    ]  # fmt: skip
    assert not wrong


def test_only_the_renderers_and_commands_print():
    speaking = {
        room_of(path)
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", getattr(node.func, "attr", "")) in {"print", "echo"}
    }
    assert speaking <= {"render", "commands"}


def test_sql_stands_in_the_store_alone():
    for path in modules():
        if "store" not in path.parts:
            assert "SELECT " not in path.read_text(), path


def test_rooms_stay_small():
    large = {
        path.name: lines
        for path in modules()
        if (lines := len(path.read_text().splitlines())) > 500
    }
    assert not large

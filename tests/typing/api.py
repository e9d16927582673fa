"""How the Python interface is used, checked by mypy and never run."""

import subprocess
from pathlib import Path
from typing import assert_type

import singlerun


def one() -> None:
    with singlerun.hold("x") as holding:
        assert_type(holding, singlerun.Holding)
        assert_type(holding.names, tuple[str, ...])
        assert_type(holding.run_id, int | None)
        assert_type(holding.token, int)
        assert_type(holding.environ, dict[str, str])


def several(path: Path) -> None:
    names: list[str | bytes] = ["a", b"b"]
    with singlerun.hold("a", b"b", wait=True, shared=True, dir=path):
        pass
    with singlerun.hold(*names, wait=1.5), singlerun.hold(lock_file=path, require_record=True):
        pass


@singlerun.hold("x", wait=3)
def decorated(number: int, *, text: str = "") -> list[str]:
    return [text] * number


assert_type(decorated(3, text="x"), list[str])
decorated("3")  # type: ignore[arg-type]
singlerun.hold(3)  # type: ignore[arg-type]
singlerun.hold("x", wait="3")  # type: ignore[arg-type]


def errors() -> None:
    try:
        with singlerun.hold("x"):
            pass
    except singlerun.HeldError as error:
        assert_type(error.pid, int | None)
        assert_type(error.pids, tuple[int, ...])
        assert_type(error.run_id, int | None)
        assert_type(error.user, str | None)
        assert_type(error.since, float | None)
        assert_type(error.waited, float | None)
    except (
        singlerun.StateDirError,
        singlerun.LockFileError,
        singlerun.RecordError,
        singlerun.UsageError,
        singlerun.CommandNotFoundError,
        singlerun.CommandNotExecutableError,
    ) as other:
        assert_type(other.exit_status, int)
    except singlerun.SinglerunError:
        pass


def run(path: Path) -> None:
    ended = singlerun.run(
        ["rsync", path, b"dst"],
        name="sync",
        wait=60,
        timeout="2h",
        kill_after=3,
        retries=2,
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        cwd=path,
        env={"LANG": "C"},
    )
    assert_type(ended, singlerun.Ended)
    assert_type(ended.exit_code, int | None)
    assert_type(ended.exit_status, int)
    assert_type(ended.signal, int | None)
    assert_type(ended.state, str)
    assert_type(ended.run_id, int | None)
    assert_type(ended.stdout, bytes | None)
    singlerun.run(["true"], name=["a", "b"], skip=True)
    singlerun.run(3)  # type: ignore[arg-type]

"""Systems that were built to run one job at a time, and what went wrong in them, replayed."""

import fcntl
import mailbox
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing
from itertools import groupby, pairwise
from pathlib import Path

import pytest
from conftest import BINARY, PATIENCE, eventually, is_alive

PROJECT = Path(__file__).parents[1]
CUSTOMERS = PROJECT / "examples" / "customers"
SOURCES = ("crm", "shop", "billing", "support")


@pytest.fixture(params=["recorded", "unrecorded"])
def only_lock(request, cli):
    """Run a test twice: as usual, and without a usable run-log, so that the lock alone guards."""
    if request.param == "unrecorded":
        (cli.dir / "singlerun.db").mkdir(parents=True)
        cli.dir.chmod(0o700)


def at_once(cli, commands, **more):
    """Start processes that wait for the end of one pipe, and release them in one instant."""
    gate, opener = os.pipe()
    script = f'read x </proc/self/fd/{gate}; exec "$@"'
    processes = [
        subprocess.Popen(
            ["sh", "-c", script, "sh", BINARY, *command],
            env=cli.env, stdin=subprocess.PIPE, pass_fds=[gate], **more,
        )
        for command in commands
    ]  # fmt: skip
    cli.started += processes
    os.close(gate)
    os.close(opener)
    return processes


def words(path):
    return path.read_text().split() if path.exists() else []


def state(pid):
    """Return the state of a process as the kernel's letter; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def holders(path):
    """Return the PIDs of the holders of a flock, from the kernel's list of locks."""
    inode = path.stat().st_ino
    lines = Path("/proc/locks").read_text().splitlines()
    return [int(line.split()[4]) for line in lines if f":{inode} " in line and "->" not in line]


def waits(process):
    """Return whether a wrapper sleeps in flock(2), other than for the run-log's short lock."""
    fields = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    inodes = {
        int(field[6].rpartition(":")[2])
        for field in fields
        if field[1:3] == ["->", "FLOCK"] and int(field[5]) == process.pid
    }
    try:
        files = list(Path(f"/proc/{process.pid}/fd").iterdir())
        return any(
            file.stat().st_ino in inodes and file.readlink().name != "singlerun.db.lock"
            for file in files
        )
    except FileNotFoundError:  # a descriptor was closed, or the process has ended
        return False


def kill_all(holding):
    """Kill a wrapper and its command as maintenance or a lack of memory does."""
    for pid in (holding.wrapper.pid, holding.pid):
        os.kill(pid, signal.SIGKILL)
    holding.wrapper.wait(PATIENCE)
    eventually(lambda: not is_alive(holding.pid), "the end of the command")


def run_log(cli):
    return closing(sqlite3.connect(cli.dir / "singlerun.db", isolation_level=None, timeout=0))


def test_s01_many_adders_at_once_start_one_worker_and_nothing_is_left(cli, tmp_path):
    """Adding a record kicked a worker through a mutex; two kicks at once must not start two."""
    witness = tmp_path / "witness"
    busy = tmp_path / "busy"
    script = f"mkdir {busy} || echo overlap; echo ran >> {witness}; rmdir {busy}"
    commands = [["add", "-n", "records", "sh", "-c", script] for _ in range(10)]
    adders = at_once(cli, commands, stdout=subprocess.PIPE)
    ids = [int(adder.communicate(timeout=PATIENCE)[0]) for adder in adders]
    for number in ids:
        assert cli.run("wait", str(number)).returncode == 0
        assert cli.run("logs", str(number)).stdout == "", "no two overlapped"
    assert words(witness) == ["ran"] * len(ids)
    eventually(lambda: not cli.workers(), "that the worker ends when nothing is left")
    runs = cli.history("records")[::-1]
    assert [run["job_id"] for run in runs] == sorted(ids)
    workers = [pid for pid, _ in groupby(run["wrapper_pid"] for run in runs)]
    assert len(workers) == len(set(workers)), "one worker after the other"


@pytest.mark.stress
def test_s01_a_wake_up_at_the_moment_when_the_worker_stops_is_not_lost(cli, tmp_path):
    """Between "the queue is empty" and "the worker stops" a record was added, and stayed there."""
    witness = tmp_path / "witness"
    number = cli.add("-n", "records", "true")
    for count in range(25):  # each is added as the former ends, when its worker is about to stop
        assert cli.run("wait", str(number)).returncode == 0
        number = cli.add("-n", "records", "sh", "-c", f"echo {count} >> {witness}")
    assert cli.run("wait", "-t", "20", str(number)).returncode == 0
    assert words(witness) == [str(count) for count in range(25)]


def test_s02_a_worker_killed_in_the_middle_of_the_queue_is_made_up_for(cli, tmp_path, gate):
    """Maintenance killed the worker with its job; what it left was found by a scheduled job."""
    witness = tmp_path / "witness"
    killed = cli.add("-n", "sync", *gate.command)
    rest = [cli.add("-n", "sync", "sh", "-c", f"echo {word} >> {witness}") for word in "ab"]
    command = gate.pid()
    (worker,) = cli.workers("sync")
    for pid in (worker, command):
        os.kill(pid, signal.SIGKILL)
        eventually(lambda pid=pid: not is_alive(pid), "its end")
    reaped = cli.run("reap").stdout.splitlines()
    assert [line.partition(": ")[2] for line in reaped] == [
        "a zombie, closed as lost", "started a worker",
    ]  # fmt: skip
    for number in rest:
        assert cli.run("wait", str(number)).returncode == 0
    assert words(witness) == ["a", "b"]
    assert cli.job(killed)["state"] == "lost"


def test_s02_a_job_killed_before_it_could_reset_its_mutex_is_reaped(cli):
    """Maintenance killed the job, the mutex stayed true, and a scheduled job looks for such."""
    with cli.hold("-n", "sync") as holding:
        kill_all(holding)
    (zombie,) = cli.json("ps")
    assert (zombie["state"], zombie["command"][0]) == ("zombie", "sh")
    assert cli.run("is-running", "sync").returncode == 1
    reaped = cli.run("reap")
    assert (reaped.returncode, reaped.stderr) == (0, "")
    assert reaped.stdout.startswith(f"{zombie['id']} sync: ")
    assert cli.last("sync")["state"] == "lost"
    assert cli.last("sync")["ended_at"] is not None
    again = cli.run("reap")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_s02_a_killed_job_does_not_stop_the_next(cli):
    """The kill went unnoticed, but work goes on all the same, and in order."""
    with cli.hold("-n", "sync") as holding:
        kill_all(holding)
    result = cli.run("-n", "sync", "echo", "carried on")
    assert (result.returncode, result.stdout, result.stderr) == (0, "carried on\n", "")
    assert [run["state"] for run in cli.history("sync")] == ["succeeded", "lost"]
    assert cli.json("ps") == []


def test_s02_a_job_whose_wrapper_was_killed_is_no_zombie(cli):
    """Only the watcher was killed, the job still works: it must not be replaced or reaped."""
    with cli.hold("-n", "sync") as holding:
        os.kill(holding.wrapper.pid, signal.SIGKILL)
        holding.wrapper.wait(PATIENCE)
        assert cli.run("-n", "sync", "true").returncode == 75
        assert "an orphan" in cli.run("reap").stdout
        assert [run["state"] for run in cli.json("ps")] == ["orphan"]
        assert is_alive(holding.pid)
        holding.wrapper.stdin.close()
        eventually(lambda: not is_alive(holding.pid), "the end of the command")
        assert cli.run("-n", "sync", "true").returncode == 0


def test_s03_each_integration_has_a_mutex_of_its_own(cli):
    """Many integrations live side by side, each with one run at most."""
    names = ["crm", "billing", "warehouse", "warehouse/returns", "Lager Köln"]
    with ExitStack() as stack:
        pids = {name: stack.enter_context(cli.hold("-n", name)).pid for name in names}
        assert {run["name"]: run["pid"] for run in cli.json("ps")} == pids
        for name in names:
            refused = cli.run("-n", name, "true")
            assert (refused.returncode, f"PID {pids[name]} " in refused.stderr) == (75, True)
    assert [cli.run("-n", name, "true").returncode for name in names] == [0] * len(names)


def test_s03_the_queues_of_many_integrations_do_not_wait_for_each_other(cli, gate):
    """The mutex had an external id, so that each integration has a queue of its own."""
    slow = cli.add("-n", "crm", *gate.command)
    gate.pid()
    for name in ("billing", "warehouse/returns", "Lager Köln"):
        assert cli.run("wait", str(cli.add("-n", name, "true"))).returncode == 0
    assert [job["id"] for job in cli.queue()] == [slow]
    gate.open()
    assert cli.run("wait", str(slow)).returncode == 0


def test_s04_an_item_has_a_status_and_is_tried_again(cli, tmp_path):
    """Items of the queue had statuses, Pending and Retry among them, set by hand."""
    ready = tmp_path / "ready"
    options = ["--retries", "9", "--retry-delay", "0.2"]
    item = cli.add("-n", "items", *options, "sh", "-c", f"test -e {ready} || exit 7")
    pending = cli.add("-n", "items", "--after", str(item), "true")
    waiting = eventually(
        lambda: [job for job in cli.queue() if job["tries"] and job["state"] == "delayed"],
        "the first failure",
    )
    assert [(job["id"], job["exit_code"]) for job in waiting] == [(item, 7)]
    assert waiting[0]["starts_at"] is not None
    assert cli.job(pending)["state"] == "delayed"
    ready.touch()
    assert cli.run("wait", str(pending)).returncode == 0
    done = cli.job(item)
    assert (done["state"], done["exit_code"]) == ("succeeded", 0)
    runs = [run for run in cli.history("items")[::-1] if run["job_id"] == item]
    assert [run["state"] for run in runs] == ["failed"] * (done["tries"] - 1) + ["succeeded"]


def test_s05_a_job_that_does_not_get_the_lock_stays_queued_without_spinning(cli, tmp_path):
    """A job that failed to get the lock put itself back in the queue, again and again."""
    witness = tmp_path / "witness"
    with cli.hold("-n", "job") as holding:
        for word in ("a", "b"):
            left = cli.run("-n", "job", "--queue", "sh", "-c", f"echo {word} >> {witness}")
            assert (left.returncode, left.stdout, left.stderr) == (0, "", "")
        (worker,) = cli.workers("job")
        line = Path("/proc/locks")
        eventually(lambda: f" {worker} " in line.read_text(), "that it stands in line")
        eventually(lambda: state(worker) == "S", "its sleep")
        assert [(job["state"], job["tries"]) for job in cli.queue("job")] == [("queued", 0)] * 2
        assert len(cli.history("job")) == 1, "no try and no failure in between"
        assert words(witness) == []
        last = cli.queue("job")[-1]["id"]
        holding.release()
    assert cli.run("wait", str(last)).returncode == 0
    assert words(witness) == ["a", "b"]


def test_s06_an_error_leaves_no_flag_to_clear(cli):
    """A flag on a record was set at the start and cleared at the end, but not after an error."""
    script = "rows = [{'amount': 'n/a'}]; print(sum(int(row['amount']) for row in rows))"
    broken = cli.run("-n", "totals", sys.executable, "-c", script)
    assert (broken.returncode, "ValueError" in broken.stderr) == (1, True)
    assert cli.run("is-running", "totals").returncode == 1
    mended = cli.run("-n", "totals", sys.executable, "-c", script.replace("n/a", "12"))
    assert (mended.returncode, mended.stdout, mended.stderr) == (0, "12\n", "")
    assert [run["state"] for run in cli.history("totals")] == ["succeeded", "failed"]


def test_s07_the_user_is_told_the_holder_and_how_to_wait(cli):
    """A button looked for a job that was queued or at work, and told the user to wait."""
    cli.run("-n", "invoices", "sleep", "0.05")
    with cli.hold("-n", "invoices") as holding:
        refused = cli.run("-n", "invoices", "true")
        assert (refused.returncode, refused.stdout) == (75, "")
        line = (
            rf"singlerun: invoices is held by PID {holding.pid} \(cat\), user \S+,"
            r" since \d\d:\d\d:\d\d \(\S+\), usually takes \S+; to wait: --wait\n"
        )
        assert re.fullmatch(line, refused.stderr)
        button = cli.run("is-running", "invoices")
        assert (button.returncode, button.stderr) == (0, "")
        assert button.stdout.startswith(f"invoices is held by PID {holding.pid} (cat), user ")
        (run,) = cli.json("is-running", "invoices")
        assert (run["pid"], run["state"]) == (holding.pid, "running")
    button = cli.run("is-running", "invoices")
    assert (button.returncode, button.stdout, button.stderr) == (1, "", "")


def test_s08_two_users_in_the_same_moment_start_one_job(cli, tmp_path, only_lock):
    """Two users press the button in the same moment; both looked, saw none, and both started."""

    def press(witness):
        command = ["-q", "-n", witness.name, "sh", "-c", f"echo $$ >> {witness}; exec cat"]
        users = at_once(cli, [command, command], stderr=subprocess.DEVNULL)
        eventually(
            lambda: len(words(witness)) + sum(user.poll() is not None for user in users) == 2,
            "that each has started the job or given up",
        )
        assert len(words(witness)) == 1, "both started"
        for user in users:
            user.stdin.close()
        assert sorted(user.wait(PATIENCE) for user in users) == [0, 75]

    for number in range(5):
        press(tmp_path / f"report-{number}")


def test_s09_the_second_run_is_recorded_and_never_starts(cli, tmp_path):
    """The second instance found out inside its start, and went on with an empty list."""
    witness = tmp_path / "witness"
    with cli.hold("-n", "batch"):
        skipped = cli.run("-n", "batch", "--skip", "touch", str(witness))
        refused = cli.run("-n", "batch", "touch", str(witness))
        assert (skipped.returncode, skipped.stdout, skipped.stderr) == (0, "", "")
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (75, "", 1)
        second, first, holder = cli.history("batch")
    assert not witness.exists()
    assert (first["state"], second["state"]) == ("skipped", "refused")
    for run in (first, second):
        assert run["conflict_id"] == holder["id"]
        assert run["command"] == ["touch", str(witness)]
        assert (run["started_at"], run["pid"]) == (None, None)
        assert run["ended_at"] is not None


DELIVER = """
import email.message, mailbox, os, sys
letter = email.message.EmailMessage()
letter["To"] = sys.argv[2]
letter["Subject"] = f"{os.environ['SINGLERUN_NAME']} was {os.environ['SINGLERUN_STATE']}"
letter.set_content(os.environ["SINGLERUN_DETAIL"])
mailbox.Maildir(sys.argv[1]).add(letter)
"""


def test_s09_the_second_sends_an_email_to_its_initiator(cli, tmp_path):
    """The second instance sent an email to its initiator, and so does this one."""
    letters = mailbox.Maildir(tmp_path / "mail")
    deliver = shlex.join(
        [sys.executable, "-c", DELIVER, str(tmp_path / "mail"), "anna@example.org"]
    )
    batch = ["-n", "batch", "--on-conflict", deliver]
    assert cli.run(*batch, "true").returncode == 0
    assert len(letters) == 0, "nothing was in its way"
    with cli.hold("-n", "batch") as holding:
        assert cli.run(*batch, "true").returncode == 75
        assert cli.run(*batch, "--skip", "true").returncode == 0
        told = sorted(letters, key=lambda letter: letter["Subject"])
        assert [letter["Subject"] for letter in told] == ["batch was refused", "batch was skipped"]
        for letter in told:
            assert letter["To"] == "anna@example.org"
            assert f"held by PID {holding.pid} (cat), user " in letter.get_payload()
    assert cli.run(*batch, "true").returncode == 0
    assert len(letters) == 2, "the run after a refused one starts, without a message"


def test_s10_no_run_gets_in_between_two_batches_of_one_chain(cli):
    """The end of one batch starts the next; between the two it looked as if nothing ran."""
    chain = f"""
        step() {{ {BINARY} -n "$1" sh -c "echo at work; read line"; }}
        echo $$; step extract && echo between && read line && step load
    """
    with cli.hold("-n", "etl", script=chain) as holding:
        lines, stdin = holding.wrapper.stdout, holding.wrapper.stdin

        def intruder_is_kept_out():
            assert cli.run("-n", "etl", "echo", "in").returncode == 75
            assert cli.run("is-running", "etl").returncode == 0

        for batch in ("extract", None, "load"):
            assert lines.readline() == (b"at work\n" if batch else b"between\n")
            intruder_is_kept_out()
            tree = cli.run("ps", "--tree").stdout.splitlines()[1:]
            names = [line.split("\t")[1] for line in tree]
            assert names == (["etl", f"└─ {batch}"] if batch else ["etl"])
            stdin.write(b"go on\n")
            stdin.flush()
        assert holding.wrapper.wait(PATIENCE) == 0
    runs = {run["name"]: run for run in cli.history() if run["state"] == "succeeded"}
    assert runs["extract"]["parent_id"] == runs["load"]["parent_id"] == runs["etl"]["id"]


def test_s11_the_next_batch_is_scheduled_once_and_can_be_called_off(cli, tmp_path):
    """The next batch came a minute later under a fixed name, and a second one was an error."""
    witness = tmp_path / "witness"
    batch = ["-n", "batch", "--unique", "--delay"]
    first = cli.add(*batch, "1h", "sh", "-c", f"echo first >> {witness}")
    second = cli.add(*batch, "1h", "sh", "-c", f"echo second >> {witness}")
    assert cli.job(first)["detail"] == f"replaced by job {second}"
    (job,) = cli.queue("batch")
    assert (job["id"], job["state"]) == (second, "delayed")
    assert cli.run("cancel", str(second)).returncode == 0
    assert cli.queue() == []
    third = cli.add(*batch, "0.3", "sh", "-c", f"echo third >> {witness}")
    assert cli.run("wait", str(third)).returncode == 0
    assert words(witness) == ["third"]


@pytest.mark.parametrize("policy", [["-q"], ["-q", "-w"]], ids=["refused", "waiting"])
def test_s12_a_rogue_batch_does_not_burn_the_quota(cli, tmp_path, policy):
    """A batch started itself again and again, until the executions of a day were used up.

    Twelve at once, and it wants to go on: a waiter is counted, too, when its turn comes.
    """
    quota = tmp_path / "quota"
    batch = ["-n", "batch", *policy, "--max-starts", "3/1d", "sh", "-c", f"echo used >> {quota}"]
    for _ in range(2):
        batches = at_once(cli, [batch] * 6)
        assert {process.wait(PATIENCE) for process in batches} <= {0, 75}
    while len(words(quota)) < 3:  # those that came while another ran were refused for that
        assert cli.run(*batch).returncode == 0
    assert [cli.run(*batch).returncode for _ in range(2)] == [75, 75]
    assert words(quota) == ["used"] * 3
    states = [run["state"] for run in cli.history("batch")]
    assert states.count("succeeded") == 3
    assert set(states) == {"succeeded", "refused"}


def test_s12_a_job_whose_end_starts_it_again_is_slowed_down(cli, tmp_path):
    """The finish of a batch started the next one, which was itself."""
    quota, again = tmp_path / "quota", tmp_path / "again"
    again.write_text(
        f"[ ! -e {quota} ] || [ $(wc -l < {quota}) -lt 5 ] || exit 0  # enough is enough\n"
        f"exec {BINARY} -n batch --min-interval 1h --on-finish 'sh {again}'"
        f" sh -c 'echo used >> {quota}'"
    )
    done = subprocess.run(["sh", again], env=cli.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "batch was started too recently" in done.stderr
    assert words(quota) == ["used"]
    second, first = cli.history("batch")
    assert (first["state"], second["state"]) == ("succeeded", "refused")
    assert second["detail"] == "too soon: 1h between starts"


def test_s13_a_lock_is_as_wide_as_what_it_protects(cli):
    """It was one run for each user, until it turned out that it must be one for each record."""
    for_user = ["-n", "import:anna"]
    with cli.hold(*for_user), cli.hold("-n", "invoice:42", "-n", "customer:7"):
        assert cli.run(*for_user, "true").returncode == 75
        assert cli.run("-n", "import:bernd", "true").returncode == 0
        for name, status in {"invoice:42": 75, "customer:7": 75, "invoice:43": 0}.items():
            assert cli.run("-n", name, "true").returncode == status, name
            assert cli.run("-n", "invoice:44", "-n", name, "true").returncode == status, name


def test_s13_transfers_between_accounts_neither_deadlock_nor_lose_money(cli, tmp_path):
    """Each job needs two records, and two jobs name the same two in opposite order."""
    accounts = {name: tmp_path / name for name in ("anna", "bernd")}
    for path in accounts.values():
        path.write_text("100")
    script = "a=$(cat $1); b=$(cat $2); sleep 0.01; echo $((a - 1)) > $1; echo $((b + 1)) > $2"
    # With both accounts let go in one instant, each transfer gets the first that it asks for.
    with cli.hold(*(word for name in accounts for word in ("-n", name))) as both:
        transfers = [
            cli.start(
                "-w", "-n", giver, "-n", taker,
                "sh", "-c", script, "sh", accounts[giver], accounts[taker],
            )
            for giver, taker in [("anna", "bernd"), ("bernd", "anna")] * 4 + [("anna", "bernd")]
        ]  # fmt: skip
        eventually(lambda: all(map(waits, transfers)), "the waiting of all")
        both.release()
        assert [transfer.wait(PATIENCE) for transfer in transfers] == [0] * len(transfers)
    assert {name: int(path.read_text()) for name, path in accounts.items()} == {
        "anna": 99,
        "bernd": 101,
    }


def test_s14_the_newest_of_many_in_one_second_is_known(cli):
    """Jobs had timestamps of a second, so the newest could not be told."""
    script = f"for i in $(seq 12); do {BINARY} -n import echo $i; done"
    done = subprocess.run(
        ["sh", "-c", script], env=cli.env, capture_output=True, text=True, check=True
    )
    runs = cli.history("import")[::-1]
    assert [run["command"][1] for run in runs] == done.stdout.split()
    for key in ("id", "token", "asked_at", "started_at", "ended_at"):
        values = [run[key] for run in runs]
        assert values == sorted(set(values)), f"{key} tells them apart, and their order"


def test_s15_every_run_leaves_a_record_of_start_and_end(cli, tmp_path):
    """A table was written in the first start and the last end; failures between left no trace."""
    tmp_path.joinpath("plain").write_text("no program")
    plain = str(tmp_path / "plain")
    wanted = []

    def ends(status, state, *command, options=()):
        assert cli.run("-n", "job", *options, *command).returncode == status
        wanted.append((command[0], state))

    ends(0, "succeeded", "true")
    ends(3, "failed", "sh", "-c", "exit 3")
    ends(137, "failed", "sh", "-c", "kill -9 $$")
    ends(127, "failed", "no-such-program")
    ends(126, "failed", plain)
    with cli.hold("-n", "job") as holding:
        wanted.append(("sh", "stopped"))
        ends(75, "refused", "true")
        ends(0, "skipped", "true", options=["--skip"])
        ends(75, "refused", "true", options=["--wait-for", "0.01"])
        waiter = cli.start("-n", "job", "-w", "true")
        wanted.append(("true", "stopped"))
        eventually(lambda: waits(waiter), "the waiting")
        waiter.terminate()
        assert waiter.wait(PATIENCE) == 143
        holding.wrapper.terminate()
        assert holding.wrapper.wait(PATIENCE) == 143
    with cli.hold("-n", "job") as holding:
        wanted.append(("sh", "lost"))
        kill_all(holding)
    ends(0, "succeeded", "true")
    runs = cli.history("job")[::-1]
    assert [(run["command"][0], run["state"]) for run in runs] == wanted
    for run in runs:
        assert run["asked_at"] <= (run["started_at"] or run["asked_at"]) <= run["ended_at"]
        started = run["started_at"] is not None
        assert started == (run["state"] not in {"refused", "skipped"} and run != runs[9])
    assert [run["exit_code"] for run in runs[:5]] == [0, 3, None, 127, 126]
    assert runs[2]["signal"] == 9


def test_s16_the_start_is_recorded_before_the_command_starts(cli):
    """The start was told by an event, which arrived later; until then nothing seemed to run."""
    look = cli.run("-n", "job", BINARY, "ps", "job", "--json")
    assert '"state": "running"' in look.stdout, "the command itself finds that it runs"
    with run_log(cli) as database:
        refuse = "BEGIN SELECT RAISE(FAIL, 'no start can be written down'); END"
        database.execute(f"CREATE TRIGGER refuse BEFORE INSERT ON runs {refuse}")
    # What is read is all that the command wrote, also if it should be left to itself.
    result = cli.run("--require-record", "-n", "job", "echo", "started")
    assert (result.returncode, result.stdout) == (125, "")
    assert "no start can be written down" in result.stderr


def test_s16_the_end_is_recorded_before_the_lock_is_free(cli):
    """The end was told by an event, which arrived later than the next run."""
    with cli.hold("-n", "job") as holding, run_log(cli) as database:
        waiter = cli.start(
            "-w", "-n", "job", BINARY, "history", "job", "--json", stdout=subprocess.PIPE
        )
        eventually(lambda: waits(waiter), "the waiting")
        database.execute("BEGIN IMMEDIATE")
        holding.wrapper.stdin.close()
        eventually(
            lambda: state(holding.pid) == "" and state(holding.wrapper.pid) == "S",
            "that the command has ended, and its end waits for the run-log",
        )
        assert holders(cli.lock_path("job")) == [holding.wrapper.pid]
        database.execute("ROLLBACK")
        seen_by_the_next = waiter.communicate(timeout=PATIENCE)[0].decode()
    assert seen_by_the_next.count('"ended_at": null') == 1, "its own"
    first, second = cli.history("job")[::-1]
    assert (first["state"], second["state"]) == ("succeeded", "succeeded")
    assert first["ended_at"] <= second["started_at"]


def test_s17_what_is_marked_is_worked_off_though_the_wake_up_was_lost(cli, tmp_path):
    """Events told the processor of records; a lost event must lose nothing, the mark is enough."""
    witness = tmp_path / "witness"
    fifo = cli.dir / "workers" / "processor"
    assert cli.run("-n", "processor", "true").returncode == 0
    fifo.parent.mkdir(mode=0o700)
    fifo.mkdir()  # an adder cannot wake a worker
    for kind in ("mail", "invoice", "mail"):
        command = ["sh", "-c", f"echo {kind} >> {witness}"]
        lost = cli.run("add", "-n", "processor", "--label", kind, *command)
        assert (lost.returncode, lost.stderr.count("\n")) == (125, 1)
    fifo.rmdir()
    marked = cli.queue("processor")
    assert [job["label"] for job in marked] == ["mail", "invoice", "mail"]
    assert cli.workers() == []
    assert cli.run("reap").stdout == "processor: started a worker\n"
    assert cli.run("wait", str(marked[-1]["id"])).returncode == 0
    assert words(witness) == ["mail", "invoice", "mail"], "different work, one after the other"
    runs = [run for run in cli.history("processor")[::-1] if run["job_id"]]
    assert all(a["ended_at"] <= b["started_at"] for a, b in pairwise(runs))


def test_s18_the_subscriber_may_start_so_many_in_parallel(cli, tmp_path):
    """Jobs ran one by one, or all at once; three of these really run together, and never four."""
    slots = ["-q", "-w", "-n", "import", "--slots", "3"]
    witness = tmp_path / "witness"
    # Each says that it is at work, and works until it is told to end.
    script = f"echo $$ >> {witness}; read line; exit 0"
    jobs = [
        cli.start(*slots, "sh", "-c", script, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(8)
    ]
    ended = 0
    while ended < len(jobs):
        at_work = min(3, len(jobs) - ended)
        eventually(
            lambda due=ended + at_work: len(words(witness)) == due, "that all slots are used"
        )
        waiting = len(jobs) - ended - at_work
        eventually(
            lambda due=waiting: (
                sum(run["state"] == "waiting" for run in cli.json("ps", "import")) == due
            ),
            "the waiting of the others",
        )
        assert cli.run("-n", "import", "--slots", "3", "true").returncode == 75, (
            "there is no fourth"
        )
        pids = {run["pid"]: run["wrapper_pid"] for run in cli.json("ps", "import") if run["pid"]}
        assert len(pids) == at_work
        assert set(pids) <= set(map(int, words(witness)))
        for job in jobs:  # the first that is at work ends, and its slot is given away
            if job.pid in pids.values() and job.poll() is None:
                job.stdin.close()
                assert job.wait(PATIENCE) == 0
                break
        ended += 1
        if waiting == 0:
            break
    for job in jobs:
        if not job.stdin.closed:
            job.stdin.close()
    assert [job.wait(PATIENCE) for job in jobs] == [0] * len(jobs)
    assert len(words(witness)) == len(jobs)


def test_s19_is_running_asks_the_lock_and_not_the_table(cli):
    """A cache told quickly whether the job was done, and was wrong when something went wrong."""
    with cli.hold("-n", "job") as holding:
        with run_log(cli) as database:
            database.execute("UPDATE runs SET state = 'succeeded', ended_ns = 1")
        assert cli.run("is-running", "job").returncode == 0, "whatever the table says"
        with run_log(cli) as database:
            database.execute("UPDATE runs SET state = 'running', ended_ns = NULL")
        kill_all(holding)
    with run_log(cli) as database:
        query = "SELECT state FROM runs WHERE ended_ns IS NULL"
        assert database.execute(query).fetchall() == [("running",)]
    assert cli.run("is-running", "job").returncode == 1, "whatever the table says"
    with cli.hold("-n", "job"):
        for path in cli.dir.glob("singlerun.db*"):
            path.unlink()
        assert cli.run("is-running", "job").returncode == 0, "there is no table"
    assert cli.run("is-running", "job").returncode == 1, "there is no table"


def test_s20_busy_loops_started_together_never_overlap(cli, tmp_path, only_lock):
    """Two busy loops were started in the same millisecond, and ran side by side."""
    witness = tmp_path / "witness"
    loop = (
        "import sys, time; begun = now = time.monotonic_ns()\n"
        "while now < begun + 100_000_000: now = time.monotonic_ns()\n"
        "open(sys.argv[1], 'a').write(f'{begun}-{now}\\n')"
    )
    command = ["-q", "-w", "-n", "loop", sys.executable, "-c", loop, str(witness)]
    loops = at_once(cli, [command] * 3, stderr=subprocess.DEVNULL)
    assert [process.wait(PATIENCE) for process in loops] == [0, 0, 0]
    times = sorted([int(time) for time in line.split("-")] for line in words(witness))
    assert len(times) == 3
    assert all(end <= begun for (_, end), (begun, _) in pairwise(times)), times


def test_s21_the_one_that_waits_longest_is_next(cli, tmp_path):
    """Waiters polled; "the oldest first" was promised, and luck decided."""
    witness = tmp_path / "witness"
    waiters = []
    with cli.hold("-n", "sentry"):
        for number in range(8):
            command = ["sh", "-c", f"echo {number} >> {witness}"]
            waiters.append(cli.start("-w", "-n", "sentry", *command))
            eventually(lambda: waits(waiters[-1]), "its place in line")
        for number in (0, 4, 1):
            waiters[number].kill()
            waiters[number].wait(PATIENCE)
    assert [waiter.wait(PATIENCE) for waiter in waiters] == [-9, -9, 0, 0, -9, 0, 0, 0]
    assert words(witness) == ["2", "3", "5", "6", "7"]


def test_s21_the_holder_does_not_wait_behind_its_waiters(cli):
    """The first two runs of a new name waited for each other."""
    assert cli.run("-n", "other", "true").returncode == 0
    lock = cli.lock_path("sentry")
    with (cli.dir / "singlerun.db.lock").open() as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # no run can record anything now
        first = cli.start("-w", "-n", "sentry", "true")
        eventually(lambda: lock.exists() and holders(lock) == [first.pid], "the first's lock")
        first.send_signal(signal.SIGSTOP)
    second = cli.start("-w", "-n", "sentry", "true")
    eventually(lambda: waits(second), "the waiting")
    first.send_signal(signal.SIGCONT)
    assert (first.wait(PATIENCE), second.wait(PATIENCE)) == (0, 0)


ENDS = {
    "return": "exit 0",
    "failure": "exit 3",
    "error": "set -u; echo $none",
    "abort": "kill -ABRT $$",
    "kill": "kill -KILL $$",
    "fork": "sleep 60 >/dev/null 2>&1 & echo $!",
}


@pytest.mark.parametrize("end", ENDS)
def test_s22_the_lock_is_free_however_the_command_ends(cli, end):
    """The lock was deleted by the last line of the job, which not every job reached."""
    ended = cli.run("-n", "job", "sh", "-c", ENDS[end])
    assert cli.run("-n", "job", "true").returncode == 0
    if ended.stdout:
        assert is_alive(int(ended.stdout)), "what it left behind holds nothing"
        os.kill(int(ended.stdout), signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_s22_the_lock_is_free_after_a_signal(cli, number):
    """The lock was deleted by the last line of the job, and a signal came before it."""
    with cli.hold("-n", "job") as holding:
        holding.wrapper.send_signal(number)
        assert holding.wrapper.wait(PATIENCE) == 128 + number
        assert not is_alive(holding.pid)
        assert cli.run("-n", "job", "true").returncode == 0


def test_s22_the_lock_is_free_after_kill_9_but_not_before(cli):
    """The lock was deleted by the last line of the job; kill -9 leaves no time for any line."""
    with cli.hold("-n", "job") as holding:
        os.kill(holding.wrapper.pid, signal.SIGKILL)
        holding.wrapper.wait(PATIENCE)
        assert cli.run("-n", "job", "true").returncode == 75, "the command lives"
        os.kill(holding.pid, signal.SIGKILL)
        eventually(lambda: not is_alive(holding.pid), "the end of the command")
        assert cli.run("-n", "job", "true").returncode == 0


def test_s22_the_lock_is_free_after_a_power_loss(cli, tmp_path):
    """The lock was deleted by the last line of the job, and the machine was switched off."""
    after = tmp_path / "after"
    with cli.hold("-n", "job"):
        shutil.copytree(cli.dir, after)  # what is on the disk at that moment
        with closing(sqlite3.connect(after / "singlerun.db")) as database:
            boot = "00000000-0000-4000-8000-000000000000"  # it was another boot than this
            database.execute("UPDATE runs SET boot_id = ?", [boot])
            database.commit()
        assert cli.run("--dir", str(after), "-n", "job", "true").returncode == 0
    runs = cli.json("history", "--dir", str(after))
    assert [run["state"] for run in runs] == ["succeeded", "lost"]


def test_s23_jobs_on_different_records_do_not_wait_for_each_other(cli):
    """There was one mutex for all, although two jobs touch different records."""
    patient = ["--wait-for", "20"]
    with cli.hold("-n", "invoice:42") as first, cli.hold(*patient, "-n", "invoice:43"):
        third = cli.start(*patient, "-n", "invoice:42", "true")
        eventually(lambda: waits(third), "the waiting")
        first.release()
        assert third.wait(PATIENCE) == 0
        assert [run["name"] for run in cli.json("ps")] == ["invoice:43"], "still at work"


def test_s24_no_transaction_is_open_while_the_command_runs(cli):
    """A transaction was the lock, so no long call to the outside could be made under it."""
    with cli.hold("-n", "job"):
        with run_log(cli) as database:
            database.execute("BEGIN EXCLUSIVE")
            database.execute("ROLLBACK")
            busy, *_ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            assert busy == 0, "there is no reader either"
        others = [cli.run("-n", f"other-{number}", "true") for number in range(3)]
        assert [(other.returncode, other.stderr) for other in others] == [(0, "")] * 3
        assert len(cli.history()) == 4
        assert cli.run("-n", "job", "true").returncode == 75, "and yet it is held"


def import_all(cli, tmp_path, prefix):
    """
    Import all sources side by side; return the exit status and verdict of the check.

    Each importer is held between its look and its insert until no other can look.
    """
    database = tmp_path / "customers.db"
    importer = [sys.executable, CUSTOMERS / "import_customers.py"]
    subprocess.run([*importer, database], check=True, capture_output=True)  # makes the tables
    importers, outputs = {}, {}
    for source in SOURCES:
        outputs[source] = tmp_path / source
        with outputs[source].open("w") as stdout:
            importers[source] = subprocess.Popen(
                [*prefix, *importer, database, source, "--step"],
                env=cli.env, stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.DEVNULL,
            )  # fmt: skip
    cli.started += importers.values()
    looked = set()

    def all_have_looked_or_wait():
        has_looked = {source for source in SOURCES if words(outputs[source])}
        if not has_looked - looked:
            return None
        wait = {source for source in SOURCES if waits(importers[source])}
        return has_looked - looked if len(has_looked | wait) == len(SOURCES) else None

    while len(looked) < len(SOURCES):
        for source in eventually(all_have_looked_or_wait, "the look of an importer"):
            importers[source].stdin.close()
            looked.add(source)
    assert [process.wait(PATIENCE) for process in importers.values()] == [0] * len(SOURCES)
    check = subprocess.run([*importer, database], check=False, capture_output=True, text=True)
    return check.returncode, check.stdout.splitlines()[-1]


def test_s25_importers_side_by_side_make_two_parents_where_one_is_right(cli, tmp_path):
    """Customers of four sources match the same parent; run in parallel, each makes its own."""
    damage = (1, "42 parents, 12 companies with more than one")
    assert import_all(cli, tmp_path, []) == damage


def test_s25_importers_in_line_make_one_parent_each(cli, tmp_path, only_lock):
    """Customers of four sources match the same parent; run one at a time, they find it."""
    prefix = [BINARY, "-w", "-n", "import"]
    good = (0, "12 parents, 0 companies with more than one")
    assert import_all(cli, tmp_path, prefix) == good


def test_s25_what_the_example_tells_to_type_works(cli):
    """A reader copies the commands of the example's README into a shell, in a fresh clone."""
    text = (CUSTOMERS / "README.md").read_text()
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    path = f"{BINARY.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", script], cwd=PROJECT, env=cli.env | {"PATH": path},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
    found = re.findall(r"^\d+ parents, .*", done.stdout, re.MULTILINE)
    told = re.findall(r"# (\d+ parents, .*)", script)
    assert len(found) == len(told) == 2
    assert found[1] == told[1] == "12 parents, 0 companies with more than one"
    assert sum(run["state"] == "succeeded" for run in cli.history("import")) == len(SOURCES)

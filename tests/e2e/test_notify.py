"""Notifications: real servers on loopback, real senders."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import BINARY, PATIENCE, _command_lines, eventually, is_alive
from servers import Mail, Web


@pytest.fixture
def web():
    server = Web()
    yield server
    server.close()


@pytest.fixture
def mail():
    server = Mail()
    yield server
    server.close()


def senders(cli):
    """Return the PIDs of senders; each try is a process with the same command line."""
    return [
        pid
        for pid, words in _command_lines()
        if b"singlerun.notify.sender" in b" ".join(words)
        and words[-1] == os.fsencode(cli.dir)
        and is_alive(pid)
        and os.getsid(pid) == pid
    ]


def spool(cli):
    return sorted(path.name for path in (cli.dir / "notify").glob("[0-9]*"))


def is_free(fifo):
    with open(fifo, "rb+", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def is_told(cli):
    """Wait until nothing is left to tell."""
    eventually(lambda: not spool(cli) and not senders(cli), "the end of the sender")


def log(cli):
    return (cli.dir / "notify.log").read_text()


# -- each event, once, in order -----------------------------------------------------------------


def test_events_come_once_and_in_order(cli, web, mail):
    hook = f"{web.url}/hook"
    to = f"{mail.url}/?to=ops@example.org,second@example.org&from=us@example.org"
    rules = ["--notify", f"start,success,failure,recovery,change:{hook}"]
    rules += ["--notify", f"failure,recovery:{to}"]
    for script in ("true", "exit 3", "exit 3", "exit 0", "exit 0"):
        cli.run("-n", "x", *rules, "sh", "-c", script)
    is_told(cli)
    assert web.events() == [
        "start", "success", "start", "failure", "start", "failure", "start", "recovery",
        "start", "success",
    ]  # fmt: skip
    subjects = [str(message["Subject"]).rpartition(" (")[0] for message, _ in mail.seen]
    assert subjects == ["x has failed: exit status 3"] * 2 + ["x succeeds again"]
    message, recipients = mail.seen[0]
    assert recipients == ["ops@example.org", "second@example.org"]
    assert message["From"] == "us@example.org"
    assert message["Auto-Submitted"] == "auto-generated"
    assert len({message["Message-ID"] for message, _ in mail.seen}) == 3
    assert "Exit status: 3\r\n" in message.get_content()
    body = json.loads(web.seen[3][2])
    assert (body["exit_status"], body["run"]["state"]) == (3, "failed")


def test_a_first_failure_and_each_change_are_told(cli, web):
    for script in ("exit 3", "exit 4", "true", "true", "exit 5"):
        cli.run("-n", "x", "--notify", f"change:{web.url}", "sh", "-c", script)
    is_told(cli)
    statuses = [json.loads(body)["exit_status"] for _, _, body in web.seen]
    assert statuses == [3, 0, 5]


def test_retries_are_one_run(cli, web):
    """Nothing has failed that a retry mends, and nothing has recovered from it."""
    rules = ["--notify", f"failure,recovery,change,success:{web.url}"]
    script = "test -e mended || { touch mended; exit 1; }"
    retries = ["--retries", "1", "--retry-delay", "0"]
    cli.run("-n", "x", "true")
    cli.run("-n", "x", *rules, *retries, "sh", "-c", script, cwd=cli.dir)
    cli.run("-n", "x", *rules, *retries, "false")
    is_told(cli)
    assert web.events() == ["success", "failure"]


def test_a_command_that_cannot_be_started_has_failed(cli, web):
    assert cli.run("-n", "x", "--notify", f"failure:{web.url}", "nosuch").returncode == 127
    is_told(cli)
    assert json.loads(web.seen[0][2])["exit_status"] == 127


@pytest.mark.stress
def test_sixty_refusals_are_one_notification(cli, web):
    with cli.hold("-n", "x"):
        rule = f"refused=3:{web.url}"
        runs = [
            cli.start("-n", "x", "--notify", rule, "true", stderr=subprocess.DEVNULL)
            for _ in range(60)
        ]
        assert {run.wait(PATIENCE) for run in runs} == {75}
        is_told(cli)
        (request,) = web.seen
    event = json.loads(request[2])
    assert (event["event"], event["name"]) == ("refused", "x")
    assert 3 <= event["count"] <= 60


def test_refusals_are_told_once_until_a_run_starts(cli, web):
    def refuse():
        with cli.hold("-n", "x"):
            for option in ("--quiet", "--skip", "--quiet", "--quiet"):
                cli.run("-n", "x", option, "--notify", f"refused:{web.url}", "true")

    refuse()
    refuse()
    is_told(cli)
    assert [json.loads(body)["count"] for _, _, body in web.seen] == [3, 3]


def test_a_lost_run_is_told_by_the_next(cli, web):
    held = cli.hold("-n", "x")
    for pid in (held.wrapper.pid, held.pid):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_alive(held.pid), "its end")
    cli.run("-n", "x", "--notify", f"lost,start:{web.url}", "true")
    is_told(cli)
    assert web.events() == ["lost", "start"]
    assert json.loads(web.seen[0][2])["run"]["state"] == "lost"


def test_a_run_that_takes_too_long_is_told_while_it_runs(cli, web):
    for _ in range(3):
        cli.run("-n", "x", "true")
    with cli.hold("-n", "x", "--notify", f"overlong=2:{web.url}"):
        web.wait_for(1)
    is_told(cli)
    (request,) = web.seen
    event = json.loads(request[2])
    assert (event["event"], event["run"]["state"]) == ("overlong", "running")
    assert event["usual_s"] > 0


def watches_a_process(cli):
    descriptors = [fd for pid in senders(cli) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    try:
        return any(os.readlink(fd) == "anon_inode:[pidfd]" for fd in descriptors)
    except FileNotFoundError:  # closed just now
        return False


def test_a_run_that_ends_in_time_is_not_told(cli, web):
    with cli.hold("-n", "x"):
        pass
    cli.sql("UPDATE runs SET elapsed_ns = 3600000000000")
    with cli.hold("-n", "x", "--notify", f"overlong:{web.url}"):
        eventually(lambda: watches_a_process(cli), "the watch")
    is_told(cli)
    assert web.seen == []


def test_jobs_of_a_queue(cli, web):
    rules = ["--notify", f"start,success,failure,queue-empty:{web.url}"]
    cli.run("pause", "q")
    cli.add("-n", "q", *rules, "--retries", "1", "--retry-delay", "0", "--", "false")
    cli.run("-n", "q", "--queue", *rules, "true")
    cli.run("resume", "q")
    eventually(lambda: "queue-empty" in web.events(), "the end of the queue")
    is_told(cli)
    ends = [event for event in web.events() if event != "start"]
    assert sorted(ends) == ["failure", "queue-empty", "success"]
    assert ends[-1] == "queue-empty"
    assert web.events().count("start") == 3


# -- servers that fail ----------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [500, "reset", "hang", "absent"])
def test_a_server_that_fails_delays_no_start_and_is_tried_again(cli, web, answer):
    """The next run has started and ended before the server has answered: by order, not by time."""
    url, release = web.url, threading.Event()
    if answer == "absent":
        web.close()
    else:
        web.answers += [release] if answer == "hang" else [answer]
    rule = ["--notify", f"failure:{url}"]
    assert cli.run("-n", "x", *rule, "false").returncode == 1
    if answer != "absent":
        web.wait_for(1)
    assert spool(cli), "it is not delivered yet"
    assert cli.run("-n", "x", *rule, "sh", "-c", "exit 3").returncode == 3
    if answer in {"hang", "absent"}:
        assert len([name for name in spool(cli) if name.isdecimal()]) == 2
    if answer == "absent":
        eventually(lambda: "connection refused; try 1, the next in 0.5 s" in log(cli), "a try")
        return
    release.set()
    is_told(cli)
    told = [json.loads(body)["exit_status"] for _, _, body in web.seen]
    assert told == ([1, 3] if answer == "hang" else [1, 1, 3]), "in order"


def test_a_target_that_hangs_delays_no_other(cli, web):
    release = threading.Event()
    web.answers.append(release)
    other = Web()
    cli.run("-n", "x", "--notify", f"start:{web.url}", "--notify", f"success:{other.url}", "true")
    web.wait_for(1)
    other.wait_for(1)
    release.set()
    is_told(cli)
    other.close()


def test_mail_that_is_deferred_is_tried_again(cli, mail):
    mail.answers += ["451 later"]
    cli.run("-n", "x", "--notify", f"failure:{mail.url}/?to=ops@example.org", "false")
    is_told(cli)
    assert len(mail.seen) == 1
    assert "the mail server answered 451 later" in log(cli)


@pytest.mark.stress
def test_what_is_refused_for_good_is_given_up(cli, web):
    """It must not hold up what comes behind it."""
    web.answers += [400, 400, 400]
    for status in (1, 2):
        cli.run("-n", "x", "--notify", f"failure:{web.url}", "sh", "-c", f"exit {status}")
    is_told(cli)
    assert [json.loads(body)["exit_status"] for _, _, body in web.seen] == [1, 1, 1, 2]
    assert "gave up: failure of x" in log(cli)
    assert "after 3 tries: the server answered 400" in log(cli)


def test_the_spool_survives_the_sender(cli, web):
    """kill -9 while a server hangs: the next event starts another, and nothing is told twice."""
    release = threading.Event()
    web.answers.append(release)
    rule = ["--notify", f"failure:{web.url}"]
    cli.run("-n", "x", *rule, "sh", "-c", "exit 1")
    web.wait_for(1)
    (sender,) = senders(cli)
    os.kill(sender, signal.SIGKILL)
    eventually(lambda: is_free(cli.dir / "notify" / "sender"), "its end")
    assert len(spool(cli)) == 1
    other = Web()
    cli.run("-n", "x", *rule, "--notify", f"failure:{other.url}", "sh", "-c", "exit 2")
    assert senders(cli)[0] != sender
    other.wait_for(1)  # by then it has tried the first one, too
    release.set()
    is_told(cli)
    other.close()
    assert [json.loads(body)["exit_status"] for _, _, body in web.seen] == [1, 2]


def test_flush_and_reap_start_a_sender_again(cli, web):
    for action in (["notify", "flush"], ["reap"]):
        del web.seen[:]
        web.answers.append(threading.Event())
        cli.run("-n", "x", "--notify", f"failure:{web.url}", "false")
        web.wait_for(1)
        cli.kill_detached()
        assert len(spool(cli)) == 1
        assert cli.run(*action).returncode == 0
        is_told(cli)
        assert web.events() == ["failure", "failure"], "the first was never answered"
    release = [answer for answer in web.answers if isinstance(answer, threading.Event)]
    assert not release


def test_flush_hurries_a_sender_that_sleeps(cli, web):
    """After four tries the next one is due in eight seconds; the clock does not matter here."""
    web.answers += [500] * 4
    cli.run("-n", "x", "--notify", f"failure:{web.url}", "false")
    while len(web.seen) < 5:
        eventually(lambda: log(cli).count("failed: ") >= min(len(web.seen), 4), "the try")
        assert cli.run("notify", "flush").returncode == 0
    is_told(cli)
    assert web.events() == ["failure"] * 5


def test_a_long_command_line_is_cut(cli, web):
    cli.run("-n", "x", "--notify", f"failure:{web.url}", "sh", "-c", "exit 3", *["word"] * 20_000)
    is_told(cli)
    event = json.loads(web.seen[0][2])
    assert event["shortened"]
    assert event["run"]["exit_code"] == 3


def test_what_is_damaged_is_dropped(cli, web):
    cli.run("-n", "x", "true")
    (cli.dir / "notify").mkdir(mode=0o700)
    for number, text in enumerate(
        [
            "",
            "{",
            "[]",
            '{"url": 1}',
            '{"url": "x:"}',
            "\0" * 99,
            '{"url": "x:", "event": {"run": 3}}',
            '{"url": "x:", "event": {}, "written": NaN}',
        ]
    ):
        (cli.dir / "notify" / str(number)).write_text(text)
        (cli.dir / "notify" / f"{number}.tries").write_text(text)
        (cli.dir / "notify" / f"{number}.watch").write_text(text)
    cli.run("-n", "x", "--notify", f"failure:{web.url}", "false")
    is_told(cli)
    assert web.events() == ["failure"]
    assert log(cli).count(" in the spool is damaged") == 8


def test_the_end_of_a_command_spares_the_sender(cli, web):
    """With a timeout, orphans of the command are killed; the sender is none of them."""
    release = threading.Event()
    web.answers.append(release)
    rule = ["--notify", f"start,failure:{web.url}"]
    result = cli.run("-n", "x", "-t", "0.3", *rule, "sleep", "60")
    assert result.returncode == 124
    assert len(senders(cli)) == 1
    release.set()
    is_told(cli)
    assert web.events() == ["start", "failure"]


# -- what cannot be told --------------------------------------------------------------------------


def test_a_spool_that_cannot_be_used_is_a_warning(cli):
    cli.run("-n", "x", "true")
    (cli.dir / "notify").touch()
    result = cli.run(
        "-n", "x", "--notify", "failure:http://127.0.0.1:1/secret", "sh", "-c", "exit 3"
    )
    assert result.returncode == 3
    assert result.stderr.count("\n") == 1
    assert "x: its failure is not told: " in result.stderr
    assert "secret" not in result.stderr


def test_a_full_spool_makes_room(cli, web):
    """The oldest goes, which belongs to a server that is down: others still get theirs."""
    web.answers.append(release := threading.Event())
    dead = "http://127.0.0.1:1/t0ken"
    cli.run("-n", "x", "--notify", f"failure:{dead}", "false")
    eventually(lambda: "try 1" in log(cli), "a try")
    cli.kill_detached()
    (entry,) = (path for path in (cli.dir / "notify").glob("[0-9]*") if path.name.isdecimal())
    for number in range(999):
        (cli.dir / "notify" / f"{int(entry.name) + 1 + number:020d}").write_bytes(
            entry.read_bytes()
        )
    cli.run("-n", "x", "--notify", f"failure:{web.url}", "sh", "-c", "exit 3")
    web.wait_for(1)
    assert "dropped: failure of x to http://127.0.0.1:1/…: the spool is full\n" in log(cli)
    assert len([name for name in spool(cli) if name.isdecimal()]) == 1000
    release.set()
    cli.kill_detached()


def test_so_many_runs_are_watched_and_no_more(cli):
    cli.run("-n", "x", "true")
    (cli.dir / "notify").mkdir(mode=0o700)
    for number in range(1000):
        (cli.dir / "notify" / f"{number:020d}.watch").touch()
    result = cli.run("-n", "x", "--notify", "failure:http://127.0.0.1:1/t0ken", "false")
    assert result.returncode == 1
    assert result.stderr == (
        "singlerun: x: its failure is not told: as many runs are watched as may be\n"
    )


def test_an_unknown_target_is_a_warning(cli):
    result = cli.run("-n", "x", "--notify", "failure:ops", "false")
    assert result.returncode == 1
    assert result.stderr == (
        "singlerun: x: its failure is not told: there is no 'ops' in [notify.targets]\n"
    )


def test_notifications_work_without_a_record(cli, web):
    cli.run("-n", "x", "true")
    (cli.dir / "singlerun.db").unlink()
    (cli.dir / "singlerun.db").mkdir()
    rules = f"start,failure,change,refused,overlong:{web.url}"
    assert cli.run("-n", "x", "--notify", rules, "sh", "-c", "exit 3").returncode == 3
    is_told(cli)
    assert web.events() == ["start", "failure"]


# -- secrets, the configuration, the subcommand ---------------------------------------------------


def test_secrets_are_shown_nowhere(cli, web, tmp_path):
    url = web.url.replace("//", "//us3r:pa55word@") + "/t0ken/deep?key=va1ue"
    secrets = ("us3r", "pa55word", "t0ken", "deep", "va1ue")
    web.answers += [403, 500, "reset", 500, 500, 500]
    rules = ["--notify", f"start,failure:{url}"]
    job = ["add", "-n", "q", *rules, "--", "false"]
    outputs = [cli.run("-n", "x", "-v", *rules, "false"), cli.run(*job)]
    eventually(lambda: log(cli).count("failed: ") >= 2, "tries")
    outputs += [
        cli.run(*words)
        for words in (
            ["ps", "-a", "--json"], ["history", "--json"], ["queue", "--all", "--json"],
            ["why", "x"], ["notify", "list"], ["notify", "list", "--json"],
            ["notify", "test", url.replace(web.url.rpartition(":")[2].partition("/")[0], "1")],
            ["--notify", f"failur:{url}", "true"], ["--notify", f"failure:gopher+{url}x y", "true"],
        )
    ]  # fmt: skip
    shown = "".join(each.stdout + each.stderr for each in outputs) + log(cli)
    shown += "".join(path.read_text() for path in cli.dir.glob("*.log"))
    assert "127.0.0.1" in shown
    for secret in secrets:
        assert secret not in shown, secret
    entries = list((cli.dir / "notify").glob("[0-9]*"))
    assert entries, "something waits"
    assert {path.stat().st_mode & 0o777 for path in entries} == {0o600}
    for pid in senders(cli):
        assert b"t0ken" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    cli.kill_detached()


def configured(cli, tmp_path, text):
    file = tmp_path / "config.toml"
    file.write_text(text)
    file.chmod(0o600)
    cli.env["SINGLERUN_CONFIG"] = str(file)


def test_the_configuration_says_what_is_told(cli, web, mail, tmp_path):
    configured(cli, tmp_path, f"""
        [notify]
        failure = ["ops", "mailto:ops@example.org"]
        refused-after = 2
        refused = "ops"
        lost = "ops"
        [notify.targets]
        ops = "{web.url}/secret"
        [notify.smtp]
        url = "{mail.url}"
        from = "us@example.org"
        [jobs."q*".notify]
        queue-empty = "ops"
        failure = []
    """)  # fmt: skip
    assert cli.run("-n", "x", "sh", "-c", "exit 3").returncode == 3
    cli.run("-n", "quiet", "false")
    with cli.hold("-n", "x"):
        cli.run("-n", "x", "true")
        cli.run("-n", "x", "true")
    cli.add("-n", "quiet", "false")
    held = cli.hold("-n", "y")
    for pid in (held.wrapper.pid, held.pid):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_alive(held.pid), "its end")
    assert cli.run("reap").returncode == 0
    eventually(lambda: "queue-empty" in web.events(), "the end of the queue")
    is_told(cli)
    assert sorted(web.events()) == ["failure", "lost", "queue-empty", "refused"]
    (message, recipients) = mail.seen[0]
    assert (message["From"], recipients) == ("us@example.org", ["ops@example.org"])


def test_test_sends_one_to_each_and_tells_how_it_went(cli, web, mail, tmp_path):
    configured(cli, tmp_path, f"""
        [notify]
        failure = "ops"
        recovery = ["ops", "{mail.url}/?to=ops@example.org"]
        [notify.targets]
        ops = "{web.url}/secret"
        dead = "http://127.0.0.1:1/secret"
    """)  # fmt: skip
    result = cli.run("notify", "test")
    assert result.returncode == 1
    assert result.stdout == (
        f"{web.url}/…: accepted\n{mail.url}/…: accepted\n"
        "http://127.0.0.1:1/…: failed: connection refused\n"
    )
    assert cli.run("notify", "test", "ops").returncode == 0
    assert cli.run("notify", "test", "some-job").returncode == 0
    assert web.events() == ["test"] * 3
    assert len(mail.seen) == 2
    assert spool(cli) == []


@pytest.mark.parametrize(
    "arguments", [["test"], ["test", "x"], ["list", "x"], ["nosuch"], ["test", "mailto:"], []]
)
def test_notify_is_used_wrongly(cli, arguments):
    result = cli.run("notify", *arguments)
    assert result.returncode in {2, 125}
    assert result.stderr.count("\n") == 1
    assert "see: singlerun notify --help" in result.stderr


def test_list_shows_what_waits(cli, web):
    web.answers += [500] * 20
    cli.run("-n", "x", "--notify", f"failure:{web.url}/secret", "false")
    eventually(lambda: "try 1" in log(cli), "the first try")
    result = cli.run("notify", "list")
    assert f"failure\tx\t{web.url}/…\t" in result.stdout
    assert "the server answered 500" in result.stdout
    (shown,) = json.loads(cli.run("notify", "list", "--json").stdout)["notifications"]
    assert (shown["event"]["event"], shown["target"]) == ("failure", f"{web.url}/…")


def test_output_is_sent_where_it_is_kept(cli, web):
    rule = f"start,success,failure:ping+{web.url}/uuid"
    cli.run("-n", "x", "--log", "--notify", rule, "sh", "-c", "seq 9999; exit 3")
    cli.run("-n", "x", "--notify", rule, "true")
    is_told(cli)
    paths = [path for path, _, _ in web.seen]
    assert paths == ["/uuid/start", "/uuid/3", "/uuid/start", "/uuid"]
    body = web.seen[1][2]
    assert body.endswith(b"9998\n9999\n")
    assert len(body) <= 10_000
    assert web.seen[3][2] == b""


def test_the_program_is_as_usual(cli, web):
    """Streams and exit status are those of the command."""
    rule = f"start,success,failure:{web.url}"
    result = subprocess.run(
        [BINARY, "-n", "x", "--notify", rule, "sh", "-c", "cat; echo err >&2; exit 9"],
        env=cli.env, input=b"in", capture_output=True, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout, result.stderr) == (9, b"in", b"err\n")
    is_told(cli)


def test_apprise_does_the_rest(cli, web):
    url = web.url.replace("http://", "json://")
    web.answers += [200, 500]
    results = [cli.run("notify", "test", each) for each in (url, f"{url}/t0ken", "nosuch://t0ken")]
    assert [result.returncode for result in results] == [0, 1, 1]
    assert json.loads(web.seen[0][2])["title"].startswith("a test of the notifications of ")
    assert results[0].stdout == "json://…: accepted\n"
    assert results[2].stdout == (
        "nosuch://…: failed: Apprise knows no such service, or the URL is not one of it\n"
    )
    assert not any("t0ken" in result.stdout + result.stderr for result in results)


def test_without_apprise_it_says_what_to_install(cli, tmp_path):
    """In an interpreter that finds the package, and nothing else."""
    script = (
        "import sys; sys.modules['apprise'] = None\n"
        "from singlerun.notify.trial import entry, outcome\n"
        "print(outcome(entry('tgram://t0ken/chat', 'x', {})))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout == "tgram: needs Apprise: pip install 'singlerun[notify]'\n"

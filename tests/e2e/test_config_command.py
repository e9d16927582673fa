"""``singlerun config``: what it shows is what holds, and what it writes loses nothing."""

import json
import subprocess
import tomllib

import pexpect
import pytest
from conftest import BINARY, PATIENCE


@pytest.fixture
def main(cli, tmp_path):
    """The file that the command line reads; it is not there yet."""
    path = tmp_path / "conf" / "config.toml"
    path.parent.mkdir(mode=0o700)
    cli.env["SINGLERUN_CONFIG"] = str(path)
    return path


def config(cli, *arguments, status=0, **more):
    result = cli.run("config", *arguments, **more)
    assert result.returncode == status, result.stderr
    return result.stderr if status else result.stdout


def written(main):
    return tomllib.loads((main.parent / "conf.d" / "90-set.toml").read_text())


# -- looking ----------------------------------------------------------------------------------


def test_show_tells_where_each_value_comes_from(cli, main):
    main.write_text(
        '[defaults]\nwait-for = "5m"\n\n[jobs]\n"b*".timeout = 5\nbackup = {log = true}\n'
    )
    config(cli, "set", "jobs.backup.retries", "2")
    drop_in = main.parent / "conf.d" / "90-set.toml"
    rows = [line.split("\t") for line in config(cli, "show", "backup").splitlines()]
    assert rows == [
        ["KEY", "VALUE", "TABLE", "FROM"],
        ["wait-for", '"5m"', "defaults", f"{main}:2"],
        ["timeout", "5", 'jobs."b*"', f"{main}:5"],
        ["log", "true", "jobs.backup", f"{main}:6"],
        ["retries", "2", "jobs.backup", f"{drop_in}:5"],
    ]
    everything = json.loads(config(cli, "show", "--json"))["settings"]
    assert [(each["key"], each["value"], each["line"]) for each in everything] == [
        ("defaults.wait-for", "5m", 2),
        ('jobs."b*".timeout', 5, 5),
        ("jobs.backup.log", True, 6),
        ("jobs.backup.retries", 2, 5),
    ]


def test_show_leaves_out_what_a_nearer_table_removes(cli, main):
    main.write_text("[defaults]\nwait = true\nslots = 2\n[jobs.x]\nskip = true\nshared = true\n")
    keys = [line.split("\t")[0] for line in config(cli, "show", "x").splitlines()[1:]]
    assert keys == ["skip", "shared"]


def test_show_takes_a_command(cli, main, tmp_path):
    main.write_text('[jobs."true-*"]\nretries = 7\n')
    assert "retries\t7" in config(cli, "show", "--", "/bin/true", "x")
    assert "retries" not in config(cli, "show", "--", "/bin/false", "x")


def test_show_tells_what_is_remembered_of_a_broken_file(cli, main):
    main.write_text("[defaults]\nslots = 3\nretries = 1\n")
    cli.run("-n", "x", "true")
    main.write_text("[defaults\n")
    result = cli.run("config", "show", "x")
    assert "slots\t3\t-\tlast known\n" in result.stdout
    assert "retries" not in result.stdout
    assert f"{main}:1: it is not TOML" in result.stderr


def test_get(cli, main):
    main.write_text(
        '[defaults]\non-failure = "a  b"\nenv = ["A", "B=c"]\nlog = true\nretries = 3\n'
    )
    assert config(cli, "get", "defaults.on-failure") == "a  b\n"
    assert config(cli, "get", "defaults.env") == "A\nB=c\n"
    assert config(cli, "get", "defaults.log") == "true\n"
    assert config(cli, "get", "defaults.retries") == "3\n"
    assert "jobs.x.log is not set" in config(cli, "get", "jobs.x.log", status=1)
    assert "did you mean: retries" in config(cli, "get", "defaults.retires", status=2)
    assert "is a table" in config(cli, "get", "defaults", status=1)


def test_check(cli, main, tmp_path):
    assert config(cli, "check", status=1) == ""
    main.write_text("[defaults]\ntimout = 1\n\n[jobs.x]\nskip = 1\n")
    result = cli.run("config", "check")
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.splitlines() == [
        f"{main}:2: defaults.timout: there is no such key; did you mean: timeout",
        f"{main}:5: jobs.x.skip: bad value 1: write true or false",
    ]
    document = json.loads(cli.run("config", "check", "--json").stdout)
    assert document["problems"][0] == {
        "file": str(main), "line": 2, "key": "defaults.timout",
        "problem": "there is no such key; did you mean: timeout",
    }  # fmt: skip
    main.write_text("[defaults]\ntimeout = 1\n")
    assert config(cli, "check") == "1 file, no mistakes\n"
    other = tmp_path / "other.toml"
    other.write_text("x = [")
    assert cli.run("config", "check", other).stdout.startswith(f"{other}:1: it is not TOML")
    assert "no such file" in config(cli, "check", "/no/such", status=1)


def test_escapes_of_a_file_reach_no_terminal(cli, main):
    main.write_text('[defaults]\n"\\u001b[2J" = 1\nlabel = "\\u001b[2J"\n')
    for arguments in (["check"], ["show"], ["get", "defaults.label"]):
        result = cli.run("config", *arguments)
        assert "\x1b" not in result.stdout + result.stderr


def test_none_is_read(cli):
    assert "SINGLERUN_CONFIG is empty" in config(cli, "set", "defaults.log", "true", status=2)
    assert config(cli, "path") == "FILE\tSTATE\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["shwo"], "did you mean: show"),
        (["get"], "write: singlerun config get KEY"),
        (["set", "defaults.log"], "write: singlerun config set KEY VALUE"),
        (["path", "x"], "write: singlerun config path;"),
        (["show", "--system"], "--system does not go with show"),
        (["set", "--system", "defaults.log", "true"], "--system does not go with SINGLERUN_CONFIG"),
        (["set", "defaults.wait", "maybe"], "write true or false"),
        (["set", "defaults.timeout", "soon"], "bad duration 'soon'"),
        (["set", "defaults.timeout", "1", "2"], "takes one value"),
        (["set", "defaults.name", "x"], 'a table has the name: [jobs."NAME"]'),
        (["set", "defaults", "x"], "is a table"),
        (["set", "jobs.x.y.z", "x"], "there is no such key"),
        (["set", "jobs.nightly *.log", "true"], "is no key"),
        (["set", "jobs.x.dir", "/x"], "set it in [defaults]"),
    ],
)
def test_usage(cli, main, arguments, complaint):
    error = config(cli, *arguments, status=2)
    assert complaint in error
    assert error.count("\n") == 1
    assert not (main.parent / "conf.d" / "90-set.toml").exists()


# -- changing ---------------------------------------------------------------------------------


def test_set_touches_no_file_of_a_person(cli, main):
    mine = "# mine\n[defaults]\nretries = 1 # one\n"
    main.write_text(mine)
    config(cli, "set", "defaults.timeout", "5m")
    config(cli, "set", 'jobs."nightly *".env', "A", "B=c")
    config(cli, "set", "jobs.x.log", "true")
    config(cli, "set", "jobs.x.label", "12")
    config(cli, "set", "jobs.x.slots", "12")
    assert main.read_text() == mine
    assert written(main) == {
        "defaults": {"timeout": "5m"},
        "jobs": {
            "nightly *": {"env": ["A", "B=c"]},
            "x": {"log": True, "label": "12", "slots": 12},
        },
    }
    assert config(cli, "check") == "2 files, no mistakes\n"
    assert (main.parent / "conf.d" / "90-set.toml").stat().st_mode & 0o777 == 0o600


def test_set_refuses_what_contradicts_another_value_there(cli, main):
    main.touch()
    config(cli, "set", "jobs.x.slots", "2")
    assert "cannot be combined" in config(cli, "set", "jobs.x.shared", "true", status=2)
    assert written(main) == {"jobs": {"x": {"slots": 2}}}


def test_set_tells_which_file_wins(cli, main):
    main.write_text("[defaults]\nretries = 1\n")
    assert cli.run("config", "set", "defaults.retries", "2").stderr == ""
    late = main.parent / "conf.d" / "99.toml"
    late.write_text("[defaults]\n\nretries = 3\n")
    warning = cli.run("config", "set", "defaults.retries", "4").stderr
    assert f"defaults.retries is set in {late}:3, too, and that one wins" in warning


def test_unset(cli, main):
    main.write_text("[defaults]\nlog = true\n")
    config(cli, "set", "jobs.x.slots", "2")
    config(cli, "set", "jobs.x.log", "true")
    config(cli, "set", "jobs.y.log", "true")
    config(cli, "unset", "jobs.x.slots")
    config(cli, "unset", "jobs.y")
    assert written(main) == {"jobs": {"x": {"log": True}}}
    config(cli, "unset", "jobs.x.log")
    assert written(main) == {}
    assert "jobs.x.log is not set" in config(cli, "unset", "jobs.x.log", status=1)
    error = config(cli, "unset", "defaults.log", status=1)
    assert f"defaults.log is set in {main}:2, which is not changed by this; edit that file" in error


def test_writers_at_the_same_time_lose_nothing(cli, main):
    main.touch()
    writers = [
        cli.start("config", "set", f"jobs.n{number}.retries", str(number)) for number in range(12)
    ]
    assert [writer.wait(PATIENCE) for writer in writers] == [0] * 12
    assert written(main) == {"jobs": {f"n{number}": {"retries": number} for number in range(12)}}


def test_drop_in_that_was_damaged_or_planted_is_left_alone(cli, main, tmp_path):
    main.touch()
    config(cli, "set", "defaults.log", "true")
    drop_in = main.parent / "conf.d" / "90-set.toml"
    drop_in.write_text("x = [")
    assert "was damaged" in config(cli, "set", "defaults.log", "true", status=125)
    assert drop_in.read_text() == "x = ["
    drop_in.write_text("")
    drop_in.chmod(0o666)
    assert "others may write" in config(cli, "set", "defaults.log", "true", status=125)
    drop_in.chmod(0o600)
    main.parent.chmod(0o777)
    assert "others may write" in config(cli, "set", "defaults.log", "true", status=125)
    main.parent.chmod(0o700)


def test_full_disk(cli, small_disk):
    from conftest import fill

    main = small_disk / "config.toml"
    cli.env["SINGLERUN_CONFIG"] = str(main)
    main.write_text("")
    config(cli, "set", "defaults.log", "true")
    before = (small_disk / "conf.d" / "90-set.toml").read_text()
    fill(small_disk)
    result = cli.run("config", "set", "defaults.on-failure", "x" * 9999)
    assert result.returncode == 125
    assert "no space left on device" in result.stderr
    assert (small_disk / "conf.d" / "90-set.toml").read_text() == before


def test_init_writes_a_start_and_never_over_a_file(cli, main):
    assert config(cli, "init") == f"{main}\n"
    text = main.read_text()
    assert config(cli, "check") == "1 file, no mistakes\n"
    assert "exists already" in config(cli, "init", status=1)
    assert main.read_text() == text
    # Each line that may be a setting is one, as soon as its # is taken away.
    lines = [
        line[1:] if line[:1] == "#" and line[1:2] != " " else line for line in text.split("\n")
    ]
    main.write_text("\n".join(lines))
    assert config(cli, "check") == "1 file, no mistakes\n"
    assert len(json.loads(config(cli, "show", "--json"))["settings"]) > 8


def editor(tmp_path, script):
    path = tmp_path / "an editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"VISUAL": f"'{path}' -x", "EDITOR": "false"}


def test_edit_keeps_what_is_right(cli, main, tmp_path):
    main.write_text("[defaults]\n")
    main.chmod(0o640)
    env = cli.env | editor(tmp_path, '[ "$1" = -x ] && echo "retries = 1" >> "$2"')
    assert config(cli, "edit", env=env) == ""
    assert main.read_text() == "[defaults]\nretries = 1\n"
    assert main.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in main.parent.iterdir()) == ["conf.d", "config.toml"]


def test_edit_begins_a_file(cli, main, tmp_path):
    env = cli.env | editor(tmp_path, 'echo "[defaults]" >> "$2"')
    config(cli, "edit", env=env)
    assert main.read_text().startswith("# The configuration of singlerun")
    assert main.read_text().endswith("[defaults]\n")


def test_edit_leaves_a_copy_of_what_is_wrong(cli, main, tmp_path):
    main.write_text("[defaults]\n")
    env = cli.env | editor(tmp_path, 'echo "retires = 1" >> "$2"')
    error = config(cli, "edit", status=1, env=env)
    assert f"{main}:2: defaults.retires: there is no such key; did you mean: retries" in error
    copy = error.rstrip("\n").rpartition("your copy is ")[2]
    with open(copy) as file:
        assert file.read() == "[defaults]\nretires = 1\n"
    assert main.read_text() == "[defaults]\n"


def test_edit_asks_again_on_a_terminal(cli, main, tmp_path):
    main.write_text("[defaults]\n")
    script = 'if grep -q retires "$2"; then sed -i s/retires/retries/ "$2";'
    env = cli.env | editor(tmp_path, f'{script} else echo "retires = 1" >> "$2"; fi')
    child = pexpect.spawn(str(BINARY), ["config", "edit"], env=env, timeout=PATIENCE)
    child.expect_exact("did you mean: retries")
    child.expect_exact("Edit it again?")
    child.sendline("y")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert main.read_text() == "[defaults]\nretries = 1\n"


def test_edit_that_changes_nothing_or_fails(cli, main, tmp_path):
    main.write_text("[defaults]\n")
    result = cli.run("config", "edit", env=cli.env | editor(tmp_path, "exit 0"))
    assert (result.returncode, result.stderr) == (0, "singlerun: nothing is changed\n")
    error = config(cli, "edit", status=1, env=cli.env | editor(tmp_path, "exit 3"))
    assert error == "singlerun: the editor failed: nothing is changed\n"
    assert [path.name for path in main.parent.iterdir()] == ["config.toml"]


def test_edit_takes_nothing_from_another_writer(cli, main, tmp_path):
    main.write_text("[defaults]\n")
    env = cli.env | editor(tmp_path, f'echo "log = true" >> "$2"; echo "# x" >> {main}')
    error = config(cli, "edit", status=125, env=env)
    assert f"{main} was changed meanwhile and is left as it is; your copy is" in error
    assert main.read_text() == "[defaults]\n# x\n"


def test_edit_keeps_a_link(cli, main, tmp_path):
    real = tmp_path / "dotfiles.toml"
    real.write_text("[defaults]\n")
    main.symlink_to(real)
    env = cli.env | editor(tmp_path, 'echo "log = true" >> "$2"')
    config(cli, "edit", env=env)
    assert main.is_symlink()
    assert real.read_text() == "[defaults]\nlog = true\n"


def test_killed_writer_leaves_the_old_file_or_the_new_one(cli, main):
    main.touch()
    config(cli, "set", "defaults.retries", "1")
    for _ in range(5):
        writer = cli.start("config", "set", "defaults.retries", "2", stderr=subprocess.DEVNULL)
        writer.kill()
        writer.wait()
        assert written(main)["defaults"]["retries"] in {1, 2}
    config(cli, "set", "defaults.retries", "3")
    assert written(main) == {"defaults": {"retries": 3}}

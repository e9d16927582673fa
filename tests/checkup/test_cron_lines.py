"""The check of crontabs never fails, whatever stands in them."""

import os

from hypothesis import given
from hypothesis import strategies as st

from singlerun.checkup import cron_lines, crontabs
from singlerun.checkup.case import Case

WORDS = r"""
root singlerun -n a -- --wait -j0 --dir flock -w -c 9 % \% ' " $( ) ` ; && | cd sudo -u env A=1
PATH= SINGLERUN_DIR=x sh --lock-fd --lock-file /tmp/../.. true { } # = timeout é ~ $HOME * < 2>&1
"""
SCHEDULES = "* * * * *", "*/5 * * * *", "@hourly", "@reboot"
HOSTILE = "\n", "\n", " ", "\x1b", "\udcff", "\0"
PIECES = st.sampled_from([*SCHEDULES, *HOSTILE, *WORDS.split()])


@given(st.lists(PIECES, max_size=30), st.booleans())
def test_any_crontab_is_checked(pieces, is_of_system):
    source = crontabs.Source("crontab", None if is_of_system else "root", "crontab -e")
    source.text = " ".join(pieces)
    source.parse()
    found = cron_lines.check_sources([source], Case(os.fsencode("/nowhere")))
    for finding in found.findings:
        assert finding.where.startswith("crontab")
        assert finding.what
        assert finding.remedy

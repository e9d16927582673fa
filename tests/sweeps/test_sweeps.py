"""A sample of each sweep, the same each time; CONTRIBUTING.md tells how to run them whole."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE, need
from forms import FORMS

HERE = Path(__file__).parent


def sweep(script, *options):
    command = [sys.executable, HERE / script, "--jobs", "1", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.stress
def test_a_sample_of_all_faults(form):
    need("strace")
    assert " injected" in sweep("fault_sweep.py", "--form", form, "--sample", "12")


@pytest.mark.stress
def test_a_sample_of_all_damages():
    assert "80 damages" in sweep("damage_sweep.py", "--sample", "80")


@pytest.mark.stress
def test_a_sample_of_all_damages_with_real_processes():
    assert "5 damages" in sweep("damage_sweep.py", "--sample", "5", "--real")

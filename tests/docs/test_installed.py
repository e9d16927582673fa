"""The manual pages and completions are installed where their readers look for them."""

import importlib.metadata
import sys
from pathlib import Path

from documents import MAN


def test_pages_and_completions_are_installed():
    installed = {
        str(file).partition("/share/")[2]
        for file in importlib.metadata.files("singlerun")
        if "/share/" in str(file)
    }
    assert installed == {
        *(f"man/man1/{path.name}" for path in MAN.iterdir()),
        "bash-completion/completions/singlerun",
        "zsh/site-functions/_singlerun",
        "fish/vendor_completions.d/singlerun.fish",
    }
    share = Path(sys.prefix) / "share"
    assert [name for name in installed if not (share / name).is_file()] == []

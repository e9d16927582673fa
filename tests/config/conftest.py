"""Configuration files of their own for the tests of this folder."""

import os

import pytest

from singlerun import config, paths
from singlerun.config import files as config_files


class Files:
    """The files of the system and of a user, and the state directory with their cache."""

    def __init__(self, directory):
        self.system, self.user = directory / "etc", directory / "home"
        self.state = os.fsencode(directory / "state")
        for path in (self.system, self.user):
            (path / "conf.d").mkdir(parents=True, mode=0o700)
        os.mkdir(self.state, 0o700)

    def write(self, path, text):
        path.write_text(text)
        path.chmod(0o600)
        return path

    def load(self):
        return config.load(self.state)

    def options(self, name=b"backup"):
        settings = self.load()
        assert settings.problems == ()
        return settings.options(name)


@pytest.fixture
def files(tmp_path, monkeypatch):
    made = Files(tmp_path)
    monkeypatch.delenv("SINGLERUN_CONFIG", raising=False)
    monkeypatch.delenv("SINGLERUN_DIR", raising=False)
    directories = [os.fsencode(made.system), os.fsencode(made.user)]
    for module in (paths, config_files):
        monkeypatch.setattr(module, "config_dirs", lambda: directories)
        monkeypatch.setattr(module, "SYSTEM_CONFIG", directories[0])
    monkeypatch.setattr(paths, "default_dir", lambda: made.state)
    return made

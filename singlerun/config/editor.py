"""Editing a file as a person likes to: a copy in an editor, which is checked before it is kept."""

import os
import subprocess
import tempfile

from singlerun.config import dropin, template
from singlerun.config.reading import Problem, Reading
from singlerun.errors import ConfigError

DEFAULT = "vi"


class Copy:
    """A copy of a file, or of what a new one begins with; it stays until it is kept or dropped.

    Making one raises ConfigError if that is not possible.
    """

    def __init__(self, path: bytes) -> None:
        self._path = path
        directory = os.path.dirname(path)
        dropin.make_directory(directory)
        try:
            try:
                with open(path, "rb") as file:
                    self._original: bytes | None = file.read()
            except FileNotFoundError:
                self._original = None
            descriptor, self._copy = tempfile.mkstemp(b".toml", b".edit-", directory)
            with open(descriptor, "wb") as file:
                file.write(template.text().encode() if self._original is None else self._original)
            self._begun = self._read()
        except OSError as error:
            raise dropin.unwritable(path, error) from None

    @property
    def name(self) -> str:
        """The path of the copy."""
        return os.fsdecode(self._copy)

    def edit(self) -> bool:
        """Let a person edit the copy; return whether the editor was content."""
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or DEFAULT
        return subprocess.call(["sh", "-c", f'{editor} "$1"', "sh", self._copy]) == 0

    def is_changed(self) -> bool:
        """Return whether the copy differs from what it was made of."""
        return self._read() != self._begun

    def problems(self) -> list[Problem]:
        """Return what is wrong with the copy, with the path of the file."""
        checked = Reading([])
        checked.read_text(self._path, self._read())
        return checked.problems

    def keep(self) -> None:
        """Put the copy in place of the file; raises ConfigError if that has changed meanwhile."""
        with dropin.locked(self._path):
            try:
                with open(self._path, "rb") as file:
                    current: bytes | None = file.read()
            except FileNotFoundError:
                current = None
            if current != self._original:
                shown = os.fsdecode(self._path)
                what = f"{shown} was changed meanwhile and is left as it is"
                raise ConfigError(f"{what}; your copy is {self.name}")
            dropin.replace(self._path, self._read())
        self.drop()

    def drop(self) -> None:
        """Remove the copy."""
        os.unlink(self._copy)

    def _read(self) -> bytes:
        with open(self._copy, "rb") as file:
            return file.read()

"""Tests of the Python interface; a package, since other folders have files of these names too."""

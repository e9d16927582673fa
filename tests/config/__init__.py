"""Tests of the configuration; a package, since other folders have files of these names too."""

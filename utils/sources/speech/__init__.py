"""Readers of the packages with real speech; `sources.real_speech` has the table of them all."""

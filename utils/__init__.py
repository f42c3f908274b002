"""Thin helpers shared by the notebooks: one noun a module."""

"""Thin helpers shared by the notebooks: one noun a module."""

import os

# oneDNN keeps what it made for 1,024 shapes of input. Clips have too many lengths for that to help, and it takes gigabytes.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")

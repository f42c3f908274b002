"""What the notebooks share: modules for single tasks, in packages that import one way only."""

import os

# By default oneDNN caches kernels for 1,024 shapes of input. Clips have so many lengths that this
# does not help, and it takes gigabytes.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")

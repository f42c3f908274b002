"""Downloads that are tried again: registries and the way to them fail now and then."""

import http.client
import subprocess
import urllib.error
import urllib.request

import tenacity

retry = tenacity.retry(
    retry=tenacity.retry_if_exception_type(
        (
            subprocess.CalledProcessError,
            urllib.error.URLError,
            TimeoutError,
            ConnectionError,  # also while the body is read, where urllib does not wrap it
            http.client.HTTPException,  # IncompleteRead: the connection ended too early
        )
    ),
    stop=tenacity.stop_after_attempt(4),
    wait=tenacity.wait_exponential_jitter(multiplier=2, max=30),
    reraise=True,
)


@retry
def download(url: str) -> bytes:
    """The whole content of `url`, in up to four tries.

    Raises OSError or HTTPException if the last one fails.
    """
    # read() as a whole: read(n) of Python 3.11 does not notice a connection that ended too early
    with urllib.request.urlopen(url, timeout=60) as source:
        return source.read()

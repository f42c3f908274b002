"""A web page that scores recordings in the browser: `python -m utils.detector.page`.

The page is a folder of static files: the detector (`encoders.onnx`, its heads as JSON), ONNX
Runtime Web, which runs it in the tab of whoever opens the page, and `web/`. No recording is
uploaded; this server only gives out files. `--out FOLDER` keeps the folder, which can be put on any
static host. A server that sends the two headers of `ISOLATED` too lets the page use all cores.
"""

import argparse
import base64
import functools
import hashlib
import http.client
import os
import shutil
import sys
import tarfile
import tempfile
import urllib.request
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from utils import archives, paths
from utils.detector import detector

WEB = Path(__file__).parent / "web"
RUNTIME = "onnxruntime-web-1.30.0"  # of npm, MIT licence
RUNTIME_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
KEPT = ("encoders.onnx", "ort-wasm-simd-threaded.wasm")  # large: the browser keeps them
TRIES = 3  # to fetch the runtime
ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
HEADERS = ISOLATED | {
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; "
    "worker-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self'; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",  # asked for again, and not sent again where nothing changed
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def runtime() -> Path:
    """Folder with ONNX Runtime Web, fetched from npm at first use.

    Raises FetchError with the remedy where it cannot be fetched or is not the pinned one.
    """
    target = paths.CACHE / "packages" / RUNTIME
    with paths.locked(target):
        if target.exists():
            return target / "package" / "dist"
        settings = {name.lower(): value for name, value in os.environ.items()}  # as npm does
        registry = settings.get("npm_config_registry") or "https://registry.npmjs.org"
        url = f"{registry.rstrip('/')}/onnxruntime-web/-/{RUNTIME}.tgz"
        print(f"fetching {url} (once, 33 MB) …", file=sys.stderr)
        tarball = paths.CACHE / "downloads" / f"{RUNTIME}.tgz"
        with paths.whole(tarball) as temporary:
            temporary.write_bytes(_download(url))
        with tarfile.open(tarball) as archive:
            patterns = tuple(f"package/dist/{name}" for name in RUNTIME_FILES)
            archives.unpack_tar(archive, patterns, target, tarball.name)
        tarball.unlink()
    return target / "package" / "dist"


def _download(url: str) -> bytes:
    """Content of the pinned tarball. Raises FetchError."""
    for left in reversed(range(TRIES)):
        try:
            with urllib.request.urlopen(url, timeout=60) as source:
                content = source.read()
            break
        except (OSError, http.client.HTTPException) as error:
            if not left:
                raise archives.FetchError(
                    f"{url} could not be fetched in {TRIES} tries ({error}). Check the network, or "
                    "name a mirror of npm in NPM_CONFIG_REGISTRY, then start again."
                ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != RUNTIME_SHA256:
        raise archives.FetchError(f"{url} has sha256 {digest}, pinned is {RUNTIME_SHA256}; refused")
    return content


def collect(folder: Path, source: Path = detector.FOLDER) -> None:
    """Write the page into `folder`, for the detector in `source`; what lies there already stays.

    Raises FileNotFoundError and ValueError for a folder that is no detector, and FetchError.
    """
    opened, dist = detector.Detector(source), runtime()
    shutil.copytree(WEB, folder, dirs_exist_ok=True)
    files = {name: dist / name for name in RUNTIME_FILES}
    files["encoders.onnx"] = source / "encoders.onnx"
    licences = source / "LICENCES.md"
    if licences.exists():
        files[licences.name] = licences
    for name, file in files.items():
        shutil.copyfile(file, folder / name)
    paths.write_json(folder / "detector.json", describe(opened, folder))


def describe(opened: detector.Detector, folder: Path) -> dict:
    """What the page has to know of a detector: card, heads, and the large files in `folder`."""
    return {
        "version": opened.version,
        "card": opened.card,
        "heads": {
            band: {
                "weight": _base64(head.weight),
                "bias": head.bias,
                "speechWeight": _base64(head.speech_weight),
                "speechBias": head.speech_bias,
                "windowSlope": head.window_slope,
            }
            for band, head in opened.heads.items()
        },
        "files": {
            name: {
                "bytes": (folder / name).stat().st_size,
                "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
            }
            for name in KEPT
        },
    }


def _base64(numbers: np.ndarray) -> str:
    return base64.b64encode(np.asarray(numbers, "<f4").tobytes()).decode()


class Handler(SimpleHTTPRequestHandler):
    """Gives out the files of a folder with `HEADERS`. No folder is listed, nothing is taken."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".mjs": "text/javascript",
        ".js": "text/javascript",
        ".wasm": "application/wasm",
        ".flac": "audio/flac",
        ".md": "text/plain; charset=utf-8",
    }

    def end_headers(self):
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def list_directory(self, path):
        self.send_error(404)

    def log_message(self, *message):
        pass  # nobody is watched


class Server(ThreadingHTTPServer):
    """Says nothing where a browser ends a connection."""

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def server(folder: Path, host: str, port: int) -> Server:
    """A server of the page in `folder`, to be started by `serve_forever`. Raises OSError."""
    return Server((host, port), functools.partial(Handler, directory=str(folder)))


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status: 1 if the page could not be served."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.detector.page",
        description=__doc__.split("\n")[0],
        epilog="example: python -m utils.detector.page --port 8000",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: this machine only; 0.0.0.0: anybody who can reach "
        "it, but browsers let pages from other machines use the microphone by https only)",
    )
    parser.add_argument("--port", type=int, default=7860, help="default: 7860")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="keep the page there, for a static host"
    )
    parser.add_argument(
        "--detector", type=Path, default=detector.FOLDER, metavar="FOLDER", help="another detector"
    )
    options = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory(prefix="page-") as temporary:
            folder = options.out or Path(temporary)
            collect(folder, options.detector)
            with server(folder, options.host, options.port) as serving:
                if options.out:
                    print(f"{folder}: the page, for any static host")
                address = f"http://{options.host}:{serving.server_port}"
                print(f"the page: {address} (Ctrl-C ends it)", flush=True)
                serving.serve_forever()
    except KeyboardInterrupt:
        return 0
    except (OSError, ValueError, OverflowError, archives.FetchError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

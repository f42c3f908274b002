"""Small trees of public corpora in their published layouts, for the tests of this folder."""

import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from utils import paths

LAYOUTS = Path(__file__).with_name("corpus_layouts.toml")
OPTIONS = {".wav": {}, ".flac": {}, ".mp3": {}, ".opus": {"format": "OGG", "subtype": "OPUS"}}


@pytest.fixture(scope="session")
def sounds(tmp_path_factory):
    """suffix → bytes of half a second of something audible at 16 kHz."""
    time, folder = np.arange(8000) / 16000, tmp_path_factory.mktemp("sounds")
    wave = 0.2 * np.sin(2 * np.pi * 220 * time) * (1 + np.sin(2 * np.pi * 5 * time))
    for suffix, options in OPTIONS.items():
        sf.write(folder / f"a{suffix}", wave, 16000, **options)
    return {suffix: (folder / f"a{suffix}").read_bytes() for suffix in OPTIONS}


@pytest.fixture(scope="session")
def write():
    """write(path, content) makes a file with its folders."""

    def make(path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return make


@pytest.fixture
def build(sounds, write):
    """build(corpus) → its folder with the tree of `corpus_layouts.toml`, fresh."""
    layouts = tomllib.loads(LAYOUTS.read_text(encoding="utf-8"))

    def make(name):
        folder = paths.INPUTS / "external" / name
        shutil.rmtree(folder, ignore_errors=True)
        for path in layouts[name]["clips"]:
            write(folder / path, sounds[Path(path).suffix])
        for path, text in layouts[name].get("keys", {}).items():
            write(folder / path, text)
        return folder

    return make

"""Readers of games with voice actors.

Where the cast of a game is not documented, the whole cast is one group, since one actor can play
several roles.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from utils.sources.speech import game_files
from utils.sources.speech.base import Recording, Source, decode, decode_file, files


def _decode_read(read: Callable[[], bytes]) -> tuple[np.ndarray, int]:
    return decode(read())


def _decode_game(read: Callable[[], bytes]) -> tuple[np.ndarray, int]:
    """Unsigned 8-bit samples at the games' rate."""
    samples = np.frombuffer(read(), np.uint8)
    return (samples.astype(np.float32) - 128) / 128, game_files.GAME_RATE


def fillets(source: Source, folder: Path) -> Iterator[Recording]:
    """Fish Fillets: `<level>-<role>-….ogg`. The main roles, m and v, have an actor each."""
    for key, path in files(folder, "*.ogg"):
        level, *rest = Path(key).stem.split("-")
        if not rest or not re.fullmatch(r"[a-z]{1,3}", rest[0]) or level == "sp":
            continue
        role = rest[0]
        actor = role if role in ("m", "v") else "small-roles"
        speaker, group = f"{source.name}-{role}", f"{source.name}-{actor}"
        load = partial(decode_file, path, {})
        yield Recording(source.name, key, source.language, speaker, group, load)


def queen(source: Source, folder: Path) -> Iterator[Recording]:
    """Flight of the Amazon Queen."""
    for key, role, read in game_files.queen_dialogue(folder):
        load = partial(_decode_read, read)
        yield Recording(source.name, key, source.language, f"queen-{role}", "queen-cast", load)


def steel_sky(source: Source, folder: Path) -> Iterator[Recording]:
    """Beneath a Steel Sky."""
    for key, read in game_files.steel_sky_speech(folder):
        load, cast = partial(_decode_game, read), "steel-sky-cast"
        yield Recording(source.name, key, source.language, cast, cast, load)


def drascula(source: Source, folder: Path) -> Iterator[Recording]:
    """Drascula, in either of its languages."""
    for key, read in game_files.drascula_speech(folder):
        load = partial(_decode_game, read)
        yield Recording(source.name, key, source.language, source.name, source.name, load)

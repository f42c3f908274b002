"""Readers of real speech, on small packages made here; RNC blocks are unpacked or refused."""

import struct

import numpy as np
import pytest
import soundfile as sf

from utils.audio import reading
from utils.sources import real_speech, registry
from utils.sources.speech import game_files

SAMPLES = bytes(range(0, 250, 10))
WAVE = (np.frombuffer(SAMPLES, np.uint8).astype(np.float32) - 128) / 128


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder that `recordings` takes for the unpacked package of any source."""
    monkeypatch.setattr(real_speech, "fetch", lambda names: dict.fromkeys(names, tmp_path))
    return tmp_path


def test_every_source_has_a_pinned_package_and_its_own_name():
    assert len(real_speech.SOURCES) == len(real_speech._ALL) == 97
    for name, source in real_speech.SOURCES.items():
        kind = registry.PACKAGES[source.package].kind
        assert source.name == name and kind in ("deb", "sdist")


def test_those_who_may_be_one_person_have_one_group(package, speechlike):
    for name in ("klettres/ru/alpha/a.ogg", "klettres/uk/alpha/a.ogg", "sounds/uk/ball.ogg"):
        (package / name).parent.mkdir(parents=True)
        sf.write(package / name, np.tile(speechlike, 3), 8000)
    for name in ("klettres-ru", "klettres-uk", "ktuberling-uk"):
        (recording,) = real_speech.recordings(name)
        assert recording.speaker == name and recording.group == "klettres-uk"
    assert set(real_speech.ONE_GROUP) <= set(real_speech.SOURCES)


def test_the_order_depends_on_the_seed_and_files_without_speech_are_left_out(package, speechlike):
    names = [f"sounds/{i}.wav" for i in range(9)] + ["x/silence/1.wav", "beeperr.wav"]
    for name in names:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        reading.write(package / name, speechlike)
    first, again, other = (real_speech.recordings("asterisk-fr", seed) for seed in (0, 0, 1))
    keys = [recording.key for recording in first]
    assert sorted(keys) == names[:9] and first == again
    assert keys != [recording.key for recording in other]
    assert {(r.speaker, r.group, r.language) for r in first} == {("june", "june", "fr")}
    wave, rate = first[0].load()
    assert rate == 8000 and wave.dtype == np.float32 and len(wave) == len(speechlike)


def test_roles_of_fish_fillets_without_an_actor_of_their_own_are_one_group(package, speechlike):
    for name in ("a-m-x", "a-v-y", "a-s-z", "b-k-z", "sp-m-x", "a-long-x", "a"):
        sf.write(package / f"{name}.ogg", speechlike, 8000)
    found = {r.key: (r.speaker, r.group) for r in real_speech.recordings("fillets-nl")}
    assert found == {
        "a-m-x.ogg": ("fillets-nl-m", "fillets-nl-m"),
        "a-v-y.ogg": ("fillets-nl-v", "fillets-nl-v"),
        "a-s-z.ogg": ("fillets-nl-s", "fillets-nl-small-roles"),
        "b-k-z.ogg": ("fillets-nl-k", "fillets-nl-small-roles"),
    }


def test_queen_dialogue_is_found_by_its_name_and_has_the_role(package, speechlike):
    sf.write(package / "a.mp3", speechlike, 16000)
    sound = (package / "a.mp3").read_bytes()
    names = ["12ABCDJ1.SB", "12ABCDP1.SB", "JOE7.SB", "MUSIC.SB"]
    table, content, start = b"", b"", 15 + 21 * len(names)
    for name in names:
        table += struct.pack(">12sBII", name.encode(), 1, start + len(content), len(sound))
        content += sound
    header = b"QTBL".ljust(13, b"\0") + struct.pack(">H", len(names))
    (package / "queen.1c").write_bytes(header + table + content)
    found = {r.key: r for r in real_speech.recordings("queen")}
    assert {key: r.speaker for key, r in found.items()} == {
        "12ABCDJ1.SB": "queen-joe",
        "12ABCDP1.SB": "queen-12",
        "JOE7.SB": "queen-joe",
    }
    assert found["JOE7.SB"].load()[1] == 16000
    (package / "queen.1c").write_bytes(b"other")
    with pytest.raises(ValueError, match="QTBL"):
        real_speech.recordings("queen")


def test_steel_sky_speech_is_read_from_both_kinds_of_places(package):
    speech = bytes(game_files.SKY_HEADER) + SAMPLES
    disk = b"\0" * 32 + speech + b"\0" * 9
    (package / "sky.dsk").write_bytes(disk)
    entries = [(50001, 32), (50002, 2 | 1 << 23), (3, 32)]  # the second: in units of 16 bytes
    table = struct.pack("<I", len(entries))
    for number, place in entries:
        flags = 1 << 23
        table += struct.pack("<H", number) + place.to_bytes(3, "little")
        table += (len(speech) | flags).to_bytes(3, "little")
    (package / "sky.dnr").write_bytes(table)
    found = {r.key: r.load() for r in real_speech.recordings("steel-sky")}
    assert set(found) == {"50001", "50002"}
    assert all(rate == 11025 and np.array_equal(wave, WAVE) for wave, rate in found.values())


def test_drascula_speech_starts_after_its_header(package):
    (package / "A.ALS").write_bytes(bytes(game_files.ALS_HEADER) + SAMPLES)
    (recording,) = real_speech.recordings("drascula-es")
    wave, rate = recording.load()
    assert recording.language == "es" and rate == 11025 and np.array_equal(wave, WAVE)


def test_sentences_come_from_fish_fillets_or_else_from_tux_paint(package):
    script = package / "usr/share/games/fillets-ng/script/level"
    script.mkdir(parents=True)
    (script / "dialogs_cs.lua").write_text(
        'dialogId("a", "b", "We must get out of here.")\ndialogStr("Musíme se odsud dostat.")\n'
        'dialogId("c", "d", "Too short")\ndialogStr("Musíme se odsud dostat.")\n'
    )
    (package / "stamps" / "animals").mkdir(parents=True)
    for i in range(4):
        (package / "stamps" / "animals" / f"{i}.txt").write_text(f"Cat.\nbe.utf8=Кот {i}.\n")
    assert real_speech.sentences("en") == ["We must get out of here."]
    assert real_speech.sentences("cs") == ["Musíme se odsud dostat."]
    (line,) = real_speech.sentences("be")
    assert line.count("Кот") == 3 and line.endswith(".")
    with pytest.raises(ValueError, match="no sentences in 'xx'"):
        real_speech.sentences("xx")


@pytest.fixture
def rnc_block():
    """The text "ababab" as one RNC chunk: the literals "ab", then 4 bytes from 2 bytes back.

    The codes have one bit, and the bits are taken from the low end of 16-bit words.
    """
    bits = []

    def put(*fields):
        for value, width in fields:
            bits.extend((value >> i) & 1 for i in range(width))

    put((0, 2))
    for code_lengths in ([1, 0, 1], [0, 1], [0, 0, 1]):  # of literals, distances, lengths
        put((len(code_lengths), 5), *((length, 4) for length in code_lengths))
    put((2, 16))  # rounds: literals and a reference; no literals
    put((1, 1), (0, 1))  # 2 literals: symbol 2 (code 1), then one bit that is 0
    before_literals = len(bits)
    put((0, 1))  # distance 2: symbol 1 (code 0), plus 1
    put((0, 1), (0, 1))  # length 4: symbol 2 (code 0), then one bit that is 0, plus 2
    put((0, 1))  # no literals: symbol 0 (code 0)
    starts = range(0, len(bits), 16)
    words = [sum(bit << i for i, bit in enumerate(bits[s : s + 16])) for s in starts]
    packed = [word.to_bytes(2, "little") for word in words]
    count = -(-before_literals // 16)  # words that are read before the literals
    body = b"".join([*packed[:count], b"ab", *packed[count:]])
    return b"RNC\x01" + (6).to_bytes(4, "big") + bytes(9) + b"\x01" + body


def test_an_rnc_block_is_unpacked(rnc_block):
    assert game_files.unpack_rnc(rnc_block) == b"ababab"


@pytest.mark.parametrize(
    "damage",
    [
        lambda block: block[:12],
        lambda block: block[:24],
        lambda block: block[:-1],
        lambda block: b"RIFF" + block[4:],
        lambda block: block[:7] + b"\x05" + block[8:],
        lambda block: block[:7] + b"\x07" + block[8:],
    ],
    ids=["short header", "short table", "short data", "other kind", "too long", "too short"],
)
def test_a_damaged_rnc_block_is_refused(rnc_block, damage):
    with pytest.raises(ValueError, match="RNC"):
        game_files.unpack_rnc(damage(rnc_block))

"""A process that decodes files may die or hang; that costs one file, and nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from utils import paths
from utils.audio import decoding, dsp, reading
from utils.detector.batch import decoder as decoder_module
from utils.detector.batch.decoder import Decoder


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as started:
        yield started


@pytest.fixture
def good(tmp_path, speechlike):
    reading.write(tmp_path / "good.wav", speechlike)
    return tmp_path / "good.wav"


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pid, seconds=20):
    deadline = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(pid)


def test_it_gives_what_decoding_gives(decoder, tmp_path, speechlike):
    stereo = np.stack([speechlike, 3 * speechlike], axis=1)
    stereo[5] = np.nan
    sf.write(tmp_path / "a.wav", stereo, 44100, subtype="FLOAT")
    for rate in (16000, None):
        found = decoder.read(tmp_path / "a.wav", rate)
        expected = decoding.decode(tmp_path / "a.wav", "a.wav", rate)
        assert np.array_equal(found.channels, expected.channels)
        assert found[1:] == expected[1:] and found.damaged and found.notes


def test_errors_are_those_of_decoding(decoder, tmp_path):
    (tmp_path / "words.txt").write_text("words " * 50)
    (tmp_path / "half.m4a").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(500))
    for path, kind in (
        (tmp_path / "words.txt", decoding.NotAudio),
        (tmp_path / "half.m4a", dsp.AudioError),
        (tmp_path / "nowhere.wav", dsp.AudioError),
        (tmp_path, dsp.AudioError),
        (Path("/dev/zero"), dsp.AudioError),
        (Path("a\0b.wav"), dsp.AudioError),
    ):
        with pytest.raises(dsp.AudioError) as error:
            decoder.read(path, 16000)
        assert type(error.value) is kind and str(error.value).startswith(path.name)


def test_what_is_no_file_is_refused_and_never_waited_for(decoder, tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(dsp.AudioError, match="pipe.wav: .*device or pipe"):
        decoder.read(tmp_path / "pipe.wav")


@pytest.mark.parametrize("name", [b"\xff\xfe.wav", "ü\n“x”, y.wav".encode(), b"-rf.wav"])
def test_names_of_any_bytes_are_read(decoder, tmp_path, good, name):
    path = tmp_path / os.fsdecode(name)
    good.rename(path)
    assert decoder.read(path).channels.shape == (1, 16000)
    with pytest.raises(dsp.AudioError):
        decoder.read(path.with_name(path.name + "missing"))


def test_relative_names_mean_the_same(good, monkeypatch):
    monkeypatch.chdir(good.parent)
    with Decoder() as started:
        assert started.read(Path("good.wav")).rate == 8000


@pytest.mark.parametrize("folders", [None, "", os.pathsep])
def test_no_module_of_the_working_folder_is_imported(good, folders, monkeypatch):
    monkeypatch.chdir(good.parent)
    (good.parent / "json.py").write_text("open('executed', 'w')")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if folders is not None:
        monkeypatch.setenv("PYTHONPATH", folders)
    with Decoder() as started:
        assert started.read(good).rate == 8000
    assert not (good.parent / "executed").exists()


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_process_that_dies_costs_one_file(good, number):
    with Decoder() as started:
        started.read(good)
        first = started._process.pid
        os.kill(first, signal.SIGSTOP)  # it does not answer before it dies
        for later in (number, signal.SIGCONT):
            threading.Timer(0.3, os.kill, (first, later)).start()
        message = rf"good.wav: the decoder stopped at this file \(signal {int(number)}\)"
        with pytest.raises(dsp.AudioError, match=message):
            started.read(good)
        assert started.read(good).channels.shape == (1, 16000)
        assert started._process.pid != first
        assert list(Path(started._folder.name).iterdir()) == []


def test_a_process_that_died_between_two_files_costs_none(good):
    with Decoder() as started:
        started.read(good)
        started._process.kill()
        time.sleep(0.2)
        assert started.read(good).channels.shape == (1, 16000)


def test_a_process_that_takes_too_long_costs_one_file(good, monkeypatch):
    monkeypatch.setattr(decoder_module, "LIMIT_S_PER_MB", 0)
    with Decoder(limit_s=1) as started:
        started.read(good)
        hanging = started._process.pid
        os.kill(hanging, signal.SIGSTOP)
        with pytest.raises(dsp.AudioError, match=r"good.wav: .*\(after 1 s\)"):
            started.read(good)
        assert not is_running(hanging)
        assert started.read(good).rate == 8000


def test_a_recording_that_is_too_long_is_refused(good):
    with Decoder(longest_s=1) as started, pytest.raises(dsp.AudioError, match="longer than 1 s"):
        started.read(good)


def test_what_needs_too_much_memory_is_refused(good):
    """A process of a limit below what a file takes says so, and is not killed."""
    code = (
        "import numpy, utils.detector.batch.decoder as d\n"
        "d.DATA_BYTES = d.SPACE_BYTES = 2**30\n"
        "d.decode = lambda *_, **__: numpy.ones(2**28)\n"
        "d.serve()\n"
    )
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, cwd=paths.ROOT, stdin=-1, stdout=-1, text=True)
    print(json.dumps([str(good), 8000, 60, f"{good}.out"]), file=process.stdin, flush=True)
    assert process.stdout.readline() == "ready\n"
    assert "good.wav: needs more than 1 GB of memory" in process.stdout.readline()
    process.communicate()  # it ends with its input


def test_it_ends_with_the_block_and_leaves_no_file(good):
    with Decoder() as started:
        started.read(good)
        pid, folder = started._process.pid, Path(started._folder.name)
        assert is_running(pid) and folder.exists()
    assert not is_running(pid) and not folder.exists()


PARENT = """
import sys, time
from pathlib import Path
from utils.detector.batch.decoder import Decoder

with Decoder() as decoder:
    decoder.read(Path(sys.argv[1]))
    print(decoder._process.pid, flush=True)
    time.sleep(600)
"""


def test_it_ends_when_its_parent_is_killed(good):
    command = [sys.executable, "-c", PARENT, str(good)]
    parent = subprocess.Popen(command, cwd=paths.ROOT, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.kill()
    parent.wait()
    assert wait_until_gone(child)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_it_leaves_no_file_if_both_are_told_to_end(good, tmp_path, number):
    """`timeout` and a closed terminal tell the whole group of processes."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(good)],
        cwd=paths.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    child = int(parent.stdout.readline())
    assert len(list(tmp_path.glob("decoded-*"))) == 1
    os.killpg(parent.pid, number)
    parent.wait()
    assert wait_until_gone(child)
    assert not list(tmp_path.glob("decoded-*"))


def test_it_ends_at_once_also_while_it_decodes(tmp_path, speechlike):
    """Half an hour takes seconds to decode; nobody waits for it any more."""
    reading.write(tmp_path / "long.wav", np.tile(speechlike, 900))
    code = PARENT.replace(
        "decoder.read(Path(sys.argv[1]))", "decoder._make_ready(); decoder._ask = print"
    )
    code = code.replace(
        "    time.sleep",
        '    decoder._process.stdin.write(b\'["%s", 48000, 9999, "/dev/null"]\\n\' '
        "% sys.argv[1].encode())\n    time.sleep",
    )
    command = [sys.executable, "-c", code, str(tmp_path / "long.wav")]
    parent = subprocess.Popen(command, cwd=paths.ROOT, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    assert wait_until_gone(child, 5)


def test_a_long_recording_is_mapped(good, monkeypatch):
    monkeypatch.setattr(decoder_module, "MAPPED_BYTES", 1000)
    with Decoder() as started:
        recording = started.read(good)
        assert isinstance(recording.channels, np.memmap)
        expected = decoding.decode(good, "good.wav").channels
        assert np.array_equal(recording.channels, expected)
        assert list(Path(started._folder.name).iterdir()) == []
        recording.channels[:] = 0  # may be changed


def test_an_environment_without_decoders_is_told(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Decoder() as started, pytest.raises(RuntimeError, match="the decoder does not start"):
        started.read(Path("a.wav"))


def test_a_short_file_costs_less_than_20_ms(decoder, good):
    """On a busy, slow machine too: counted is the time of the processor, of 200 files."""

    def used():
        fields = Path(f"/proc/{decoder._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        own = time.process_time()
        return own + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    decoder.read(good, 16000)
    before = used()
    for _ in range(200):
        decoder.read(good, 16000)
    assert (used() - before) / 200 < 0.02


def test_the_process_imports_no_heavy_package():
    code = "import sys, utils.detector.batch.decoder; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, text=True
    )
    heavy = {"torch", "pandas", "scipy", "sklearn", "joblib", "matplotlib", "onnxruntime"}
    assert done.returncode == 0 and not heavy & set(done.stdout.split())

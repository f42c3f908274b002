"""The detector that recordings are scored with: saved and opened again, honest about files that it cannot score."""

import io
import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from utils import paths
from utils.audio import dsp, reading
from utils.detector import batch_scoring, detector, scoring
from utils.models import classifiers, pooled_features

DEPTHS = {
    "ge2e": (0, 1, 2),
    "campplus": (0,),
}  # not in the order of the alphabet, which JSON may bring them into


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A detector trained on hisses (real) against hums (fake): enough to see that weights arrive and count."""
    rng, time = np.random.default_rng(0), np.arange(12000) / 8000
    waves = [rng.normal(size=12000).astype(np.float32) * 0.1 for _ in range(8)]
    waves += [
        (0.1 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)
        for hertz in range(200, 1000, 100)
    ]
    x, label = pooled_features.features_in_this_process(waves, DEPTHS), np.array([1] * 8 + [0] * 8)
    model = classifiers.fit_svm(x, label)
    home = tmp_path_factory.mktemp("detector")
    clips = pd.DataFrame(
        {"label": label, "system": [f"clip {i}" for i in range(16)], "page": "p", "language": "en"}
    )
    detector.save(home, model, 2.0, -0.5, {"depths": list(DEPTHS.items()), "threshold": 0.5}, clips)
    return home, waves, 2.0 * model.decision_function(x) - 0.5


def test_saved_and_opened_again_it_scores_the_same(folder):
    home, waves, expected = folder
    opened = scoring.load_detector(home)
    assert expected[:8].min() > expected[8:].max()
    assert [opened.logit(wave) for wave in waves] == pytest.approx(
        expected.tolist(), abs=0.01
    )  # half precision
    assert opened.probability(waves[0]) == pytest.approx(1 / (1 + np.exp(-expected[0])), abs=0.005)
    likeness = np.array([piece[3] for wave in waves for piece in opened.pieces(wave)])
    assert (
        likeness.max() == pytest.approx(1, abs=0.01) and likeness.min() > 0.9
    )  # it learned from these
    supports = [int(row["system"].removeprefix("clip ")) for row in opened.supports]
    for i in supports[:2] + supports[-2:]:  # a clip that the machine leans on is most like itself
        first = opened.nearest(waves[i], 1)[0]
        assert (first["system"], first["label"], first["likeness"]) == (
            f"clip {i}",
            str(int(i < 8)),
            "1.00",
        )
    doubled = dsp.resample(waves[0], 8000, 16000)
    assert opened.probability(doubled, 16000) == pytest.approx(
        opened.probability(waves[0]), abs=0.1
    )
    with pytest.raises(dsp.AudioError, match="too short"):
        opened.probability(waves[0][:1000])
    with pytest.raises(dsp.AudioError, match="silent"):
        opened.probability(np.zeros(8000, np.float32))


def test_a_long_recording_is_scored_in_pieces(folder, tmp_path, capsys):
    home, waves, _ = folder
    opened, silence = scoring.load_detector(home), np.zeros(8000, np.float32)
    long = np.concatenate(
        [np.tile(waves[0], 8), np.tile(waves[-1], 8)]
    )  # 12 s of hiss, 12 s of hum
    pieces = opened.pieces(long)
    assert [(a, b) for a, b, *_ in pieces] == [(0, 8), (8, 16), (16, 24)] and pieces[0][2] > pieces[
        1
    ][2] > pieces[2][2]
    assert opened.logit(long) == pytest.approx(np.mean([logit for _, _, logit, _ in pieces]))
    assert (
        len(opened.pieces(np.concatenate([np.tile(waves[0], 7), np.tile(silence, 21)]))) == 2
    )  # the silent piece says nothing
    sf.write(tmp_path / "long.wav", long, 8000)
    scoring.main([str(tmp_path / "long.wav"), "--detector", str(home)])
    assert "at 16–24 s of 24 s" in capsys.readouterr().out


def test_windows_and_steps_by_hand():
    assert detector.windows(8000) == [slice(0, 8000)]
    assert [(w.start, w.stop) for w in detector.windows(22000)] == [
        (0, 16000),
        (4000, 20000),
        (6000, 22000),
    ]  # the last ends with it
    # steps' middles at 0.25, 0.75, 1.25, 1.75, 2.25 and 2.75 s (the end of 22000 samples); windows 0–2, 0.5–2.5, 0.75–2.75 s
    assert detector.by_step(22000, np.array([1.0, 3.0, 8.0])).tolist() == [1, 4, 4, 4, 5.5, 8]
    silent = detector.by_step(22000, np.array([np.nan, 3.0, np.nan]))
    assert np.isnan(silent[[0, 5]]).all() and silent[1:5].tolist() == [3, 3, 3, 3]
    assert (
        detector.spans(np.array([True, True, False, True])) == [(0, 1), (1.5, 2)]
        and detector.spans(np.zeros(3, bool)) == []
    )


def test_the_timeline_finds_the_fake_part(folder, tmp_path, capsys):
    home, waves, _ = folder
    hiss, hum = np.tile(waves[0], 3), np.tile(waves[-1], 3)  # 4.5 s each
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        sf.write(tmp_path / name / "part.wav", np.concatenate([hiss, hum, hiss]), 8000)
    (tmp_path / "a" / "words.wav").write_text("words")
    assert (
        scoring.main(
            [
                str(tmp_path / "a"),
                str(tmp_path / "b"),
                "--timeline",
                str(tmp_path / "out"),
                "--detector",
                str(home),
            ]
        )
        == 1
    )
    written = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert written == ["part.wav-2.csv", "part.wav-2.png", "part.wav.csv", "part.wav.png"]
    table = pd.read_csv(tmp_path / "out" / "part.wav.csv")
    assert (
        list(table) == ["start_s", "end_s", "p_bona_fide", "flagged"]
        and len(table) == 27
        and table["end_s"].iloc[-1] == 13.5
    )
    assert (
        table["flagged"][(table["start_s"] >= 6) & (table["end_s"] <= 7.5)].all()
        and not table["flagged"][:6].any()
    )
    assert not table["flagged"][-6:].any()


def test_the_command_scores_folders_and_names_what_it_cannot(folder, tmp_path, capsys):
    home, waves, _ = folder
    sf.write(tmp_path / "hiss.wav", waves[0], 8000)
    sf.write(tmp_path / "hum.flac", dsp.resample(waves[-1], 8000, 44100), 44100)
    assert (
        scoring.main(
            [str(tmp_path), "--detector", str(home), "--out", str(tmp_path / "scores.csv")]
        )
        == 0
    )
    table = pd.read_csv(tmp_path / "scores.csv").set_index("file")
    assert table.loc[str(tmp_path / "hiss.wav"), "decision"] == "bona fide"
    assert table.loc[str(tmp_path / "hum.flac"), "decision"] == "spoof"
    (tmp_path / "broken.wav").write_text("words")
    assert (
        scoring.main(
            [str(tmp_path), "--detector", str(home), "--out", str(tmp_path / "scores.csv")]
        )
        == 1
    )
    assert "broken.wav: not audio" in capsys.readouterr().err
    assert len(pd.read_csv(tmp_path / "scores.csv")) == 3
    assert scoring.main([str(tmp_path), "--detector", str(tmp_path)]) == 1
    assert "--profile detector" in capsys.readouterr().err


def test_patterns_lists_json_and_a_submission(folder, tmp_path, monkeypatch, capsys):
    home, waves, _ = folder
    names = {"b": waves[0], "a": np.tile(waves[-1], 8)}
    (tmp_path / "in").mkdir()
    for name, wave in names.items():
        reading.write(tmp_path / "in" / f"{name}.wav", wave)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{tmp_path}/in/a.wav\n\n"))
    pattern, gone = f"{tmp_path}/**/b*.wav", f"{tmp_path}/gone*.wav"
    assert [p.name for p in scoring.listed([pattern, "-", str(tmp_path), gone])] == [
        "b.wav",
        "a.wav",
        "a.wav",
        "b.wav",
        "gone*.wav",
    ]
    options = [
        "--detector",
        str(home),
        "--submission",
        str(tmp_path / "hand_in.csv"),
        "--out",
        str(tmp_path / "scores.json"),
    ]
    assert scoring.main([str(tmp_path / "in"), *options]) == 0
    assert (tmp_path / "hand_in.csv").read_text() == "a.wav,0\nb.wav,1\n"
    a, b = json.loads((tmp_path / "scores.json").read_text())
    assert (a["decision"], a["seconds"], a["threshold"], b["pieces"]) == ("spoof", 12.0, 0.5, [])
    assert [(p["start_s"], p["end_s"]) for p in a["pieces"]] == [(0, 6), (6, 12)]
    assert 0 < a["pieces"][0]["p_bona_fide"] < a["threshold"]
    (tmp_path / "hand_in.csv").unlink()
    assert (
        scoring.main([pattern, pattern, *options]) == 1
        and "exactly one decision" in capsys.readouterr().err
    )
    assert (
        scoring.main([gone, *options]) == 1
        and "1 files have no decision" in capsys.readouterr().err
    )
    assert json.loads((tmp_path / "scores.json").read_text())[0]["p_bona_fide"] is None
    assert not (tmp_path / "hand_in.csv").exists()


def test_shown_in_a_notebook(folder, tmp_path, capsys):
    home, waves, _ = folder
    reading.write(tmp_path / "hiss.wav", waves[0])
    player = scoring.show(tmp_path / "hiss.wav", home)
    assert "bona fide" in capsys.readouterr().out and "<audio" in player._repr_html_()
    reading.write(tmp_path / "short.wav", waves[0][:900])
    with pytest.raises(dsp.AudioError, match="short.wav: 0.11 s is too short"):
        scoring.show(tmp_path / "short.wav", home)


def test_warnings():
    clean = (np.random.default_rng(3).laplace(size=24000) * 0.03 * np.hanning(24000)).astype(
        np.float32
    )  # rare peaks
    assert scoring.warnings(clean) == []
    assert (
        "only 0.5 s of sound"
        in scoring.warnings(np.concatenate([clean[10000:14000], np.zeros(16000, np.float32)]))[0]
    )
    assert "nobody" in scoring.warnings(clean, 0.9)[0]
    fast = dsp.resample(clean, 8000, 44100)
    top = np.quantile(np.abs(fast), 0.85)
    assert scoring.warnings(dsp.resample(np.clip(fast, -top, top), 44100, 8000))[0].startswith(
        "clipped"
    )


def test_it_abstains_where_it_warns(folder, tmp_path, capsys):
    home, waves, _ = folder
    another = tmp_path / "detector"
    shutil.copytree(home, another)
    paths.write_json(
        another / "card.json", paths.read_json(another / "card.json") | {"familiar": 0.9}
    )
    (tmp_path / "in").mkdir()
    rng, time = np.random.default_rng(9), np.arange(16000) / 8000
    reading.write(tmp_path / "in" / "a.wav", waves[0])
    reading.write(
        tmp_path / "in" / "b.wav",
        np.float32(np.sign(np.sin(2 * np.pi * 3 * time)) * rng.normal(size=16000) ** 3 * 0.02),
    )
    options = [
        str(tmp_path / "in"),
        "--detector",
        str(another),
        "--out",
        str(tmp_path / "scores.csv"),
    ]
    assert scoring.main(options) == 0
    a, b = pd.read_csv(tmp_path / "scores.csv", keep_default_na=False).to_dict("records")
    assert (
        "unlike" in b["note"]
        and "unlike" not in a["note"]
        and b["decision"] in ("bona fide", "spoof")
    )
    assert (
        scoring.main(
            [*options, "--abstain", "--no-language", "--submission", str(tmp_path / "hand_in.csv")]
        )
        == 1
    )
    b = pd.read_csv(tmp_path / "scores.csv", keep_default_na=False).to_dict("records")[1]
    assert (b["decision"], b["language"]) == ("no decision", "") and b["p_bona_fide"] > 0
    assert "1 files have no decision" in capsys.readouterr().err


def test_rows_kept_by_a_killed_run_are_not_taken_for_another_detectors(folder, tmp_path):
    home, waves, _ = folder
    sf.write(tmp_path / "hiss.wav", waves[0], 8000)
    another = tmp_path / "detector"
    shutil.copytree(home, another)

    def score():
        version = scoring.load_detector(another).version
        return list(
            batch_scoring.score_files(
                [tmp_path / "hiss.wav"], scoring.Scorer, (str(another), version), tmp_path / "keep"
            )
        )

    first = score()
    assert score() == first and len(list((tmp_path / "keep").iterdir())) == 1
    paths.write_json(
        another / "card.json", paths.read_json(another / "card.json") | {"threshold": 1.0}
    )
    assert (first[0]["decision"], score()[0]["decision"]) == ("bona fide", "spoof")
    with pytest.raises(ValueError, match="changed while"):
        scoring.Scorer(str(another), "another version")


def test_the_released_detector_is_small_and_knows_its_limits():
    opened = scoring.load_detector()
    files = list(detector.FOLDER.iterdir())
    assert sum(f.stat().st_size for f in files) < 20e6 and 0 < opened.card["threshold"] < 1
    assert (
        opened.card["limits"]
        and opened.card["pages left out"]["EER"] < 0.3
        and opened.card["ECE on pages left out"] <= 0.05
    )
    assert opened.weights["components"].shape == (
        len(opened.weights["offset"]),
        len(opened.weights["centre"]),
    )
    shared = paths.ROOT.parent / "shared" / "demo_pages"
    if not shared.exists():
        pytest.skip("the demonstration pages are not here")
    key = pd.read_csv(shared / "key.csv")
    key = key[key["label"].isin(["0", "1"])].groupby("label").sample(6, random_state=1)
    p = np.array([opened.probability(shared / "clips" / name) for name in key["name"]])
    assert (
        p[key["label"] == "1"].mean() > p[key["label"] == "0"].mean() + 0.2
    )  # it trained on them: weights and order are right

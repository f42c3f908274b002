"""Fine-tuning: augmented clips stay in their fold; a fold repeats, is reused and opens again."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from utils import paths
from utils.audio import dsp
from utils.evaluation import benchmark
from utils.models import encoders, finetune, frozen_features, pooled_features


@pytest.fixture(scope="module")
def clips():
    """(waves by id, table) of 16 clips in 2 folds; spoofs have less treble: easy to learn."""
    rng, waves, rows = np.random.default_rng(0), {}, []
    for i in range(16):
        label, name = i % 2, f"{i}.wav"
        waves[name] = dsp.coloured_noise(9000 + 300 * i, 2.0 if label else 5.0, rng) * 0.1
        rows.append({"id": name, "label": label, "fold": i // 8, "group": f"g{i // 4}"})
    return waves, pd.DataFrame(rows)


def frozen(config, clips):
    """(rows, frozen features) of clean and augmented clips."""
    waves, train = clips
    made, rows = finetune.augmented_clips(train, waves, config)
    keys = (rows["id"] + "/" + rows["augmentation"].astype(str)).tolist()
    masks = (rows["augmentation"] > 0).tolist()
    return rows, frozen_features.compute(config, made, keys, masks)


def score(model, wave):
    """Log-odds of one clip, alone."""
    features = model.backbone.prepare(wave)
    with torch.inference_mode():
        return float(model(features[None], torch.tensor([len(features)])))


def test_there_is_one_clean_clip_and_as_many_augmented_ones_as_asked_for(clips):
    waves, train = clips
    config = finetune.Config("ge2e", augmented_per_clip=2)
    made, rows = finetune.augmented_clips(train, waves, config)
    assert list(rows) == ["id", "augmentation", "label", "fold", "effects"]
    assert all(sorted(of_clip) == [0, 1, 2] for _, of_clip in rows.groupby("id")["augmentation"])
    clean = rows["augmentation"] == 0
    assert (rows.loc[clean, "effects"] == "").all()
    assert all(made[i] is waves[rows["id"][i]] for i in np.flatnonzero(clean))
    assert (rows.loc[clean, "label"].to_numpy() == train["label"].to_numpy()).all()


def test_augmented_clips_repeat_and_do_not_depend_on_the_other_folds(clips):
    waves, train = clips
    config = finetune.Config("ge2e", augmented_per_clip=1)
    made, rows = finetune.augmented_clips(train, waves, config)
    part, of_part = finetune.augmented_clips(train[train["fold"] == 1], waves, config)
    same = rows[rows["fold"] == 1].reset_index()
    assert same.drop(columns="index").equals(of_part)
    for i, wave in zip(same["index"], part, strict=True):
        assert np.array_equal(made[i], wave)


def test_a_clip_is_spliced_with_clips_of_its_own_fold_only(clips):
    _, train = clips
    sign = {0: 0.1, 1: -0.1}
    signed = {row.id: np.full(9000, sign[row.fold], np.float32) for row in train.itertuples()}
    only_splice = dict.fromkeys(finetune.Config("ge2e").probabilities, 0.0) | {"splice": 1.0}
    config = finetune.Config("ge2e", augmented_per_clip=2, probabilities=only_splice)
    made, rows = finetune.augmented_clips(train, signed, config)
    spliced = np.flatnonzero(rows["effects"] == "splice")
    assert len(spliced) == 32 and min(len(made[i]) for i in spliced) >= 18000
    for wave, fold in zip(made, rows["fold"], strict=True):
        assert (np.sign(wave) == np.sign(sign[fold])).all()


@pytest.fixture(scope="module")
def trained(clips, tmp_path_factory):
    """(config, rows, folder of the frozen features, folder of the model, record) of a fold."""
    home = tmp_path_factory.mktemp("trained")
    config = finetune.Config("ge2e", augmented_per_clip=1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(paths, "CACHE", home / "cache")
        rows, data = frozen(config, clips)
        record = finetune.run_fold(config, 0, rows, data.folder, home / "fold0")
    return config, rows, data.folder, home / "fold0", record


@pytest.fixture
def copied(trained, tmp_path):
    """`trained`, in a folder that a test may change."""
    *before, folder, record = trained
    shutil.copytree(folder, tmp_path / "fold0")
    return *before, tmp_path / "fold0", record


def test_a_fold_repeats(trained, tmp_path):
    config, rows, features, _, record = trained
    again = finetune.run_fold(config, 0, rows, features, tmp_path / "other")
    assert record["tuned"] == again["tuned"] and record["losses"] == again["losses"]
    assert record["step_losses"] == again["step_losses"]


def test_the_loss_of_an_epoch_is_the_mean_over_the_clips_of_its_steps(trained):
    *_, record = trained
    (loss,), steps = record["losses"], record["step_losses"]
    assert len(steps) > 1 and min(steps) < loss < max(steps)


def test_the_clean_clips_of_the_fold_are_scored(trained, clips):
    _, train = clips
    *_, record = trained
    expected = set(train.loc[train["fold"] == 0, "id"])
    assert set(record["tuned"]) == set(record["frozen"]) == expected


def test_test_clips_are_scored_in_each_fold(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    waves, train = clips
    train = train.assign(fold=np.where(train["id"].isin(["3.wav", "12.wav"]), -1, train["fold"]))
    config = finetune.Config("ge2e", augmented_per_clip=0)
    rows, data = frozen(config, (waves, train))
    for fold in (0, 1):
        record = finetune.run_fold(config, fold, rows, data.folder, tmp_path / str(fold))
        assert {"3.wav", "12.wav"} < set(record["tuned"])


def test_a_finished_fold_is_reused_and_another_setting_trains_again(copied):
    config, rows, features, folder, record = copied
    stamp = (folder / "weights.safetensors").stat().st_mtime_ns
    assert finetune.run_fold(config, 0, rows, features, folder) == record
    assert (folder / "weights.safetensors").stat().st_mtime_ns == stamp
    other = finetune.Config("ge2e", augmented_per_clip=1, encoder_lr=3e-4)
    assert finetune.run_fold(other, 0, rows, features, folder)["tuned"] != record["tuned"]


def test_a_fold_opens_again_and_scores_waves(trained, clips):
    *_, folder, record = trained
    model = finetune.load_fold(folder)
    for name, expected in record["tuned"].items():
        # frozen features are kept in half precision: a small difference is expected
        assert score(model, clips[0][name]) == pytest.approx(expected, abs=0.05)


def test_an_easy_difference_is_learned(trained, clips):
    *_, record = trained
    label = clips[1].set_index("id")["label"]
    scores = pd.Series(record["tuned"])
    assert scores[label[scores.index] == 1].min() > scores[label[scores.index] == 0].max()


def test_damaged_weights_are_named(copied):
    *_, folder, _ = copied
    (folder / "weights.safetensors").write_bytes(b"half of them")
    with pytest.raises(ValueError, match="fold0/weights.safetensors: damaged"):
        finetune.load_fold(folder)


def test_a_batch_is_cut_into_micro_batches(monkeypatch):
    monkeypatch.setattr(finetune, "VALUES_PER_STEP", 100)
    assert finetune.micro_batches(5, 40) == [slice(0, 2), slice(2, 4), slice(4, 6)]
    assert finetune.micro_batches(2, 500) == [slice(0, 1), slice(1, 2)]  # too long: one by one


def test_gradients_of_micro_batches_add_up_to_the_batch(monkeypatch):
    """On Whisper, with padding: a clip weighs as much alone as in the whole batch."""
    model = benchmark.detector_of(encoders.load("whisper-base", 1))
    noise = [dsp.coloured_noise(n, 3, np.random.default_rng(n)) for n in (4000, 4000, 3000)]
    features = [model.backbone.prepare(wave) for wave in noise]
    lengths = torch.tensor([len(f) for f in features])
    depths = model.backbone.lower_layers(
        torch.nn.utils.rnn.pad_sequence(features, batch_first=True), lengths
    )
    x, frames = depths[-1]
    target, weight = torch.tensor([0.0, 1.0, 1.0]), torch.tensor([3.0, 1.0, 1.0])
    batch = [frozen_features.pool(depths).detach(), x.detach(), frames, target, weight]
    gradients = []
    for values in (10**9, x[0].numel()):  # all clips at once, one clip at a time
        monkeypatch.setattr(finetune, "VALUES_PER_STEP", values)
        model.zero_grad()
        finetune._backward(model, batch, 3)
        known = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        gradients.append(torch.cat(known))
    difference = float((gradients[0] - gradients[1]).abs().max())
    assert difference < 1e-4 * float(gradients[0].abs().max())


def test_fine_tuning_in_micro_batches_gives_the_same_model(clips, tmp_path, monkeypatch):
    """With classes that weigh differently and several clips per batch."""
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    config = finetune.Config("ge2e", augmented_per_clip=0, spoof_weight=3.0, head_lr=1e-3)
    rows, data = frozen(config, clips)
    statistics = np.concatenate([data.lower, data.upper], axis=1)
    labels, results = rows["label"].to_numpy(), []
    for values in (10**9, 256):
        monkeypatch.setattr(finetune, "VALUES_PER_STEP", values)
        model = finetune.initial_model(config, statistics, labels)
        losses, _ = finetune.fine_tune(model, data, np.arange(len(rows)), labels, config)
        results.append([*losses, *model.head.weight.detach()[0, :50].tolist()])
    assert results[0] == pytest.approx(results[1], rel=1e-3, abs=1e-6)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The cache in which `whisper` keeps its frozen features."""
    return tmp_path_factory.mktemp("whisper-cache")


@pytest.fixture(scope="module")
def whisper(clips, cache):
    """By number of fine-tuned layers, of two: (frozen features, record, folder of the model)."""
    result = {}
    for tuned in (1, 2):
        config = finetune.Config("whisper-base", layers=2, tuned=tuned, augmented_per_clip=0)
        folder = cache / f"fold{tuned}"
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(paths, "CACHE", cache)
            rows, data = frozen(config, clips)
        record = finetune.run_fold(config, 0, rows, data.folder, folder)
        result[tuned] = data, record, folder
    return result


@pytest.mark.slow
def test_only_the_upper_layers_move_and_frozen_scores_do_not_depend_on_their_number(whisper):
    before = encoders.load("whisper-base", 2).state_dict()
    for tuned, expected in ((1, {"layers.1"}), (2, {"layers.0", "layers.1"})):
        state = finetune.load_fold(whisper[tuned][2]).backbone.state_dict()
        moved = [name for name, tensor in state.items() if not torch.equal(tensor, before[name])]
        assert {name[:8] for name in moved} == expected
    assert whisper[1][1]["frozen"] == pytest.approx(whisper[2][1]["frozen"], abs=0.02)


@pytest.mark.slow
def test_pooled_features_are_found_again_however_the_layers_were_divided(
    whisper, cache, clips, monkeypatch
):
    monkeypatch.setattr(paths, "CACHE", cache)

    def refuse(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr("utils.parallel.run_in_processes", refuse)
    for data, _, _ in whisper.values():
        known = pooled_features.features([clips[0]["3.wav"]], {"whisper-base": (0, 1, 2)})[0]
        assert known == pytest.approx(np.concatenate([data.lower[3], data.upper[3]]), abs=1e-6)


def test_more_tuned_layers_than_there_are_is_refused():
    with pytest.raises(ValueError, match="3 of 2 layers cannot be tuned, 1 to 2 can"):
        encoders.load("whisper-base", 2, 3)

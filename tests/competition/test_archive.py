"""A competition folder becomes a manifest, wherever the folder lies."""

import pytest

from utils import paths
from utils.audio import reading
from utils.competition import archive


@pytest.fixture
def linked(tmp_path, speechlike):
    """A competition below `inputs/` that is a link to a folder on another disk."""
    folder = tmp_path / "data"
    for name in ("train/a.wav", "train/b.wav", "test/c.wav"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        reading.write(folder / name, speechlike)
    (folder / "train_label.txt").write_text("a.wav, 1\nb.wav, 0\n")
    link = paths.INPUTS / "linked"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(folder)
    yield link
    link.unlink()


def test_a_linked_competition_folder_keeps_its_path_below_inputs(linked):
    manifest, bad = archive.build_manifest(linked)
    assert bad.empty
    assert sorted(manifest["path"]) == [
        "inputs/linked/test/c.wav",
        "inputs/linked/train/a.wav",
        "inputs/linked/train/b.wav",
    ]
    assert all((paths.HOME / path).is_file() for path in manifest["path"])


def test_a_clip_of_which_nothing_is_known_is_its_own_group(linked):
    manifest, _ = archive.build_manifest(linked)
    assert (manifest["group"] == manifest["id"]).all() and (manifest["spans"] == "").all()
    unknown = manifest[["system", "language", "speaker", "source", "licence"]]
    assert set(unknown.to_numpy().ravel()) == {"unknown"}


def test_a_split_without_a_readable_clip_is_reported_clip_by_clip(linked):
    """It ended in a KeyError that named no file."""
    (linked / "test" / "c.wav").write_bytes(b"")
    manifest, bad = archive.build_manifest(linked)
    assert set(manifest["split"]) == {"train"}
    assert bad["id"].tolist() == ["c.wav"] and "empty file" in bad["reason"][0]


def test_a_lost_test_clip_is_noticed(linked):
    (linked / "test_files.txt").write_text("c.wav\nlost.wav\n")
    assert archive.expected_names(linked) == ["c.wav", "lost.wav"]
    _, bad = archive.build_manifest(linked)
    assert bad[["id", "split"]].to_numpy().tolist() == [["lost.wav", "test"]]

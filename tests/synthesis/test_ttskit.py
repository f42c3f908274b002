"""Weights of ttskit, which come as pickles: only tensors are read."""

import pytest
import torch

from utils.synthesis import ttskit


def test_pickled_modules_with_other_classes_are_refused(tmp_path):
    path = tmp_path / "evil.pt"

    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"x": Evil()}, path)
    with pytest.raises(ValueError, match="refused"):
        ttskit.pickled_tensors(path)

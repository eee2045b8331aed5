import numpy as np
import torch

from arc_core.transfer import Download, upload


def test_uploaded_arrays_keep_their_values_types_and_shapes() -> None:
    rng = np.random.default_rng(0)
    arrays = [
        rng.random((3, 2))[::2], rng.integers(9, size=5), rng.integers(9, size=(2, 3), dtype=np.uint8),
        rng.random(7) < 0.5, rng.random((0, 4), dtype=np.float32),
    ]  # fmt: skip
    uploaded = upload(arrays, torch.device("cpu"))
    assert [tensor.dtype for tensor in uploaded] == [
        torch.float64, torch.int64, torch.uint8, torch.bool, torch.float32,
    ]  # fmt: skip
    for array, tensor in zip(arrays, uploaded, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_a_download_gives_the_tensor_as_an_array() -> None:
    np.testing.assert_array_equal(Download(torch.arange(4)).read(), np.arange(4))

"""Images to distil on: those of a folder or an .npz, or the bundled ARC grids rendered to 32 x 32.

N images, RGB in 0..1.
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib import image as matplotlib_image
from torch import Tensor
from torch.nn import functional

from arc_core.datasets import load_tasks
from arc_core.errors import InputError
from arc_core.grid import Grid
from arc_core.randomness import generator_for
from arc_core.render import PALETTE

SIDE = 32
_COLORS = np.array([tuple(bytes.fromhex(color[1:])) for color in PALETTE], dtype=np.uint8)
_SUFFIXES = (".png", ".jpg", ".jpeg")


def render_grid(grid: Grid) -> np.ndarray:
    """Renders a grid in ARC's colours, as large as whole cells allow, in the middle of a black image.

    Returns:
        (32, 32, 3) uint8.
    """
    scale = SIDE // max(grid.shape)
    cells = _COLORS[grid].repeat(scale, axis=0).repeat(scale, axis=1)
    top, left = (SIDE - cells.shape[0]) // 2, (SIDE - cells.shape[1]) // 2
    image = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    image[top : top + cells.shape[0], left : left + cells.shape[1]] = cells
    return image


def load_images(source: str, seed: int, held_out: float = 0.1) -> tuple[Tensor, Tensor]:
    """Loads images and splits them.

    Args:
        source: a data spec of ARC tasks such as "arc1:train", a folder of PNG or JPEG, or an .npz with an array of
            (N, H, W, 3) uint8.
        seed: of the split.
        held_out: share of images to report on; of ARC tasks, share of the tasks.
    Returns:
        (N, 3, 32, 32) float32 images in 0..1 to train on, and others to report on.
    Raises:
        InputError: there are no images there.
    """
    path = Path(source)
    if path.suffix == ".npz":
        images = _read_npz(path)
        groups = np.arange(len(images))
    elif path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES)
        images = (
            np.stack([_crop_and_resize(_read_image(file)) for file in files])
            if files
            else np.zeros((0, SIDE, SIDE, 3), np.uint8)
        )
        groups = np.arange(len(images))
    else:
        rows = [
            (index, render_grid(grid))
            for index, task in enumerate(load_tasks(source))
            for pair in task.train + task.test
            for grid in (pair.input, pair.output)
            if grid is not None
        ]
        groups, images = np.array([index for index, _ in rows]), np.stack([image for _, image in rows])
    if len(np.unique(groups)) < 10:
        raise InputError(f"--data must hold at least 10 images or tasks; {source} has {len(np.unique(groups))}")
    order = generator_for(seed, "held-out images", 0).permutation(np.unique(groups))
    is_held_out = np.isin(groups, order[: max(1, round(held_out * len(order)))])
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return tensors[~is_held_out], tensors[is_held_out]


def _read_npz(path: Path) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = [file[name] for name in file.files]
    except (OSError, ValueError) as error:
        raise InputError(f"--data {path} cannot be read: {error}") from None
    for array in arrays:
        if array.ndim == 4 and array.shape[3] == 3 and array.dtype == np.uint8:
            return np.stack([_crop_and_resize(image) for image in array])
    raise InputError(f"--data {path} must hold an array of (N, H, W, 3) uint8")


def _read_image(file: Path) -> np.ndarray:
    try:
        image = matplotlib_image.imread(file)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"--data: {file} is no image: {error}") from None
    if image.dtype != np.uint8:
        image = (image * 255).round().astype(np.uint8)
    return image[..., :3] if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def _crop_and_resize(image: np.ndarray) -> np.ndarray:
    """Returns the middle square of an (H, W, 3) image, resized to 32 x 32."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = torch.from_numpy(np.ascontiguousarray(image[top : top + side, left : left + side]))
    small = functional.interpolate(square.permute(2, 0, 1)[None].float(), (SIDE, SIDE), mode="area")
    return small[0].permute(1, 2, 0).round().to(torch.uint8).numpy()

"""Which tasks a run learns."""

from pathlib import Path

import numpy as np
import torch

from hrm.config import DataConfig
from hrm.data.training_data import load_training_data


def test_transductive_tasks_lend_their_demonstrations_and_never_their_tests(task_folder: Path) -> None:
    config = DataConfig(train=f"dir:{task_folder}@train", transductive="arc1:eval", num_augmentations=1)
    data = load_training_data(config, 0, torch.device("cpu"))
    assert len(data.transductive_ids) == 400
    for index, task in enumerate(data.tasks):
        assert bool(task.test) == (index < 6)
    num_demonstrations = data.tensors.num_train[6:]
    assert np.array_equal(np.diff(data.tensors.first_pair)[6:], num_demonstrations)

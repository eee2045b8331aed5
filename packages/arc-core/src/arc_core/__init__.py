"""Everything that ARC reasoners share: tasks, augmentation, the parts of training, the Solver protocol and scoring.

Importing this package, or `grid`, `task`, `datasets`, `augment` and `scoring`, does not import torch.
"""

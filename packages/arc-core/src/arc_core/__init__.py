"""What every ARC reasoner shares: tasks, augmentation, training plumbing, the Solver protocol and scoring.

Importing this package, or `grid`, `task`, `datasets`, `augment` and `scoring`, does not import torch.
"""

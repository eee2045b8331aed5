"""Losses of RLAN: of the answer, of clues and predicates, leave-one-out and equivariance."""

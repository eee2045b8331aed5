"""From stored answers to ranks, scores, intervals and tests."""

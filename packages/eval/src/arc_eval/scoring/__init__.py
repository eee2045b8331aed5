"""Computes ranks, scores, confidence intervals and significance tests from stored answers."""

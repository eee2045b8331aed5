"""Reads and writes the files of a comparison: predictions, results and submissions."""

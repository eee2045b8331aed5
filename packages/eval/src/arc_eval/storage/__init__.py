"""Files of a comparison: predictions, results and submissions."""

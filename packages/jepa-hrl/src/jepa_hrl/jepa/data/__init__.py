"""From tasks to batches of object tokens."""

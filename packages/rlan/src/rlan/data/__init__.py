"""From tasks to batches: queries, their demonstrations, and the held-out split."""

"""Turns tasks into batches: queries with their demonstrations, and the split into training and held-out tasks."""

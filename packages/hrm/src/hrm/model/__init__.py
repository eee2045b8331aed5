"""HRM, TRM and the transformer: layers, recursion, halting and puzzle embeddings."""

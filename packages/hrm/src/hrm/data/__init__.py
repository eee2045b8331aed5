"""From tasks to batches of token sequences: views, identities and datasets on disk."""

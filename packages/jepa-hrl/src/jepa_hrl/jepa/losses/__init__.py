"""The losses that the JEPA minimises, and their weighted sum."""

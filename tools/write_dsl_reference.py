"""Writes docs/dsl.md from the primitives' own types, costs and docstrings.

uv run tools/write_dsl_reference.py
"""

from pathlib import Path

from jepa_hrl.dsl.reference import render_reference

if __name__ == "__main__":
    path = Path(__file__).resolve().parents[1] / "docs" / "dsl.md"
    path.write_text(render_reference(), encoding="utf-8")
    print(f"wrote {path.name}")

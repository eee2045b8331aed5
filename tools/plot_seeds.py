"""Several seeds of the active reasoner: mean and spread of held-out success, and their learning curves as a picture.

uv run tools/plot_seeds.py runs/active-reasoner/seed0 runs/active-reasoner/seed1 --out curve.png
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jepa_hrl.rl.curves import write_curve


def spread(values: Sequence[float]) -> str:
    """Mean, standard deviation over seeds, and every value."""
    shown = ", ".join(f"{value:.3f}" for value in values)
    return f"{np.mean(values):.3f}, standard deviation {np.std(values, ddof=1):.3f} ({shown})"


def main() -> None:
    """Prints the figures and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="two or more run folders of equal recipes")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG")
    args = parser.parse_args()
    summaries = [json.loads((run / "summary.json").read_bytes()) for run in args.runs]
    curves = [[(int(step), float(success)) for step, success in summary["curve"]] for summary in summaries]
    results = [summary["results"]["held-out tasks"] for summary in summaries]
    print(f"seeds {', '.join(str(summary['seed']) for summary in summaries)}")
    print(f"success before PPO: {spread([curve[0][1] for curve in curves])}")
    print(f"success, best checkpoint: {spread([result['eval/success'] for result in results])}")
    print(f"success, last iteration: {spread([curve[-1][1] for curve in curves])}")
    print(f"length over the generator's: {spread([result['eval/length_ratio'] for result in results])}")
    for name in sorted(name for name in results[0] if name.startswith("eval/success_length")):
        print(f"{name}: {spread([result[name] for result in results])}")
    write_curve(args.out, curves)
    print(f"wrote {args.out.name}")


if __name__ == "__main__":
    main()

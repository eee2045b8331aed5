"""Summarises several seeds of the active reasoner: mean and spread of held-out success, and a plot of learning curves.

A run's best checkpoint is chosen on its held-out tasks; --tasks measures best and last checkpoints on other tasks.

uv run tools/plot_seeds.py runs/active-reasoner/seed0 runs/active-reasoner/seed1 --out curve.png
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from arc_core.checkpoint import load_checkpoint, resolve_checkpoint
from arc_core.runs import RunFolder, read_metrics
from jepa_hrl.rl.config import METHOD
from jepa_hrl.rl.environment.problems import load_problems
from jepa_hrl.rl.policy.agent import load_agent
from jepa_hrl.rl.policy.evaluation import EvalMetrics, evaluate_policy
from jepa_hrl.rl.policy.learning_curves import write_curve


def format_spread(values: Sequence[float]) -> str:
    """Formats the mean, the standard deviation over seeds, and every value."""
    shown = ", ".join(f"{value:.3f}" for value in values)
    return f"{np.mean(values):.3f}, standard deviation {np.std(values, ddof=1):.3f} ({shown})"


def evaluate_checkpoint(checkpoint: Path, manifest: Path) -> EvalMetrics:
    """Evaluates a checkpoint's greedy policy on the tasks of a manifest."""
    device = torch.device("cpu")
    agent, config = load_agent(load_checkpoint(checkpoint, METHOD), checkpoint, device)
    problems = load_problems(manifest, agent.jepa.actions, config.env.demonstrations)
    return evaluate_policy(agent, problems, config.env)


def main() -> None:
    """Prints the figures and writes the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="two or more run folders of equal recipes")
    parser.add_argument(
        "--cloned", type=Path, metavar="RUN", help="run of pretrain-bc that they started from, plotted beside"
    )
    parser.add_argument("--tasks", type=Path, metavar="MANIFEST", help="other tasks to measure on")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG")
    args = parser.parse_args()
    summaries = [json.loads((run / "summary.json").read_bytes()) for run in args.runs]
    curves = [[(int(step), float(success)) for step, success in summary["curve"]] for summary in summaries]
    results = [summary["results"]["held-out tasks"] for summary in summaries]
    print(f"seeds {', '.join(str(summary['seed']) for summary in summaries)}")
    print(f"success before PPO: {format_spread([curve[0][1] for curve in curves])}")
    print(f"success, best checkpoint: {format_spread([result['eval/success'] for result in results])}")
    print(f"success, last iteration: {format_spread([curve[-1][1] for curve in curves])}")
    print(f"length over the generator's: {format_spread([result['eval/length_ratio'] for result in results])}")
    for name in sorted(name for name in results[0] if name.startswith("eval/success_length")):
        print(f"{name}: {format_spread([result[name] for result in results])}")
    for which in ("best", "last") if args.tasks else ():
        files = [resolve_checkpoint(run / "checkpoints" / f"{which}.json") for run in args.runs]
        metrics = [evaluate_checkpoint(file, args.tasks) for file in files]
        print(
            f"{metrics[0].problems} other tasks, {which} checkpoint: "
            f"success {format_spread([seed.success for seed in metrics])}"
        )
        print(f"    length over the generator's {format_spread([seed.length_ratio for seed in metrics])}")
    lines = read_metrics(RunFolder(args.cloned).metrics) if args.cloned else []
    cloned = [(int(line["step"]), line["eval/success"]) for line in lines if "eval/success" in line]
    write_curve(args.out, curves, cloned)
    print(f"wrote {args.out.name}")


if __name__ == "__main__":
    main()

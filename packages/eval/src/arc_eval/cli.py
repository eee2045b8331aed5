"""The command `eval`: scores and compares ARC solvers."""

import argparse
from collections.abc import Callable, Sequence

from rich.console import Console

from arc_core.errors import InputError, run_command
from arc_eval.compare import compare
from arc_eval.result_commands import report, score, submission

_COMPARE = """examples:
  uv run eval compare --limit 40
  uv run eval compare --data dir:ConceptARC/corpus --views 8x1
  uv run eval compare --methods hrm=trm hrm=runs/hrm/quick-20260102-030405 dsl submission:theirs.json

An interrupted comparison continues when the same command is given again.
"""
_SCORE = """examples:
  uv run eval score results/arc1-eval-1a2b3c4d
  uv run eval score submission.json --data arc1:eval
"""
_REPORT = """example: uv run eval report results/arc1-eval-1a2b3c4d --out comparison.html"""
_SUBMISSION = """examples:
  uv run eval submission results/arc1-eval-1a2b3c4d --method dsl
  uv run eval submission --data kaggle:arc-agi_test_challenges.json --method rlan --seconds-per-task 60
"""


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, help_text: str, examples: str,
    run: Callable[[argparse.Namespace, Console], int],
) -> argparse.ArgumentParser:  # fmt: skip
    command = commands.add_parser(
        name, help=help_text, description=help_text, epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.set_defaults(run=run)
    return command


def _add_budget(command: argparse.ArgumentParser) -> None:
    command.add_argument("--views", default="8x4", metavar="N|TxC", help="views a task (default 8x4, that is 32)")
    command.add_argument(
        "--seconds-per-task", type=float, metavar="S", help="for methods that search (default: their own, 5 for dsl)"
    )
    command.add_argument(
        "--programs-per-task", type=int, metavar="N", help="for methods that search: reproducible on any machine"
    )
    command.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    command.add_argument("--seed", type=int, default=0, help="of the colourings (default 0)")
    command.add_argument(
        "--use-best-step", action="store_true", help="recurrent solvers answer with the step that they are surest of"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("eval", description=__doc__, epilog="example: uv run eval compare --limit 40")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    compare_command = _add(commands, "compare", "score every installed method under one protocol", _COMPARE, compare)
    compare_command.add_argument(
        "--data", default="arc1:eval", metavar="SPEC", help="evaluation set (default arc1:eval)"
    )
    compare_command.add_argument("--limit", type=int, metavar="N", help="only the first N tasks by id")
    compare_command.add_argument(
        "--methods", nargs="+", metavar="METHOD",
        help="NAME, NAME=CHECKPOINT, NAME=RECIPE or submission:FILE (default: all installed, newest runs)",
    )  # fmt: skip
    _add_budget(compare_command)
    compare_command.add_argument("--out", metavar="DIR", help="default results/<data>-<protocol>")
    compare_command.add_argument("--fresh", action="store_true", help="solve again what is stored of these methods")
    compare_command.add_argument(
        "--allow-overlap", action="store_true", help="score tasks that a method was trained on, and mark the result"
    )
    score_command = _add(commands, "score", "score stored answers, or submissions in Kaggle's format", _SCORE, score)
    score_command.add_argument("paths", nargs="+", metavar="PATH", help="a folder of eval compare, or submission files")
    score_command.add_argument("--data", default="arc1:eval", metavar="SPEC", help="of submissions (default arc1:eval)")
    report_command = _add(commands, "report", "write the report of a stored comparison", _REPORT, report)
    report_command.add_argument("folder", metavar="DIR", help="of eval compare")
    report_command.add_argument("--out", metavar="FILE", help="default report.html in DIR")
    submission_command = _add(commands, "submission", "write a submission in Kaggle's format", _SUBMISSION, submission)
    submission_command.add_argument(
        "folder", nargs="?", metavar="DIR", help="of eval compare; without it the method is asked now"
    )
    submission_command.add_argument(
        "--data", default="arc1:eval", metavar="SPEC", help="without DIR (default arc1:eval)"
    )
    submission_command.add_argument(
        "--method", required=True, help="label in DIR; without DIR as in eval compare --methods"
    )
    submission_command.add_argument("--out", metavar="FILE", help="default submission.json, with DIR <method>.json")
    _add_budget(submission_command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command `eval` and returns its exit status."""
    args = _parser().parse_args(argv)
    console = Console(emoji=False)
    return run_command(lambda: _run(args, console))


def _run(args: argparse.Namespace, console: Console) -> int:
    """Runs a subcommand; a file that the user named and that cannot be used becomes one line of error."""
    try:
        return int(args.run(args, console))
    except BrokenPipeError:  # the reader closed the pipe (`| head`), which run_command ends quietly
        raise
    except OSError as error:
        raise InputError(f"{error.filename or 'a file'} cannot be used: {error.strerror or error}") from None


if __name__ == "__main__":
    raise SystemExit(main())

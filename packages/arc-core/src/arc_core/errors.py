"""Errors that users can act on, and their report as one line by every command."""

import os
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor

from arc_core.signals import SigtermReceived, raise_on_sigterm

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class InputError(ValueError):
    """Invalid input; the message says in one line what must hold, what came, where, and what to do."""


class ConfigError(InputError):
    """A config that cannot be used, because of an unknown key or a value out of range, for example."""


class RunFailure(RuntimeError):
    """The end of a run that cannot continue, because it diverged or the disk is full, for example.

    Args:
        message: one line that says why the run ended and how to continue it.
        status: exit status of the command.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def run_command(command: Callable[[], int]) -> int:
    """Runs a command and returns its exit status; bad input becomes one line on stderr and status 2.

    A reader that closes the pipe (`| head`) ends the command quietly, as it does for other tools.
    """
    try:
        with raise_on_sigterm():
            status = command()
            sys.stdout.flush()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except RunFailure as error:
        print(f"stopped: {error}", file=sys.stderr)
        return error.status
    except BrokenExecutor:
        print(
            "stopped: a worker process died, killed or out of memory (fewer workers need less). What was written is "
            "whole; give the same command again",
            file=sys.stderr,
        )
        return EXIT_FAILED
    except SigtermReceived:
        print("terminated", file=sys.stderr)
        return EXIT_TERMINATED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status

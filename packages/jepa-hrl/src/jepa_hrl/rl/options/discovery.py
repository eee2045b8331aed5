"""`discover-options`: action sequences that recur in successful traces and shorten what they are written in."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2
from pathlib import Path

from arc_core.errors import InputError
from arc_core.files import show_path
from jepa_hrl.dsl.program import INPUT, Expression, explain
from jepa_hrl.rl.policy.rollouts import Trace
from jepa_hrl.world_model.actions import RECOLOR, ActionSet

OPTIONS_FORMAT = 1

Symbol = tuple[str, ...]


@dataclass(frozen=True)
class Option:
    """A sequence of actions worth a name.

    Attributes:
        actions: names, first to last.
        support: successful traces that have it.
        traces: all traces that have it, and how many of them succeeded as a share.
        gain_bits: that traces get shorter by, what naming it costs paid.
        expansion: the program, as text and as a sentence.
    """

    name: str
    actions: tuple[str, ...]
    support: int
    traces: int
    success_rate: float
    gain_bits: float
    expansion: str
    explanation: str


def mine(
    traces: Sequence[Sequence[str]], choices: int, min_support: int, most: int, max_length: int
) -> list[tuple[Symbol, int, float]]:
    """Sequences of two to `max_length` actions, how many traces have each, and the bits that naming each saves.

    Pair by pair: the pair of neighbours in most traces becomes a symbol of its own, and counting begins again, so that
    a sequence is not counted once more as part of a longer one. What is saved: every use writes one choice instead of
    several; writing once what the name means costs as many choices as it has actions.

    Args:
        choices: that an agent has without options; a choice costs the logarithm of theirs and the options' number.
    Source: byte-pair encoding (Gage 1994); description length in two parts, the names and the rest (Rissanen 1978).
    """
    texts: list[list[Symbol]] = [[(name,) for name in trace] for trace in traces]
    found: list[tuple[Symbol, int, float]] = []
    choice_bits = log2(choices + most)
    while len(found) < most:
        having: Counter[tuple[Symbol, Symbol]] = Counter()
        for text in texts:
            having.update({(one, two) for one, two in pairwise(text) if len(one) + len(two) <= max_length})
        if not having:
            break
        # Of equally frequent ones the first by name, so that the result does not depend on the traces' order.
        pair = min(sorted(having), key=lambda pair: -having[pair])
        support = having[pair]
        sequence = pair[0] + pair[1]
        gain = choice_bits * (support * (len(sequence) - 1) - len(sequence))
        if support < min_support or gain <= 0:
            break
        texts = [_merged(text, pair) for text in texts]
        found.append((sequence, support, round(gain, 2)))
    return found


def _merged(text: list[Symbol], pair: tuple[Symbol, Symbol]) -> list[Symbol]:
    made: list[Symbol] = []
    place = 0
    while place < len(text):
        if place + 1 < len(text) and (text[place], text[place + 1]) == pair:
            made.append(pair[0] + pair[1])
            place += 2
        else:
            made.append(text[place])
            place += 1
    return made


def discover(traces: Sequence[Trace], actions: ActionSet, min_support: int, most: int, max_length: int) -> list[Option]:
    """Options of successful traces, in order of discovery.

    A sequence in which colours are renamed before the end is none: the table is inferred from the goals.
    """
    solved = [trace.actions for trace in traces if trace.grounded]
    found = []
    for sequence, support, gain in mine(solved, len(actions) + 1, min_support, most, max_length):
        if RECOLOR in sequence[:-1]:
            continue
        having = [trace for trace in traces if _has(trace.actions, sequence)]
        program: Expression = INPUT
        for name in sequence:
            program = actions.actions[actions.indices[name]].extend(program)
        found.append(
            Option(
                "+".join(sequence), sequence, support, len(having),
                sum(trace.grounded for trace in having) / max(len(having), 1), gain, str(program),
                explain(program),
            )
        )  # fmt: skip
    return found


def _has(trace: Sequence[str], sequence: Sequence[str]) -> bool:
    size = len(sequence)
    return any(tuple(trace[place : place + size]) == tuple(sequence) for place in range(len(trace) - size + 1))


def read_options(path: Path, actions: ActionSet) -> tuple[tuple[int, ...], ...]:
    """The options of a file as numbers of actions.

    Raises:
        InputError: it is no file of options, or of actions that are not known.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"options must be a file that discover-options wrote; {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{show_path(path)}: must be JSON that discover-options wrote; {error!s:.80}") from None
    if (
        not isinstance(stored, dict)
        or stored.get("format") != OPTIONS_FORMAT
        or not isinstance(stored.get("options"), list)
    ):
        raise InputError(
            f"{show_path(path)}: must have format {OPTIONS_FORMAT} and a list of options, as discover-options writes"
        )
    found = []
    for number, option in enumerate(stored["options"], 1):
        names = option.get("actions") if isinstance(option, dict) else None
        if not isinstance(names, list) or len(names) < 2:
            raise InputError(f"{show_path(path)}, option {number}: actions must be a list of at least two")
        strange = [name for name in names if not isinstance(name, str) or name not in actions.indices]
        if strange:
            raise InputError(
                f"{show_path(path)}, option {number}: actions must be those of the JEPA; got {strange!a:.80}"
            )
        found.append(tuple(actions.indices[name] for name in names))
    return tuple(found)

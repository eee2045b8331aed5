"""Option discovery: action sequences that recur in successful traces and shorten the traces' description."""

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
    """A sequence of actions that can be taken as one choice.

    Attributes:
        name: the actions' names, joined.
        actions: names of the actions, first to last.
        support: number of successful traces that contain the sequence.
        traces: number of all traces that contain it.
        success_rate: share of these that are successful.
        gain_bits: by which the traces' description gets shorter, the cost of defining the option included.
        expansion, explanation: its program, as text and as a sentence.
    """

    name: str
    actions: tuple[str, ...]
    support: int
    traces: int
    success_rate: float
    gain_bits: float
    expansion: str
    explanation: str


def mine_sequences(
    traces: Sequence[Sequence[str]], choices: int, min_support: int, max_options: int, max_length: int
) -> list[tuple[Symbol, int, float]]:
    """Finds frequent sequences of actions by byte-pair encoding.

    The pair of neighbours that occurs in most traces becomes a symbol of its own, and counting starts again, so that a
    sequence is not counted once more as part of a longer one. The gain of a sequence: every use writes one choice
    instead of several; defining it once costs as many choices as it has actions.

    Args:
        traces: names of the actions of each trace.
        choices: choices that an agent has without options; writing one of them takes the logarithm of their number
            and the options' together.
        min_support: traces that must contain a sequence; a search ends at the first pair with fewer.
        max_options: sequences at most.
        max_length: actions of a sequence, 2 at least.
    Returns:
        The sequences in order of discovery, each with the number of traces that contain it and its gain in bits.
    Source: byte-pair encoding (Gage 1994); two-part description length, the definitions and the rest (Rissanen 1978).
    """
    texts: list[list[Symbol]] = [[(name,) for name in trace] for trace in traces]
    sequences: list[tuple[Symbol, int, float]] = []
    choice_bits = log2(choices + max_options)
    while len(sequences) < max_options:
        pair_counts: Counter[tuple[Symbol, Symbol]] = Counter()
        for text in texts:
            pair_counts.update({(one, two) for one, two in pairwise(text) if len(one) + len(two) <= max_length})
        if not pair_counts:
            break
        # Of equally frequent ones the first by name, so that the result does not depend on the traces' order.
        pair = min(sorted(pair_counts), key=lambda pair: -pair_counts[pair])
        support = pair_counts[pair]
        sequence = pair[0] + pair[1]
        gain = choice_bits * (support * (len(sequence) - 1) - len(sequence))
        if support < min_support or gain <= 0:
            break
        texts = [_merge_pair(text, pair) for text in texts]
        sequences.append((sequence, support, round(gain, 2)))
    return sequences


def _merge_pair(text: list[Symbol], pair: tuple[Symbol, Symbol]) -> list[Symbol]:
    """Returns a trace in which every occurrence of a pair of neighbours is one symbol."""
    merged: list[Symbol] = []
    index = 0
    while index < len(text):
        if index + 1 < len(text) and (text[index], text[index + 1]) == pair:
            merged.append(pair[0] + pair[1])
            index += 2
        else:
            merged.append(text[index])
            index += 1
    return merged


def discover(
    traces: Sequence[Trace], actions: ActionSet, min_support: int, max_options: int, max_length: int
) -> list[Option]:
    """Finds options in successful traces; see `mine_sequences`.

    A sequence with `recolor` before its end is left out, since the table of colours is inferred from the goals.

    Args:
        traces: rollouts, successful and not.
        actions: actions of the traces.
        min_support, max_options, max_length: as in `mine_sequences`.
    Returns:
        The options in order of discovery.
    """
    solved = [trace.actions for trace in traces if trace.grounded]
    options = []
    for sequence, support, gain in mine_sequences(solved, len(actions) + 1, min_support, max_options, max_length):
        if RECOLOR in sequence[:-1]:
            continue
        matching = [trace for trace in traces if _contains(trace.actions, sequence)]
        program: Expression = INPUT
        for name in sequence:
            program = actions.actions[actions.indices[name]].extend(program)
        options.append(
            Option(
                name="+".join(sequence),
                actions=sequence,
                support=support,
                traces=len(matching),
                success_rate=sum(trace.grounded for trace in matching) / max(len(matching), 1),
                gain_bits=gain,
                expansion=str(program),
                explanation=explain(program),
            )
        )
    return options


def _contains(trace: Sequence[str], sequence: Sequence[str]) -> bool:
    size = len(sequence)
    return any(tuple(trace[start : start + size]) == tuple(sequence) for start in range(len(trace) - size + 1))


def read_options(path: Path, actions: ActionSet) -> tuple[tuple[int, ...], ...]:
    """Reads the options of a file as sequences of action indices.

    Raises:
        InputError: the file cannot be read, is malformed, or names an action that is not among `actions`.
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
    options = []
    for index, option in enumerate(stored["options"], 1):
        names = option.get("actions") if isinstance(option, dict) else None
        if not isinstance(names, list) or len(names) < 2:
            raise InputError(f"{show_path(path)}, option {index}: actions must be a list of at least two")
        unknown = [name for name in names if not isinstance(name, str) or name not in actions.indices]
        if unknown:
            raise InputError(
                f"{show_path(path)}, option {index}: actions must be those of the JEPA; got {unknown!a:.80}"
            )
        options.append(tuple(actions.indices[name] for name in names))
    return tuple(options)

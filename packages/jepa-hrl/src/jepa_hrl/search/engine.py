"""Best-first search over programs by the values that they produce on all of a task's inputs at once.

Programs are expanded in the order of their description length. Of the programs with equal values on all inputs, those
of the demonstrations and of the tests, only the first is kept (observational equivalence). Each new value is compared
with the targets: the outputs, and what must come before invertible last steps (`targets`). Tables and overlays that
produce a target from the values so far are inferred (`inference`).

`Search._reason_to_stop` decides when a search is done.

Source: bottom-up enumeration with observational equivalence, Albarghouthi et al. 2013 (Escher) and Udupa et al. 2013
(TRANSIT).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np

from arc_core.grid import most_common_color
from arc_core.randomness import generator_for
from arc_core.task import Task
from jepa_hrl.dsl.library import PRIMITIVES
from jepa_hrl.dsl.program import INPUT, Call, Expression, Literal, accepts, evaluate
from jepa_hrl.dsl.types import Array, Kind, Objects, Refusal, Value, key_of
from jepa_hrl.search.inference import PLANES, Inference, Proposal
from jepa_hrl.search.moves import Move
from jepa_hrl.search.node import Node
from jepa_hrl.search.operators import Operator, build_operators, operator_of, standard_operators
from jepa_hrl.search.policy_guided import Policy, policy_guided_search
from jepa_hrl.search.targets import Target, find_targets, similarity

# Values of kinds in one group are compared with each other: a mask may equal a grid.
_HASH_GROUPS = {Kind.GRID: 0, Kind.MASK: 0, Kind.FIELD: 1, Kind.COLOR: 2, Kind.INT: 3, Kind.OBJECT: 4, Kind.OBJECTS: 5}
_PAIRED_KINDS = (Kind.GRID, Kind.MASK, Kind.COLOR, Kind.INT)  # arguments of binary operators
_MIN_BINARY_BITS = 4.0
_MIN_EFFORT = 500  # programs that a search at least goes on for once it has a solution
_BEAM_START_SHARE = 0.4  # of the seconds; without a solution by then, a beam search takes its turn
_POLICY_START_SHARE = 0.25  # of the seconds or programs; where there is a policy, its search takes its turn then
_BEAM_WIDTH, _BEAM_DEPTH = 20, 30
_MAX_SCORED_PER_LEVEL, _MAX_SCORED_TARGETS = 4000, 12  # by the beam search: new values, and the cheapest targets
_MAX_STEP_BITS, _MAX_INNER_BITS = 9.0, 4.5  # in the beam search: of an operator on grids, and on objects between grids


Heuristic = Callable[[tuple[Array, ...]], float]


@dataclass(frozen=True)
class Limits:
    """The resources that a search may spend, and when it may end with a solution.

    Attributes:
        seconds: wall-clock time for a task; None for no limit.
        programs: number of programs tried.
        size: number of primitives in a program.
        arrays: number of arrays kept as values, which bounds the memory: about 200 bytes each.
        bits: description length beyond which programs are not searched.
        margin: bits beyond the shortest solution's length to which the search goes on for other answers.
        patience: once no shorter solution can come, the search ends when it has tried this many times as many programs.
    """

    seconds: float | None = 20.0
    programs: int = 10_000_000
    size: int = 16
    arrays: int = 6_000_000
    bits: float = float("inf")
    margin: float = 4.0
    patience: float = 2.0


@dataclass(frozen=True)
class Solution:
    """A program that reproduces every demonstration's output.

    Attributes:
        program: the program.
        cost: description length in bits, with a penalty for table entries that few demonstrations show.
        answers: its outputs for the tests.
        tested: number of programs that had been tested when it was found.
    """

    program: Expression
    cost: float
    answers: tuple[Array, ...]
    tested: int


@dataclass
class Outcome:
    """The solutions of a search and what it spent on them.

    Attributes:
        solutions: shortest first, one for each different answer.
        tested: number of programs evaluated on all inputs, those with inferred tables included.
        refused: number of programs that refuse some input.
        novel: number of values that no earlier program had.
        seconds: wall-clock time.
        ended: the reason of the end: "solved", "exhausted", "seconds", "programs" or "arrays".
    """

    solutions: list[Solution] = field(default_factory=list)
    tested: int = 0
    refused: int = 0
    novel: int = 0
    seconds: float = 0.0
    ended: str = "exhausted"


class Search:
    """The search for programs of one task.

    Args:
        task: its demonstrations and test inputs; test outputs are not read.
        limits: what the search may spend.
        costs: bits of primitives by name; their own costs where none are given.
        names: the primitives that may be used; all by default.
        heuristic: bits that are added to the priority of a value's expansion, from its grids for all inputs.
        policy: predicts the next steps from a value; it guides a second search that best-first search makes way for.
    """

    def __init__(
        self,
        task: Task,
        limits: Limits,
        costs: Mapping[str, float] | None = None,
        names: frozenset[str] | None = None,
        heuristic: Heuristic | None = None,
        policy: Policy | None = None,
    ) -> None:
        self._start_time = time.perf_counter()
        self._limits, self._num_demonstrations = limits, len(task.train)
        self._inputs = tuple(pair.input for pair in task.train + task.test)
        outputs = [pair.output for pair in task.train if pair.output is not None]
        present = {int(c) for grid in (*self._inputs, *outputs) for c in np.flatnonzero(np.bincount(grid.ravel()))}
        colors = tuple(sorted(present - {0}))
        self._operators = build_operators(colors, costs, names) if costs else standard_operators(colors, names)
        has_other_ground = any(most_common_color(grid) for grid in self._inputs)
        targets = find_targets(outputs, self._inputs, has_other_ground, limits.bits)
        self._targets = targets
        self._targets_by_value: dict[object, list[Target]] = {}
        for target in targets:
            self._targets_by_value.setdefault(tuple(map(key_of, target.grids)), []).append(target)
        rng = generator_for(0, f"search {task.content_hash}", 0)
        self._inferences = [Inference(target, rng) for target in targets if target.infers]
        self._nodes: list[Node] = []
        self._costs, self._policy = costs, policy
        self._first_match: int | None = None  # programs tried when a value first equalled a target
        self._heuristic = heuristic
        self._heuristic_bits: dict[int, float] = {}  # of the nodes for which the heuristic has been computed
        self._partners: list[int] = []  # nodes with which later ones are paired
        self._node_by_hash: dict[int, int] = {}  # of the values
        # Entries: bits, number of pushes, node, and the next unary operator or -1 - the next partner.
        self._heap: list[tuple[float, int, int, int]] = []
        self._pushes = 0
        self._arrays = 0
        self._solutions: dict[object, Solution] = {}  # by their answers
        self._shortest = float("inf")  # bits of the shortest solution, in the costs by which the search orders programs
        self._max_tried: float | None = None  # programs tried until patience ends, once no shorter solution can come
        self.outcome = Outcome()
        self._add(Node(INPUT, Kind.GRID, self._inputs, 0.0, 0))
        for color in colors:
            literal = Literal(color, Kind.COLOR)
            self._add(Node(literal, Kind.COLOR, (color,) * len(self._inputs), literal.cost, 0))
        if has_other_ground:
            on_black = operator_of("on_black")
            self._apply(on_black, (self._nodes[0],), on_black.cost)

    def run(self) -> Outcome:
        """Searches until there is a reason to stop, and returns the solutions."""
        outcome, limits, policy = self.outcome, self._limits, self._policy
        deadline = float("inf") if limits.seconds is None else self._start_time + limits.seconds
        share = _BEAM_START_SHARE if policy is None else _POLICY_START_SHARE
        turn_time = float("inf") if limits.seconds is None else self._start_time + share * limits.seconds
        turn_programs = float("inf") if policy is None else share * limits.programs
        while self._heap:
            if time.perf_counter() >= turn_time or self._programs_tried >= turn_programs:
                turn_time = turn_programs = float("inf")
                if policy is not None and self._first_match is None:
                    self._search_by_policy(policy, deadline)
                elif policy is None and not self._solutions:
                    self._search_by_beam(deadline)
            reason = self._reason_to_stop(deadline)
            if reason is not None:
                outcome.ended = reason
                break
            _, _, number, position = heappop(self._heap)
            if position >= 0:
                self._expand(number, position)
            else:
                self._pair(number, -1 - position)
        outcome.solutions = sorted(self._solutions.values(), key=lambda solution: solution.cost)
        outcome.seconds = time.perf_counter() - self._start_time
        return outcome

    def _reason_to_stop(self, deadline: float) -> str | None:
        """Decides whether the search is done; returns the reason, as in `Outcome.ended`, or None to go on."""
        if self._may_end_at(self._heap[0][0]):
            return "solved" if self._solutions else "exhausted"
        if self._programs_tried >= self._limits.programs:
            return "programs"
        if time.perf_counter() >= deadline:
            return "seconds"
        return "arrays" if self._arrays >= self._limits.arrays else None

    def _may_end_at(self, bits: float) -> bool:
        """Whether the search may end because every program that is left has at least `bits`.

        It may beyond the limit of bits. Beyond the shortest solution it starts to count patience, in programs tried,
        and may end once that is used up.
        """
        if bits > self._max_bits:
            return True
        if bits < self._shortest:
            return False
        if self._max_tried is None:
            self._max_tried = self._limits.patience * (self._programs_tried + _MIN_EFFORT)
        return self._programs_tried > self._max_tried

    @property
    def _max_bits(self) -> float:
        """Description length beyond which programs are of no use."""
        return min(self._limits.bits, self._shortest + self._limits.margin)

    @property
    def _programs_tried(self) -> int:
        """Number of programs tested or refused so far: the search's measure of effort."""
        return self.outcome.tested + self.outcome.refused

    def _search_by_policy(self, policy: Policy, deadline: float) -> None:
        """Expands values by the policy's probabilities until a limit is reached, or a while after a value is a target.

        The search goes on for as many further programs as it took to the match, times `patience - 1`.
        """
        start = self._programs_tried

        def apply(number: int, move: Move) -> int | None:
            bits = move.program.cost
            if self._costs:
                bits += sum(self._costs[name] - PRIMITIVES[name].cost for name in move.primitive_names)
            node = self._nodes[number]
            return self._apply(move, (node,), bits, combine=False) if node.cost + bits <= self._max_bits else None

        def should_stop() -> bool:
            match, tried, limits = self._first_match, self._programs_tried, self._limits
            if match is not None and tried > match + (limits.patience - 1) * (match - start) + _MIN_EFFORT:
                return True
            return tried >= limits.programs or self._arrays >= limits.arrays or time.perf_counter() >= deadline

        policy_guided_search(policy, 0, lambda number: self._nodes[number].values, apply, should_stop)  # type: ignore[arg-type, return-value]

    def _search_by_beam(self, deadline: float) -> None:
        """Beam search: expands the values most similar to the targets, level by level, until there is a solution.

        It finds long programs whose every step brings the value nearer to a target; in the order of description length
        they come too late.
        """
        scores: dict[int, float] = {}
        expanded: set[int] = set()
        targets, first_new, max_scored = self._targets[:_MAX_SCORED_TARGETS], 0, _MAX_SCORED_PER_LEVEL
        for _ in range(_BEAM_DEPTH):
            for number in range(first_new, len(self._nodes)):
                if time.perf_counter() >= deadline:
                    return
                if self._nodes[number].kind in (Kind.GRID, Kind.MASK) and len(scores) < max_scored:
                    scores[number] = max(similarity(self._nodes[number], target) for target in targets)
            first_new, max_scored = len(self._nodes), len(scores) + _MAX_SCORED_PER_LEVEL
            beam = sorted(scores, key=lambda number: -scores[number])[:_BEAM_WIDTH]
            for number in beam:
                if number not in expanded and not self._expand_to_grids(number, _MAX_STEP_BITS, deadline):
                    return
            expanded.update(beam)

    def _expand_to_grids(self, number: int, max_bits: float, deadline: float) -> bool:
        """Applies cheap operators to a node, and to resulting objects until they are grids.

        Args:
            number: the node.
            max_bits: dearer operators are left out.
            deadline: of the search, as `time.perf_counter` counts.
        Returns:
            False if the beam search must end: there is a solution, or a limit is reached.
        """
        node = self._nodes[number]
        for operator in self._operators.unary[node.kind]:
            if operator.cost > max_bits:
                break
            if self._solutions or time.perf_counter() >= deadline or self._arrays >= self._limits.arrays:
                return False
            count = len(self._nodes)
            self._apply(operator, (node,), operator.cost)
            for new in range(count, len(self._nodes)):
                between = self._nodes[new].kind in (Kind.OBJECT, Kind.OBJECTS)
                if between and not self._expand_to_grids(new, _MAX_INNER_BITS, deadline):
                    return False
        return True

    def _push(self, bits: float, node: int, position: int) -> None:
        self._pushes += 1
        heappush(self._heap, (bits, self._pushes, node, position))

    def _add(self, node: Node, combine: bool = True) -> None:
        """Keeps a new value: compares it with the targets and queues its expansion.

        Args:
            node: the value's node.
            combine: infer tables and overlays with earlier values too, which takes longer than all the rest.
        """
        self.outcome.novel += 1
        number = len(self._nodes)
        self._nodes.append(node)
        # An object holds two arrays; objects that several nodes share are counted for each node.
        self._arrays += sum(2 * len(v.items) if isinstance(v, Objects) else 1 for v in node.values)
        if node.kind in PLANES:
            self._match_targets(node, combine)
        if node.size < self._limits.size:
            if self._operators.unary[node.kind]:
                self._push(node.cost + self._operators.unary[node.kind][0].cost, number, 0)
            if node.kind in _PAIRED_KINDS:
                self._push(node.cost + _MIN_BINARY_BITS, number, -1)

    def _match_targets(self, node: Node, combine: bool) -> None:
        """Adds the solutions that a new value gives: it equals a target, or a table or an overlay makes one of it."""
        for target in self._targets_by_value.get(tuple(map(key_of, node.values[: self._num_demonstrations])), ()):
            program = Call("as_colors", (node.program,)) if node.kind is Kind.FIELD else node.program
            if self._add_solution(Proposal(program), target, node) and self._first_match is None:
                self._first_match = self._programs_tried
        for inference in self._inferences:
            max_bits = self._max_bits - inference.target.cost
            tried_before = inference.tables_tried
            for proposal in inference.propose(node, max_bits) if combine else inference.propose_alone(node):
                self._add_solution(proposal, inference.target, node)
            self.outcome.tested += inference.tables_tried - tried_before

    def _expand(self, number: int, position: int) -> None:
        """Applies a node's next unary operator and queues the one after it."""
        node = self._nodes[number]
        operators = self._operators.unary[node.kind]
        if self._heuristic is not None and node.kind is Kind.GRID and number not in self._heuristic_bits:
            # Only now, as most values are never expanded.
            self._heuristic_bits[number] = self._heuristic(node.values)  # type: ignore[arg-type]
            self._push(node.cost + operators[position].cost + self._heuristic_bits[number], number, position)
            return
        self._apply(operators[position], (node,), operators[position].cost)
        if position + 1 < len(operators):
            extra_bits = self._heuristic_bits.get(number, 0.0)
            self._push(node.cost + operators[position + 1].cost + extra_bits, number, position + 1)

    def _pair(self, number: int, position: int) -> None:
        """Applies all binary operators to a node and its next partner, in either order, and queues the next pair."""
        node = self._nodes[number]
        if position == 0:
            self._partners.append(number)
        partner = self._nodes[self._partners[position]]
        for one, other in ((node, partner), (partner, node))[: 1 if node is partner else 2]:
            for (first, second), operators in self._operators.binary.items():
                if accepts(first, one.kind) and accepts(second, other.kind):
                    if isinstance(other.program, Literal) and first is not Kind.INT:
                        continue  # a unary operator binds the literal already
                    for operator in operators:
                        self._apply(operator, (one, other), operator.cost)
        if partner is not node:
            following = self._nodes[self._partners[position + 1]]
            self._push(node.cost + following.cost + _MIN_BINARY_BITS, number, -2 - position)

    def _apply(
        self, operator: Operator | Move, nodes: tuple[Node, ...], bits: float, combine: bool = True
    ) -> int | None:
        """Evaluates an operator on all inputs and keeps the values if they are new.

        Args:
            operator: the operator or move.
            nodes: its arguments.
            bits: that it adds to the description length.
            combine: see `_add`.
        Returns:
            The node with the values; None if the program is too large or refuses an input.
        """
        size = operator.size + sum(node.size for node in nodes)
        if size > self._limits.size:
            return None
        apply = operator.apply
        values: list[Value] = []
        for arguments in zip(*[node.values for node in nodes], strict=True):
            value = apply(*arguments)
            if isinstance(value, Refusal):
                self.outcome.refused += 1
                return None
            values.append(value)
        self.outcome.tested += 1
        kind = operator.gives
        key = hash((_HASH_GROUPS[kind], *map(key_of, values)))
        existing = self._node_by_hash.get(key)
        if existing is not None:
            return existing
        number = self._node_by_hash[key] = len(self._nodes)
        bits += sum(node.cost for node in nodes)
        program = operator.expression(*[node.program for node in nodes])
        self._add(Node(program, kind, tuple(values), bits, size), combine)
        return number

    def _add_solution(self, proposal: Proposal, target: Target, node: Node) -> bool:
        """Adds a program that produces a target as a solution, if it answers all tests and is short enough.

        Args:
            proposal: the program up to the target.
            target: gives the last steps.
            node: the value from which the proposal was made.
        Returns:
            Whether the program was accepted; it replaces a longer one with the same answers.
        """
        program = target.finish(proposal.program)
        bits = program.cost + proposal.penalty
        ordering_bits = node.cost - node.program.cost + bits  # equals bits where primitives have their own costs
        if ordering_bits > self._max_bits:
            return False
        answers = [evaluate(program, grid) for grid in self._inputs[self._num_demonstrations :]]
        grids = tuple(answer for answer in answers if isinstance(answer, np.ndarray))
        if len(grids) < len(answers):
            return False
        key = tuple(key_of(grid) for grid in grids)
        if key not in self._solutions or self._solutions[key].cost > bits:
            self._solutions[key] = Solution(program, bits, grids, self.outcome.tested)
        self._shortest = min(self._shortest, ordering_bits)
        return True

"""Best-first search over programs by the values that they give on all of a task's inputs at once.

Programs are taken up in the order of their description length. Of programs with equal values on all demonstrations
and tests only the first is kept. Each new value is compared with the outputs, and with what must come before them
(`targets`); tables and overlays that would make the outputs of it are inferred (`inference`).
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
from jepa_hrl.search.policy_guided import Policy, follow
from jepa_hrl.search.targets import Target, likeness, targets_for

_GROUPS = {Kind.GRID: 0, Kind.MASK: 0, Kind.FIELD: 1, Kind.COLOR: 2, Kind.INT: 3, Kind.OBJECT: 4, Kind.OBJECTS: 5}
_PAIRED = (Kind.GRID, Kind.MASK, Kind.COLOR, Kind.INT)
_LEAST_BINARY_BITS = 4.0
_LEAST_EFFORT = 500
_BEST_FIRST_SHARE = 0.4  # of the seconds; without a solution by then, likeness to the outputs leads
_LED_FROM = 0.25  # of the seconds or programs; where there is a policy, it leads from then on
_WIDTH, _DEPTH = 20, 30  # of that second search
_MOST_LIKENED, _LIKENED_TARGETS = 4000, 12  # values a level, targets: turns and mirrors of the outputs and themselves
_MOST_STEP_BITS, _MOST_INNER_BITS = 9.0, 4.5  # of an operator on grids, and on what lies between grids


Heuristic = Callable[[tuple[Array, ...]], float]


@dataclass(frozen=True)
class Limits:
    """What a search may spend.

    Attributes:
        seconds: for a task; None for no limit.
        programs: tested.
        size: primitives in a program.
        arrays: kept as values, which bounds memory: about 200 bytes each.
        bits: description length at which the search ends.
        margin: bits beyond the shortest solution's length at which the search ends.
        patience: once no shorter solution can come, the search ends when it has taken so many times as long.
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
    """A program that gives every demonstration's output.

    Attributes:
        cost: description length in bits, with a penalty for what few demonstrations show.
        answers: to the tests.
        tested: programs that had been tested when it was found.
    """

    program: Expression
    cost: float
    answers: tuple[Array, ...]
    tested: int


@dataclass
class Outcome:
    """What a search found and spent.

    Attributes:
        solutions: shortest first, one for each answer.
        tested: programs evaluated on all inputs, those with inferred tables included.
        refused: programs that some input refuses.
        novel: values that no program had given before.
        ended: why: "solved", "exhausted", "seconds", "programs" or "arrays".
    """

    solutions: list[Solution] = field(default_factory=list)
    tested: int = 0
    refused: int = 0
    novel: int = 0
    seconds: float = 0.0
    ended: str = "exhausted"


class Search:
    """One task's search.

    Args:
        task: its test outputs are not looked at.
        limits: what it may spend.
        bits: cost of primitives by name; their own where not given.
        names: of the primitives that may be used; all by default.
        delay: bits that the expansion of a value, grids for all inputs, is put off by.
        policy: what leads the search where programs in order of length do not.
    """

    def __init__(
        self,
        task: Task,
        limits: Limits,
        bits: Mapping[str, float] | None = None,
        names: frozenset[str] | None = None,
        delay: Heuristic | None = None,
        policy: Policy | None = None,
    ) -> None:
        self._began = time.perf_counter()
        self._limits, self._shown = limits, len(task.train)
        self._inputs = tuple(pair.input for pair in task.train + task.test)
        outputs = [pair.output for pair in task.train if pair.output is not None]
        present = {int(c) for grid in (*self._inputs, *outputs) for c in np.flatnonzero(np.bincount(grid.ravel()))}
        colors = tuple(sorted(present - {0}))
        self._operators = build_operators(colors, bits, names) if bits else standard_operators(colors, names)
        off_ground = any(most_common_color(grid) for grid in self._inputs)
        targets = targets_for(outputs, self._inputs, off_ground, limits.bits)
        self._targets = targets
        self._by_value: dict[object, list[Target]] = {}
        for target in targets:
            self._by_value.setdefault(tuple(map(key_of, target.grids)), []).append(target)
        rng = generator_for(0, f"search {task.content_hash}", 0)
        self._inferences = [Inference(target, rng) for target in targets if target.near]
        self._nodes: list[Node] = []
        self._bits, self._policy = bits, policy
        self._met_after: int | None = None  # effort, once a value is what is wanted without a table or an overlay
        self._delay = delay
        self._delays: dict[int, float] = {}  # of nodes, once they are asked for
        self._settled: list[int] = []  # nodes that others are paired with
        self._seen: dict[int, int] = {}  # nodes by what their values hash to
        self._heap: list[tuple[float, int, int, int]] = []  # bits, number, node, next operator or -1 - next partner
        self._pushed = 0
        self._arrays = 0
        self._best: dict[object, Solution] = {}
        self._shortest = float("inf")  # solution, in the bits that the search orders programs by
        self._enough: float | None = None  # effort, once no shorter solution can come any more
        self.outcome = Outcome()
        self._add(Node(INPUT, Kind.GRID, self._inputs, 0.0, 0))
        for color in colors:
            literal = Literal(color, Kind.COLOR)
            self._add(Node(literal, Kind.COLOR, (color,) * len(self._inputs), literal.cost, 0))
        if off_ground:
            on_black = operator_of("on_black")
            self._apply(on_black, (self._nodes[0],), on_black.cost)

    def run(self) -> Outcome:
        """Searches until something ends it."""
        outcome, limits, policy = self.outcome, self._limits, self._policy
        deadline = float("inf") if limits.seconds is None else self._began + limits.seconds
        share = _BEST_FIRST_SHARE if policy is None else _LED_FROM
        turn = float("inf") if limits.seconds is None else self._began + share * limits.seconds
        enough = float("inf") if policy is None else share * limits.programs
        while self._heap:
            if time.perf_counter() >= turn or self._effort >= enough:
                turn = enough = float("inf")
                if policy is not None and self._met_after is None:
                    self._follow_policy(policy, deadline)
                elif policy is None and not self._best:
                    self._follow_likeness(deadline)
            if self._is_done(self._heap[0][0]):
                outcome.ended = "solved" if self._best else "exhausted"
                break
            if self._effort >= limits.programs:
                outcome.ended = "programs"
                break
            if time.perf_counter() >= deadline:
                outcome.ended = "seconds"
                break
            if self._arrays >= limits.arrays:
                outcome.ended = "arrays"
                break
            _, _, number, place = heappop(self._heap)
            if place >= 0:
                self._expand(number, place)
            else:
                self._pair(number, -1 - place)
        outcome.solutions = sorted(self._best.values(), key=lambda solution: solution.cost)
        outcome.seconds = time.perf_counter() - self._began
        return outcome

    @property
    def _most_bits(self) -> float:
        """Programs longer than this are of no use."""
        return min(self._limits.bits, self._shortest + self._limits.margin)

    def _is_done(self, bits: float) -> bool:
        """Whether nothing worth the time can come from programs of this length on."""
        if bits > self._most_bits:
            return True
        if bits < self._shortest:
            return False
        if self._enough is None:
            self._enough = self._limits.patience * (self._effort + _LEAST_EFFORT)
        return self._effort > self._enough

    @property
    def _effort(self) -> int:
        """Programs tried."""
        return self.outcome.tested + self.outcome.refused

    def _follow_policy(self, policy: Policy, deadline: float) -> None:
        """Takes up values by the probability of the steps to them, until one is what is wanted and its time again."""
        began = self._effort

        def apply(number: int, move: Move) -> int | None:
            bits = move.program.cost
            if self._bits:
                bits += sum(self._bits[name] - PRIMITIVES[name].cost for name in move.names)
            node = self._nodes[number]
            return self._apply(move, (node,), bits, alone=True) if node.cost + bits <= self._most_bits else None

        def has_ended() -> bool:
            met = self._met_after
            if met is not None and self._effort > met + (self._limits.patience - 1) * (met - began) + _LEAST_EFFORT:
                return True
            spent = self._effort >= self._limits.programs or self._arrays >= self._limits.arrays
            return spent or time.perf_counter() >= deadline

        follow(policy, 0, lambda number: self._nodes[number].values, apply, has_ended)  # type: ignore[arg-type, return-value]

    def _follow_likeness(self, deadline: float) -> None:
        """Beam search: expands the values most like the outputs, level by level, until one gives them.

        Long programs whose every step brings the value nearer are found so; in order of length they come too late.
        """
        scores: dict[int, float] = {}
        expanded: set[int] = set()
        targets, looked_at, most = self._targets[:_LIKENED_TARGETS], 0, _MOST_LIKENED
        for _ in range(_DEPTH):
            for number in range(looked_at, len(self._nodes)):
                if time.perf_counter() >= deadline:
                    return
                if self._nodes[number].kind in (Kind.GRID, Kind.MASK) and len(scores) < most:
                    scores[number] = max(likeness(self._nodes[number], target) for target in targets)
            looked_at, most = len(self._nodes), len(scores) + _MOST_LIKENED
            front = sorted(scores, key=lambda number: -scores[number])[:_WIDTH]
            for number in front:
                if number not in expanded and not self._expand_through(number, _MOST_STEP_BITS, deadline):
                    return
            expanded.update(front)

    def _expand_through(self, number: int, most_bits: float, deadline: float) -> bool:
        """Applies cheap operators to a node, and to what is no grid on until grids; False once it is time to end."""
        node = self._nodes[number]
        for operator in self._operators.unary[node.kind]:
            if operator.cost > most_bits:
                break
            if self._best or time.perf_counter() >= deadline or self._arrays >= self._limits.arrays:
                return False
            count = len(self._nodes)
            self._apply(operator, (node,), operator.cost)
            for new in range(count, len(self._nodes)):
                between = self._nodes[new].kind in (Kind.OBJECT, Kind.OBJECTS)
                if between and not self._expand_through(new, _MOST_INNER_BITS, deadline):
                    return False
        return True

    def _push(self, bits: float, node: int, place: int) -> None:
        self._pushed += 1
        heappush(self._heap, (bits, self._pushed, node, place))

    def _add(self, node: Node, alone: bool = False) -> None:
        """Keeps a new value: compares it with what is wanted and puts its expansion off until its turn.

        Args:
            alone: do not look for others that explain the outputs with it, which takes longer than all else.
        """
        self.outcome.novel += 1
        number = len(self._nodes)
        self._nodes.append(node)
        # An object holds two arrays; objects that several nodes share are counted in each.
        self._arrays += sum(2 * len(v.items) if isinstance(v, Objects) else 1 for v in node.values)
        if node.kind in PLANES:
            for target in self._by_value.get(tuple(map(key_of, node.values[: self._shown])), ()):
                program = Call("as_colors", (node.program,)) if node.kind is Kind.FIELD else node.program
                if self._offer(Proposal(program), target, node) and self._met_after is None:
                    self._met_after = self._effort
            for inference in self._inferences:
                most = self._most_bits - inference.target.cost
                before = inference.tables
                for proposal in inference.alone(node) if alone else inference.proposals(node, most):
                    self._offer(proposal, inference.target, node)
                self.outcome.tested += inference.tables - before
        if node.size < self._limits.size:
            if self._operators.unary[node.kind]:
                self._push(node.cost + self._operators.unary[node.kind][0].cost, number, 0)
            if node.kind in _PAIRED:
                self._push(node.cost + _LEAST_BINARY_BITS, number, -1)

    def _expand(self, number: int, place: int) -> None:
        """Applies a node's next unary operator."""
        node = self._nodes[number]
        operators = self._operators.unary[node.kind]
        if self._delay is not None and node.kind is Kind.GRID and number not in self._delays:
            # Only now, as most values are never expanded.
            self._delays[number] = self._delay(node.values)  # type: ignore[arg-type]
            self._push(node.cost + operators[place].cost + self._delays[number], number, place)
            return
        self._apply(operators[place], (node,), operators[place].cost)
        if place + 1 < len(operators):
            later = self._delays.get(number, 0.0)
            self._push(node.cost + operators[place + 1].cost + later, number, place + 1)

    def _pair(self, number: int, place: int) -> None:
        """Applies binary operators to a node and the next of those settled before it, in either order."""
        node = self._nodes[number]
        if place == 0:
            self._settled.append(number)
        partner = self._nodes[self._settled[place]]
        for one, other in ((node, partner), (partner, node))[: 1 if node is partner else 2]:
            for (first, second), operators in self._operators.binary.items():
                if accepts(first, one.kind) and accepts(second, other.kind):
                    if isinstance(other.program, Literal) and first is not Kind.INT:
                        continue  # unary operators hold the literal already
                    for operator in operators:
                        self._apply(operator, (one, other), operator.cost)
        if partner is not node:
            following = self._nodes[self._settled[place + 1]]
            self._push(node.cost + following.cost + _LEAST_BINARY_BITS, number, -2 - place)

    def _apply(
        self, operator: Operator | Move, nodes: tuple[Node, ...], bits: float, alone: bool = False
    ) -> int | None:
        """Evaluates an operator, which adds some bits, on all inputs; gives the number of the node with the values."""
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
        key = hash((_GROUPS[kind], *map(key_of, values)))
        known = self._seen.get(key)
        if known is not None:
            return known
        number = self._seen[key] = len(self._nodes)
        bits += sum(node.cost for node in nodes)
        program = operator.expression(*[node.program for node in nodes])
        self._add(Node(program, kind, tuple(values), bits, size), alone)
        return number

    def _offer(self, proposal: Proposal, target: Target, node: Node) -> bool:
        """Takes a program that gives a target, if it also answers the tests; gives whether it did."""
        program = target.finish(proposal.program)
        bits = program.cost + proposal.penalty
        in_order = node.cost - node.program.cost + bits  # the same where primitives have their own costs
        if in_order > self._most_bits:
            return False
        answers = [evaluate(program, grid) for grid in self._inputs[self._shown :]]
        grids = tuple(answer for answer in answers if isinstance(answer, np.ndarray))
        if len(grids) < len(answers):
            return False
        key = tuple(key_of(grid) for grid in grids)
        if key not in self._best or self._best[key].cost > bits:
            self._best[key] = Solution(program, bits, grids, self.outcome.tested)
        self._shortest = min(self._shortest, in_order)
        return True

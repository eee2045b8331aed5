"""Training loop of HRM, TRM and the transformer. B global batch."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from arc_core.checkpoint import Checkpoint, save_checkpoint
from arc_core.config import config_to_dict
from arc_core.distributed import all_gather_blocks
from arc_core.errors import RunFailure
from arc_core.loop import ExponentialAverage, TrainingResult, check_finite, require_even_share, should_stop
from arc_core.progress import Progress
from arc_core.randomness import generator_for, seed_for
from arc_core.runs import TIMING_PREFIX, MetricLog, RunFolder
from arc_core.signals import StopSignals
from hrm.carry_stream import Carry, Stream
from hrm.config import METHOD, HrmConfig
from hrm.data.training_data import TrainingData
from hrm.losses import segment_losses
from hrm.metrics import Scored, model_metrics, sample
from hrm.model.halting import Draws, go_on_target, halts, restarted
from hrm.model.model_with_embeddings import build_networks
from hrm.model.puzzle_embedding import sign_sgd
from hrm.model.reasoner import Reasoner, State
from hrm.optimizers import make_optimizers, rate_factor


class Trainer:
    """Everything that one run holds on to; a checkpoint has all that changes."""

    def __init__(self, config: HrmConfig, data: TrainingData, run: RunFolder, fabric: Fabric) -> None:
        """Builds networks, optimisers and streams on the fabric's device.

        Raises:
            InputError: the processes cannot share a batch evenly.
        """
        training = config.training
        require_even_share(training.batch_size, fabric)
        self.config, self.data, self.run, self.fabric = config, data, run, fabric
        self.networks = build_networks(config, data.identities.rows)
        self.model = self.networks.model.to(fabric.device)
        if self.networks.embedding is not None:
            self.networks.embedding.to(fabric.device)
        self.average = ExponentialAverage(self.model, training.ema_decay) if training.ema_decay is not None else None
        compiled = cast(Reasoner, torch.compile(self.model)) if config.device.compile else self.model
        self.forward, *optimizers = fabric.setup(compiled, *make_optimizers(self.model, training))
        self.optimizers: list[torch.optim.Optimizer] = list(optimizers)
        self.maxima = [[float(group["lr"]) for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.full = config.data.canvas == "full"
        self.stream = Stream(data.train, training.batch_size, training.seed, self.full)
        self.carries: dict[int, Carry] = {}
        most = config.validation.max_puzzles
        self.validation = Scored.of(data, sample(data.held_out, most)) if len(data.held_out) else None
        self.training_data: tuple[str, ...] = (data.spec,)
        self.transductive_ids = data.transductive_ids
        self.step, self.best, self.stale = 0, cast("tuple[float, ...] | None", None), 0

    @property
    def total_steps(self) -> int:
        """Of the whole run."""
        return self.config.training.max_steps

    def state(self) -> Checkpoint:
        """All that a resumed run needs."""
        carries = {str(side): self._whole(carry) for side, carry in self.carries.items()}
        identities = self.data.identities
        return Checkpoint(
            method=METHOD,
            step=self.step,
            model=self.networks.state_dict(),
            optimizer={str(index): optimizer.state_dict() for index, optimizer in enumerate(self.optimizers)},
            scheduler={},
            ema=self.average.state_dict() if self.average else {},
            extras={
                "carries": carries,
                "stale": self.stale,
                "task_ids": list(identities.task_ids),
                "groups": torch.from_numpy(identities.groups),
                "elements": torch.from_numpy(identities.elements),
                "colors": torch.from_numpy(identities.colors),
                "transductive_ids": list(self.transductive_ids),
                "precision": self.fabric.strategy.precision.state_dict(),
            },
            config=config_to_dict(self.config),
            data_fingerprint=self.data.fingerprint,
            training_data=self.training_data,
            best_metric=self.best,
        )

    def load(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint of the same config and data."""
        self.networks.load(checkpoint.model, f"the checkpoint of step {checkpoint.step}")
        for index, optimizer in enumerate(self.optimizers):
            optimizer.load_state_dict(cast(dict[str, object], checkpoint.optimizer[str(index)]))
        if self.average:
            self.average.load_state_dict(checkpoint.ema)
        extras = cast(dict[str, dict[str, dict[str, Tensor]]], checkpoint.extras)
        self.carries = {int(side): self._share(carry) for side, carry in extras["carries"].items()}
        self.fabric.strategy.precision.load_state_dict(extras["precision"])
        self.stale = cast(int, checkpoint.extras["stale"])
        self.transductive_ids = tuple(cast(list[str], checkpoint.extras["transductive_ids"]))
        self.step, self.best, self.training_data = checkpoint.step, checkpoint.best_metric, checkpoint.training_data

    def init_from(self, checkpoint: Checkpoint) -> None:
        """Takes over another run's weights, averaged where it has them, and the embeddings of the same tasks."""
        same = checkpoint.data_fingerprint == self.data.fingerprint
        weights = dict(checkpoint.model) | dict(checkpoint.ema)
        self.networks.load(weights, f"the checkpoint of step {checkpoint.step}", with_embedding=same)
        self.training_data = tuple(dict.fromkeys((*checkpoint.training_data, *self.training_data)))
        earlier = cast(list[str], checkpoint.extras["transductive_ids"])
        self.transductive_ids = tuple(dict.fromkeys((*earlier, *self.transductive_ids)))
        if self.average:
            self.average.load_state_dict(dict(self.model.named_parameters()))

    def _whole(self, carry: Carry) -> dict[str, object]:
        """A carry's rows of all processes, in the order of the global batch."""
        assert carry.state is not None
        high, low, steps = (all_gather_blocks(part, 1)[0] for part in (*carry.state, carry.steps))
        return {
            "high": high, "low": low, "steps": steps, "halted": torch.from_numpy(carry.halted),
            "examples": torch.from_numpy(carry.examples), "origins": torch.from_numpy(carry.origins),
            "taken": carry.taken,
        }  # fmt: skip

    def _share(self, whole: Mapping[str, Tensor]) -> Carry:
        """This process's rows of a saved carry."""
        rank, world = self.fabric.global_rank, self.fabric.world_size
        high, low, steps = (whole[name][rank::world].to(self.fabric.device) for name in ("high", "low", "steps"))
        halted, examples, origins = (whole[name].numpy() for name in ("halted", "examples", "origins"))
        return Carry(State(high, low), steps, halted, examples, origins, cast(int, whole["taken"]))

    def train(self, progress: Progress) -> TrainingResult:
        """Trains to the end, a signal, or a standstill; validates, logs and saves on the way."""
        training, cadence = self.config.training, self.config.validation
        main = self.fabric.is_global_zero
        with MetricLog(self.run, self.step) if main else nullcontext() as log, StopSignals() as signals:
            clock, clocked = time.perf_counter(), self.step
            while self.step < training.max_steps:
                metrics = self.training_step()
                finished = self.step == training.max_steps
                validate = self.step % cadence.eval_frequency == 0 or finished
                if self.step % cadence.log_every_steps == 0 or validate:
                    now = time.perf_counter()
                    parts = training.gradient_accumulation_steps
                    rate = (self.step - clocked) * training.batch_size * parts / (now - clock)
                    clock, clocked = now, self.step
                    values = self._means(metrics) | {f"{TIMING_PREFIX}samples_per_second": rate}
                    memory = ""
                    if self.fabric.device.type == "cuda":
                        peak = torch.cuda.max_memory_allocated() / 2**30
                        values[f"{TIMING_PREFIX}peak_memory_gib"], memory = peak, f"  {peak:.1f} GiB"
                    if log is not None:
                        log.log(self.step, values)
                    progress.update(
                        self.step,
                        f"loss {values['train/loss']:.4f}  token acc {values['train/token_accuracy']:.3f}  "
                        f"exact {values['train/exact_accuracy']:.3f}  lr {values['train/lr']:.1e}  "
                        f"segments {values['train/halt_steps']:.1f}  {rate:.0f} samples/s{memory}",
                    )
                else:
                    progress.update(self.step)
                if validate:
                    self._validate(log, progress)
                    clock, clocked = time.perf_counter(), self.step
                stop = should_stop(self.fabric, signals)
                every = cadence.checkpoint_frequency
                if (stop or (every and self.step % every == 0)) and not validate:
                    self._save(is_best=False)
                if stop:
                    return TrainingResult(
                        self.step, signals.exit_status, "stopped by a signal; the step was finished and saved"
                    )
                if training.early_stopping and self.stale >= training.early_stopping:
                    progress.say(f"no better validation in the last {self.stale}; stopping early")
                    break
        return TrainingResult(self.step, 0)

    def training_step(self) -> dict[str, Tensor]:
        """One optimiser step; metrics of its last forward pass.

        Raises:
            RunFailure: the loss is not finite.
        """
        training, fabric = self.config.training, self.fabric
        factor = rate_factor(training, self.step)
        for optimizer, maxima in zip(self.optimizers, self.maxima, strict=True):
            for group, maximum in zip(optimizer.param_groups, maxima, strict=True):
                group["lr"] = maximum * factor
        parts = training.gradient_accumulation_steps
        touched: list[tuple[Tensor, Tensor]] = []
        for part in range(parts):
            with fabric.no_backward_sync(self.forward, enabled=part < parts - 1):
                metrics, rows = self._segment(self.step * parts + part)
            if rows is not None:
                touched.append(rows)
        metrics["lr"] = torch.tensor(training.learning_rate * factor)
        metrics["grad_norm"] = self._clip()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if touched and self.networks.embedding is not None:
            identities = all_gather_blocks(torch.cat([ids for ids, _ in touched]), 1)[0]
            gradients = all_gather_blocks(torch.cat([grads for _, grads in touched]), 1)[0].nan_to_num()
            rate = training.puzzle_emb_lr * factor
            sign_sgd(self.networks.embedding.weights, identities, gradients, rate, training.puzzle_emb_weight_decay)
        if self.average:
            self.average.update(self.step)
        self.step += 1
        return metrics

    def _clip(self) -> Tensor:
        """The gradient norm before clipping; clips if the config asks for it."""
        limit = self.config.training.gradient_clip
        if limit and len(self.optimizers) == 1:
            norm = self.fabric.clip_gradients(
                self.forward, self.optimizers[0], max_norm=limit, error_if_nonfinite=False
            )
            assert norm is not None
            return norm
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        if limit:
            return torch.nn.utils.clip_grad_norm_(parameters, limit)
        return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])

    def _segment(self, micro_step: int) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor] | None]:
        """Forward and backward of one segment of one canvas's sequences; refills those that halted before."""
        config, fabric, seed = self.config.model, self.fabric, self.config.training.seed
        batch_size, parts = self.config.training.batch_size, self.config.training.gradient_accumulation_steps
        mine = slice(fabric.global_rank, None, fabric.world_size)
        side = self.stream.side_of(micro_step)
        if side not in self.carries:
            self.carries[side] = self.stream.new_carry(batch_size // fabric.world_size, fabric.device)
        carry = self.carries[side]
        fresh = torch.from_numpy(carry.halted[mine].copy()).to(fabric.device)
        self.stream.refill(carry, side, micro_step)
        origin = torch.from_numpy(carry.origins[mine].copy()).to(fabric.device)
        shift = origin if self.config.data.translation else None
        batch = self.data.source.batch(carry.examples[mine], side, self.model.prefix, shift)
        before = carry.state or self.model.start(*batch.tokens.shape)
        steps = torch.where(fresh, 0, carry.steps) + 1
        embedding = self.networks.embedding
        puzzles = None if embedding is None else embedding.rows(batch.identities)
        if config.dropout:
            torch.manual_seed(seed_for(seed, f"dropout of rank {fabric.global_rank}", micro_step))
        forward = cast(Reasoner, self.forward)
        state, answer = forward(restarted(self.model, before, fresh), batch.tokens, puzzles, batch.positions)
        target = go_on_target(forward, state, batch, puzzles, steps)
        losses = segment_losses(answer, batch.labels, target, self.config.training.loss_type)
        mean = losses.total / len(steps)
        check_finite(mean.item(), self.step + 1, float(self.optimizers[0].param_groups[0]["lr"]))
        fabric.backward(mean / parts)
        rng = generator_for(seed, "halting", micro_step)
        explores, least = (
            rng.random(batch_size),
            rng.integers(2, max(2, config.halt_max_steps), batch_size, endpoint=True),
        )
        draws = Draws(*(torch.from_numpy(drawn[mine].copy()).to(fabric.device) for drawn in (explores, least)))
        halted = halts(config, answer, steps, draws)
        carry.state, carry.steps = state, steps
        carry.halted = all_gather_blocks(halted, 1)[0].cpu().numpy()
        count = len(steps)
        metrics = {
            "loss": mean.detach(),
            "lm_loss": losses.answer.detach() / count,
            "q_halt_loss": losses.halt.detach() / count,
            "q_continue_loss": losses.go_on.detach() / count,
            "token_accuracy": losses.right_cells.mean(),
            "exact_accuracy": losses.exact.float().mean(),
            "q_halt_accuracy": ((answer.halt > 0) == losses.exact).float().mean(),
            "halt_steps": steps.float().mean(),
        }
        if puzzles is None or puzzles.grad is None:
            return metrics, None
        return metrics, (batch.identities, puzzles.grad)

    def _means(self, metrics: Mapping[str, Tensor]) -> dict[str, float]:
        stacked = torch.stack([value.detach().double().to(self.fabric.device) for value in metrics.values()])
        means = cast(Tensor, self.fabric.all_reduce(stacked))
        return {f"train/{name}": value for name, value in zip(metrics, means.tolist(), strict=True)}

    def score(self, scored: Scored) -> dict[str, float]:
        """Metrics of the model as it would be used: averaged weights if there are any, no gradients."""
        self.model.eval()
        try:
            with self.fabric.autocast(), self.average.average_parameters() if self.average else nullcontext():
                return model_metrics(self.model, self.networks.embedding, self.data, scored, self.full)
        finally:
            self.model.train()

    def _validate(self, log: MetricLog | None, progress: Progress) -> None:
        is_best = False
        if self.validation is not None:
            found = self.score(self.validation)
            if log is not None:
                log.log(self.step, {f"val/{name}": value for name, value in found.items()})
            rank = (found["exact_accuracy"], found["token_accuracy"])
            is_best = self.best is None or rank > self.best
            self.stale = 0 if is_best else self.stale + 1
            self.best = rank if is_best else self.best
            shown = "  ".join(f"{name.removesuffix('_accuracy')} {value:.3f}" for name, value in found.items())
            progress.say(f"step {self.step}  held-out views: {shown}{'  (best so far)' if is_best else ''}")
        self._save(is_best)

    def _save(self, is_best: bool) -> None:
        state = self.state()  # gathers the carries, so every process takes part
        if self.fabric.is_global_zero:
            save_checkpoint(self.run.checkpoints, state, is_best, self.config.validation.keep_last)
        self.fabric.barrier()


def out_of_memory_advice(config: HrmConfig) -> RunFailure:
    """What to do when a batch does not fit. Source: the infrastructure guide's list."""
    training = config.training
    return RunFailure(
        f"the device ran out of memory; halve training.batch_size (it is {training.batch_size}) and double "
        f"training.gradient_accumulation_steps (it is {training.gradient_accumulation_steps}), set "
        f"model.gradient_checkpointing to true, or reduce model.hidden_size or the layers; --find-batch-size shows "
        f"what fits"
    )

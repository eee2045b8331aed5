"""`import-hrm-checkpoint`: published HRM and TRM weights to our checkpoints, and back."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from arc_core.checkpoint import Checkpoint
from arc_core.config import build_config, config_to_dict
from arc_core.errors import InputError
from arc_core.yaml_text import parse_yaml
from hrm.config import METHOD, HrmConfig, ModelConfig, TrainingConfig
from hrm.losses import LossType
from hrm.model.layers import swiglu_inner
from hrm.model.model_with_embeddings import build_networks

PREFIX = "model.inner."
_COMPILED = "_orig_mod."
_RENAMED = {"embed_tokens.embedding_weight": "embed_tokens", "embed_pos.embedding_weight": "embed_pos"}
_EMBEDDING = "puzzle_emb.weights"

# Keys of a reference config's `arch` that our model has under the same name.
_SHARED = (
    "H_cycles", "L_cycles", "expansion", "pos_encodings", "halt_max_steps", "halt_exploration_prob", "rms_norm_eps",
    "rope_theta", "seq_len", "num_heads", "no_ACT_continue", "puzzle_emb_len",
)  # fmt: skip


def plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state_dict under our names, with or without the prefixes of compiled models and of the trainer."""
    found = {}
    for name, value in state.items():
        bare = name.replace(_COMPILED, "").removeprefix("model.").removeprefix("inner.")
        found[_RENAMED.get(bare, bare)] = value
    return found


def reference_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `plain_names`, as the published trainer saves it."""
    back = {ours: theirs for theirs, ours in _RENAMED.items()}
    return {PREFIX + back.get(name, name): value for name, value in state.items()}


def infer_config(state: Mapping[str, Tensor], arch: Mapping[str, object]) -> ModelConfig:
    """The model that these weights are of.

    Args:
        state: under our names.
        arch: the `arch` section of the published config; what shapes cannot tell is taken from it, else the default.
    Raises:
        InputError: weights are missing, do not fit each other or the config, or are of a kind that is not supported.
    """
    for name in ("embed_tokens", "lm_head.weight", "q_head.weight", "H_init", "L_init"):
        if name not in state:
            raise InputError(f"{name} is missing; this is no state_dict of HRM or TRM")
    if bool(arch.get("mlp_t")):
        raise InputError("mlp_t: true mixes cells by a feed-forward layer, which is not supported; use attention")
    vocabulary, hidden = state["embed_tokens"].shape
    layers = {level: _count_layers(state, level) for level in ("H_level", "L_level")}
    is_hrm = layers["H_level"] > 0
    chosen = {key: arch[key] for key in _SHARED if arch.get(key) is not None}
    if "num_heads" not in chosen:
        raise InputError("shapes do not tell num_heads; give --reference-config or --num-heads")
    rows = state.get(_EMBEDDING)
    section: dict[str, object] = {
        "architecture": "hrm" if is_hrm else "trm",
        "hidden_size": hidden,
        "vocab_size": vocabulary,
        "H_layers": layers["H_level"] if is_hrm else ModelConfig.H_layers,
        "L_layers": layers["L_level"],
        "puzzle_emb_ndim": 0 if rows is None else rows.shape[1],
        "puzzle_emb_len": 0 if is_hrm or rows is None else 16,
        "no_ACT_continue": not is_hrm,
        "pos_encodings": "learned" if "embed_pos" in state else "rope",
    }
    built, _ = build_config(HrmConfig, {"model": section | chosen}, "the reference config")
    config = built.model
    gate_up = state["L_level.layers.0.mlp.gate_up_proj.weight"].shape[0]
    if 2 * swiglu_inner(hidden, config.expansion) != gate_up:
        raise InputError(f"expansion {config.expansion} does not give the {gate_up} rows of gate_up_proj; check it")
    if "embed_pos" in state and len(state["embed_pos"]) != config.prefix_tokens + config.seq_len:
        raise InputError(
            f"embed_pos has {len(state['embed_pos'])} rows; prefix and seq_len make "
            f"{config.prefix_tokens + config.seq_len}, check them"
        )
    return config


def _count_layers(state: Mapping[str, Tensor], level: str) -> int:
    numbers = {int(name.split(".")[2]) for name in state if name.startswith(f"{level}.layers.")}
    return max(numbers) + 1 if numbers else 0


def read_reference(path: Path) -> dict[str, Tensor]:
    """A published state_dict, read as data only.

    Raises:
        InputError: it cannot be read, or has something else than tensors.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's guesses at what a file that is none might be
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file makes torch raise is nowhere written
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{path} cannot be read as a state_dict that torch.save wrote: {reason:.120}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path} must hold a state_dict, tensors by name")
    return state


def read_arch(path: Path | None) -> Mapping[str, object]:
    """The `arch` section of a published all_config.yaml; empty without one."""
    if path is None:
        return {}
    try:
        whole = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    section = whole.get("arch", whole) if isinstance(whole, dict) else None
    if not isinstance(section, dict):
        raise InputError(f"{path} must be a mapping with a section arch")
    return section


def to_checkpoint(state: Mapping[str, Tensor], arch: Mapping[str, object]) -> Checkpoint:
    """Our checkpoint of step 0 with these weights.

    Args:
        state: as published.
        arch: see `infer_config`.
    Raises:
        InputError: weights are left over or missing.
    """
    weights = plain_names(state)
    model = infer_config(weights, arch)
    loss = arch.get("loss")
    kind = loss.get("loss_type") if isinstance(loss, dict) else None
    loss_type: LossType = "softmax_cross_entropy" if kind == "softmax_cross_entropy" else "stablemax_cross_entropy"
    config = HrmConfig(model, TrainingConfig(loss_type=loss_type))
    rows = weights.get(_EMBEDDING)
    networks = build_networks(config, 1 if rows is None else len(rows))
    expected = networks.state_dict()
    left, missing = sorted(weights.keys() - expected.keys()), sorted(expected.keys() - weights.keys())
    if left or missing:
        raise InputError(
            f"every weight must have its place; left over: {', '.join(left) or 'none'}; missing: "
            f"{', '.join(missing) or 'none'}"
        )
    weights = {name: value.to(expected[name].dtype) for name, value in weights.items()}
    networks.load(weights, "the state_dict")
    # Its training data is not ours to know; the published runs learnt both sets, evaluation demonstrations included.
    return Checkpoint(
        METHOD, 0, networks.state_dict(), {}, {}, config_to_dict(config), "imported", ("arc1:train", "arc1:eval"),
        extras={
            "task_ids": [], "transductive_ids": [], "groups": torch.zeros(1, dtype=torch.int64),
            "elements": torch.zeros(0, dtype=torch.int64), "colors": torch.zeros(0, 10, dtype=torch.uint8),
        },
    )  # fmt: skip


def reference_arch(checkpoint: Checkpoint) -> dict[str, object]:
    """The `arch` section that the published code would need for these weights."""
    config, _ = build_config(HrmConfig, checkpoint.config, "the checkpoint")
    model = config.model
    keys = (*_SHARED, "hidden_size", "H_layers", "L_layers", "puzzle_emb_ndim", "vocab_size")
    section = {key: getattr(model, key) for key in keys} | {"name": model.architecture}
    rows = checkpoint.model.get(_EMBEDDING)
    return section | {"num_puzzle_identifiers": 0 if rows is None else len(rows)}

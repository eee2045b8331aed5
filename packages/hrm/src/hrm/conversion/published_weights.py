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
from hrm.model.model_with_embeddings import build_model

PREFIX = "model.inner."
_COMPILED = "_orig_mod."
_PUBLISHED_TO_OURS = {"embed_tokens.embedding_weight": "embed_tokens", "embed_pos.embedding_weight": "embed_pos"}
_EMBEDDING = "puzzle_emb.weights"

# Keys of a reference config's `arch` that our model has under the same name.
_SHARED = (
    "H_cycles", "L_cycles", "expansion", "pos_encodings", "halt_max_steps", "halt_exploration_prob", "rms_norm_eps",
    "rope_theta", "seq_len", "num_heads", "no_ACT_continue", "puzzle_emb_len",
)  # fmt: skip


def rename_to_ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames a published state_dict to our names, with or without prefixes of the compiler or the trainer."""
    renamed = {}
    for name, value in state.items():
        bare = name.replace(_COMPILED, "").removeprefix("model.").removeprefix("inner.")
        renamed[_PUBLISHED_TO_OURS.get(bare, bare)] = value
    return renamed


def rename_to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames a state_dict of ours to the names that the published trainer saves; the inverse of `rename_to_ours`."""
    ours_to_published = {ours: published for published, ours in _PUBLISHED_TO_OURS.items()}
    return {PREFIX + ours_to_published.get(name, name): value for name, value in state.items()}


def infer_config(state: Mapping[str, Tensor], arch: Mapping[str, object]) -> ModelConfig:
    """Infers the config of the model that these weights are of.

    Args:
        state: weights under our names.
        arch: the `arch` section of the published config; gives what shapes cannot tell, and defaults give the rest.
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
    shared = {key: arch[key] for key in _SHARED if arch.get(key) is not None}
    if "num_heads" not in shared:
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
    built, _ = build_config(HrmConfig, {"model": section | shared}, "the reference config")
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
    indices = {int(name.split(".")[2]) for name in state if name.startswith(f"{level}.layers.")}
    return max(indices) + 1 if indices else 0


def read_reference(path: Path) -> dict[str, Tensor]:
    """Reads a published state_dict as data only, so that no code in it runs.

    Raises:
        InputError: it cannot be read, or holds something else than tensors.
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
    """Reads the `arch` section of a published all_config.yaml; without a path it is empty."""
    if path is None:
        return {}
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    section = content.get("arch", content) if isinstance(content, dict) else None
    if not isinstance(section, dict):
        raise InputError(f"{path} must be a mapping with a section arch")
    return section


def to_checkpoint(state: Mapping[str, Tensor], arch: Mapping[str, object]) -> Checkpoint:
    """Makes a checkpoint of ours, at step 0, with published weights.

    Args:
        state: weights under the published names.
        arch: see `infer_config`.
    Raises:
        InputError: weights are left over or missing.
    """
    weights = rename_to_ours(state)
    model = infer_config(weights, arch)
    loss = arch.get("loss")
    kind = loss.get("loss_type") if isinstance(loss, dict) else None
    loss_type: LossType = "softmax_cross_entropy" if kind == "softmax_cross_entropy" else "stablemax_cross_entropy"
    config = HrmConfig(model, TrainingConfig(loss_type=loss_type))
    rows = weights.get(_EMBEDDING)
    network = build_model(config, 1 if rows is None else len(rows))
    expected = network.state_dict()
    left_over, missing = sorted(weights.keys() - expected.keys()), sorted(expected.keys() - weights.keys())
    if left_over or missing:
        raise InputError(
            f"every weight must have its place; left over: {', '.join(left_over) or 'none'}; missing: "
            f"{', '.join(missing) or 'none'}"
        )
    weights = {name: value.to(expected[name].dtype) for name, value in weights.items()}
    network.load(weights, "the state_dict")
    # Its training data is not ours to know; the published runs learnt both sets, evaluation demonstrations included.
    return Checkpoint(
        METHOD, 0, network.state_dict(), {}, {}, config_to_dict(config), "imported", ("arc1:train", "arc1:eval"),
        extras={
            "task_ids": [], "transductive_ids": [], "groups": torch.zeros(1, dtype=torch.int64),
            "elements": torch.zeros(0, dtype=torch.int64), "colors": torch.zeros(0, 10, dtype=torch.uint8),
        },
    )  # fmt: skip


def make_reference_arch(checkpoint: Checkpoint) -> dict[str, object]:
    """Makes the `arch` section that the published code needs for a checkpoint's weights."""
    config, _ = build_config(HrmConfig, checkpoint.config, "the checkpoint")
    model = config.model
    keys = (*_SHARED, "hidden_size", "H_layers", "L_layers", "puzzle_emb_ndim", "vocab_size")
    section = {key: getattr(model, key) for key in keys} | {"name": model.architecture}
    rows = checkpoint.model.get(_EMBEDDING)
    return section | {"num_puzzle_identifiers": 0 if rows is None else len(rows)}

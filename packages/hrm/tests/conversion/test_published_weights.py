"""Published weights into checkpoints and back."""

import pickle
import re
from pathlib import Path

import pytest
import torch
import yaml

from arc_core.checkpoint import load_checkpoint
from arc_core.errors import InputError
from hrm.conversion.cli import import_hrm_checkpoint
from hrm.conversion.published_weights import to_checkpoint


def published(is_trm: bool, prefix: str) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """A state_dict and config with the names and shapes that the published trainers save."""
    torch.manual_seed(1)
    shapes: dict[str, tuple[int, ...]] = {
        "H_init": (32,), "L_init": (32,), "embed_tokens.embedding_weight": (12, 32), "lm_head.weight": (12, 32),
        "q_head.weight": (2, 32), "q_head.bias": (2,), "puzzle_emb.weights": (7, 32),
    }  # fmt: skip
    for level, layers in (("L_level", 2),) if is_trm else (("H_level", 1), ("L_level", 2)):
        for layer in range(layers):
            block = f"{level}.layers.{layer}."
            shapes |= {
                block + "self_attn.qkv_proj.weight": (96, 32), block + "self_attn.o_proj.weight": (32, 32),
                block + "mlp.gate_up_proj.weight": (512, 32), block + "mlp.down_proj.weight": (32, 256),
            }  # fmt: skip
    arch: dict[str, object] = {"name": "trm" if is_trm else "hrm", "num_heads": 4, "H_cycles": 3, "L_cycles": 2,
                               "expansion": 4, "halt_max_steps": 5, "pos_encodings": "rope"}  # fmt: skip
    return {prefix + name: torch.randn(shape) * 0.1 for name, shape in shapes.items()}, arch


@pytest.mark.parametrize("is_trm", [False, True])
@pytest.mark.parametrize("prefix", ["model.inner.", "_orig_mod.model.inner.", "inner."])
def test_published_weights_come_in_and_go_back_exactly(is_trm: bool, prefix: str, tmp_path: Path) -> None:
    state, arch = published(is_trm, prefix)
    file, config = tmp_path / "step_5", tmp_path / "all_config.yaml"
    torch.save(state, file)
    config.write_text(yaml.safe_dump({"arch": arch, "lr": 1e-4}))
    assert import_hrm_checkpoint([str(file), "--reference-config", str(config), "--out", str(tmp_path / "run")]) == 0
    checkpoint = load_checkpoint(tmp_path / "run", "hrm")
    model = checkpoint.config["model"]
    assert isinstance(model, dict)
    expected = {"hidden_size": 32, "num_heads": 4, "L_layers": 2, "H_cycles": 3, "L_cycles": 2, "halt_max_steps": 5}
    assert expected.items() <= model.items()
    assert (model["architecture"], model["puzzle_emb_len"]) == (("trm", 16) if is_trm else ("hrm", 0))
    back = tmp_path / "back.pt"
    assert import_hrm_checkpoint(["--to-reference", str(tmp_path / "run"), "--out", str(back)]) == 0
    again = torch.load(back, weights_only=True)
    plain = {"model.inner." + name[len(prefix) :]: value for name, value in state.items()}
    assert again.keys() == plain.keys()
    assert all(torch.equal(again[name], value) for name, value in plain.items())
    assert (
        import_hrm_checkpoint(
            [str(back), "--reference-config", str(back.with_suffix(".yaml")), "--out", str(tmp_path / "r2")]
        )
        == 0
    )


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"H_level.layers.0.extra": torch.zeros(1)}, "left over: H_level.layers.0.extra"),
        ({"q_head.bias": None}, "missing: q_head.bias"),
        ({"lm_head.weight": None}, "lm_head.weight is missing"),
        ({"mlp_t": True}, "mlp_t: true"),
        ({"num_heads": None}, "shapes do not tell num_heads"),
        ({"expansion": 90}, "expansion 90"),
    ],
)
def test_published_weights_that_do_not_fit_are_refused_in_one_line(change: dict[str, object], part: str) -> None:
    state, arch = published(False, "")
    for name, value in change.items():
        if name in ("mlp_t", "num_heads", "expansion"):
            arch[name] = value
        elif value is None:
            del state[name]
        else:
            assert isinstance(value, torch.Tensor)
            state[name] = value
    with pytest.raises(InputError, match=re.escape(part)):
        to_checkpoint(state, arch)


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    marker, file = tmp_path / "ran", tmp_path / "evil.pt"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (marker,))  # type: ignore[return-value]

    file.write_bytes(pickle.dumps({"model.inner.H_init": Evil()}, protocol=2))
    assert import_hrm_checkpoint([str(file)]) == 2
    assert not marker.exists()

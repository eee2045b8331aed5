import pytest

from arc_core.config import config_to_dict
from rlan.collapse import MAX_STRIKES, CollapseGuard, collapse_reasons, likely_cause
from rlan.config import RlanConfig

HEALTHY = {
    "pixel_accuracy": 0.7, "non_bg_accuracy": 0.4, "bg_ratio_pred": 0.65, "bg_ratio_target": 0.65, "colors_used": 3.0,
    "colors_target": 3.5, "dsc_entropy": 2.0, "context_norm": 3.0,
}  # fmt: skip
ALL_BACKGROUND = HEALTHY | {"bg_ratio_pred": 1.0, "non_bg_accuracy": 0.0, "colors_used": 1.0, "colors_target": 4.5}


@pytest.mark.parametrize(
    ("limit", "beyond", "epoch"),
    [
        ({"bg_ratio_pred": 0.799}, {"bg_ratio_pred": 0.801}, 1),
        ({"non_bg_accuracy": 0.01}, {"non_bg_accuracy": 0.009}, 11),
        ({"colors_used": 0.5}, {"colors_used": 0.4}, 1),
        ({"dsc_entropy": 5.0}, {"dsc_entropy": 5.1}, 21),
    ],
)
def test_each_limit_of_the_guide_is_a_reason_once_it_is_passed(
    limit: dict[str, float], beyond: dict[str, float], epoch: int
) -> None:
    assert collapse_reasons(HEALTHY | limit, epoch) == []
    assert len(collapse_reasons(HEALTHY | beyond, epoch)) == 1


def test_reasons_are_written_as_in_the_guides_example() -> None:
    metrics = HEALTHY | {"bg_ratio_pred": 0.802, "non_bg_accuracy": 0.005}
    assert collapse_reasons(metrics, 11) == ["BG excess: 15.2%", "Non-BG acc: 0.5%"]


def test_early_epochs_are_forgiven() -> None:
    assert collapse_reasons(HEALTHY | {"non_bg_accuracy": 0.0}, 10) == []
    assert collapse_reasons(HEALTHY | {"dsc_entropy": 9.0}, 20) == []


def test_the_guard_fires_after_5_in_a_row_and_forgets_after_a_healthy_one() -> None:
    guard = CollapseGuard()
    for count in range(1, 5):
        warning = guard.check(ALL_BACKGROUND, 30)
        assert warning is not None
        assert f"({count}/5)" in warning
    assert not guard.fired
    assert guard.check(HEALTHY, 30) is None
    for _ in range(MAX_STRIKES):
        assert not guard.fired
        guard.check(ALL_BACKGROUND, 30)
    assert guard.fired


def named_keys(text: str) -> set[str]:
    """The keys of RlanConfig that a text names."""

    def flatten(section: dict[str, object], prefix: str = "") -> set[str]:
        keys = set()
        for name, value in section.items():
            keys |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name}
        return keys

    return {key for key in flatten(config_to_dict(RlanConfig())) if key in text}


def test_the_likely_cause_names_the_key_to_change_in_the_guides_order() -> None:
    """Each row has all causes of the rows below it too, so that the order decides."""
    poor = ALL_BACKGROUND | {"context_norm": 0.01, "dsc_entropy": 6.0}
    seen = poor | {"context_norm": 3.0}
    assert named_keys(likely_cause(poor, 0.25, False, True)) == {"data.max_demonstrations"}
    assert named_keys(likely_cause(seen, 0.25, False, True)) == {"training.learning_rate"}
    assert named_keys(likely_cause(seen, 0.25, False, False)) == {"training.focal_alpha"}
    assert named_keys(likely_cause(seen, 0.5, False, False)) == {"training.lambda_entropy"}
    assert named_keys(likely_cause(ALL_BACKGROUND, 0.5, False, False)) == {"data.augmentation.color_permutation"}
    assert named_keys(likely_cause(ALL_BACKGROUND, 0.5, True, False)) == {
        "training.learning_rate", "training.focal_alpha",
    }  # fmt: skip

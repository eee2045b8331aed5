import pytest

from rlan.collapse import CollapseGuard, collapse_reasons, likely_cause
from rlan.config import ModelConfig, RlanConfig, TrainingConfig
from rlan.config_checks import checklist
from rlan.health import Watch

HEALTHY = {
    "task_accuracy": 0.1, "pixel_accuracy": 0.7, "non_bg_accuracy": 0.4, "bg_ratio_pred": 0.7, "bg_ratio_target": 0.65,
    "colors_used": 3.0, "colors_target": 3.5, "dsc_entropy": 2.0, "centroid_spread": 4.0, "context_norm": 3.0,
    "stop_probability": 0.3,
}  # fmt: skip
ALL_BACKGROUND = HEALTHY | {"bg_ratio_pred": 1.0, "non_bg_accuracy": 0.0, "colors_used": 1.0, "colors_target": 4.5}
STEP = {"task_loss": 0.5, "first_step_loss": 0.6, "dsc_grad_norm": 0.1}


def test_a_healthy_validation_has_no_reasons() -> None:
    assert collapse_reasons(HEALTHY, 100) == []


@pytest.mark.parametrize(
    ("change", "epoch", "reason"),
    [
        ({"bg_ratio_pred": 0.802}, 1, "BG excess: 15.2%"),
        ({"non_bg_accuracy": 0.005}, 11, "Non-BG acc: 0.5%"),
        ({"colors_used": 1.0, "colors_target": 4.1}, 1, "Colors: 1.0 used"),
        ({"dsc_entropy": 5.1}, 21, "DSC entropy: 5.10"),
    ],
)
def test_each_reason_of_the_guide_is_found(change: dict[str, float], epoch: int, reason: str) -> None:
    assert collapse_reasons(HEALTHY | change, epoch)[0].startswith(reason)


def test_early_epochs_are_forgiven() -> None:
    assert collapse_reasons(HEALTHY | {"non_bg_accuracy": 0.0}, 10) == []
    assert collapse_reasons(HEALTHY | {"dsc_entropy": 9.0}, 20) == []


def test_the_guard_fires_after_5_in_a_row_and_forgets_after_a_clean_one() -> None:
    guard = CollapseGuard()
    for count in range(1, 5):
        warning = guard.check(ALL_BACKGROUND, 30)
        assert warning is not None
        assert f"({count}/5)" in warning
    assert not guard.fired
    assert guard.check(HEALTHY, 30) is None
    for _ in range(5):
        guard.check(ALL_BACKGROUND, 30)
    assert guard.fired


def test_the_cause_follows_the_guides_table() -> None:
    assert "ContextEncoder" in likely_cause(ALL_BACKGROUND | {"context_norm": 0.01}, 0.5, True, False)
    assert "learning rate" in likely_cause(ALL_BACKGROUND, 0.5, True, True)
    assert "focal alpha" in likely_cause(ALL_BACKGROUND, 0.25, True, False)
    assert "lambda_entropy" in likely_cause(ALL_BACKGROUND | {"dsc_entropy": 6.0}, 0.5, True, False)
    assert "color_permutation" in likely_cause(ALL_BACKGROUND, 0.5, False, False)


@pytest.mark.parametrize(
    ("metrics", "training", "epoch", "part"),
    [
        ({"task_accuracy": 0.0}, {}, 51, "task_accuracy is 0 after 50 epochs"),
        ({"non_bg_accuracy": 0.0}, {}, 101, "non_bg_accuracy below 0.01"),
        ({}, {"dsc_grad_norm": 1e-4}, 6, "DSC gradient norm"),
        ({"centroid_spread": 1.0}, {}, 21, "within 2 cells"),
        ({}, {"task_loss": 0.7}, 11, "last solver step is worse"),
        ({"context_norm": 0.05}, {}, 1, "context vector norm"),
        ({"task_accuracy": 0.0, "pixel_accuracy": 0.85}, {}, 31, "no exact answer"),
        ({}, {}, 21, "stop probability has not moved"),
        ({}, {"lora_magnitude_gru_reset": 1e-5, "lora_magnitude_output_head": 0.0}, 6, "changes vanish"),
        ({}, {"lora_magnitude_gru_reset": 0.2, "lora_magnitude_output_head": 1.999}, 6, "alone holds them"),
        ({}, {"lora_magnitude_gru_reset": 0.2, "lora_diversity": 0.001}, 6, "same change"),
        ({}, {"loo_accuracy": 0.4}, 11, "loo_accuracy below 0.5"),
        ({}, {"loo_skipped_ratio": 0.4}, 1, "skips over 30%"),
        ({}, {"equiv_delta_norm": 1.5}, 11, "how a task is turned"),
    ],
)
def test_each_warning_sign_is_given_once(
    metrics: dict[str, float], training: dict[str, float], epoch: int, part: str
) -> None:
    watch = Watch(first_stop_probability=0.3, hyperlora_max_norm=2.0)
    given = watch.check(HEALTHY | metrics, STEP | training, epoch)
    assert any(part in line for line in given)
    assert not any(part in line for line in watch.check(HEALTHY | metrics, STEP | training, epoch + 1))


def test_a_healthy_meta_learner_is_not_warned() -> None:
    healthy = {"lora_magnitude_gru_reset": 0.5, "lora_diversity": 0.4, "loo_accuracy": 0.7, "loo_skipped_ratio": 0.1}
    assert Watch(first_stop_probability=0.9).check(HEALTHY, STEP | healthy | {"equiv_delta_norm": 0.3}, 30) == []


def test_a_flat_loss_is_noticed_after_100_epochs() -> None:
    watch = Watch()
    assert not any("no lower" in line for line in watch.check(HEALTHY, STEP, 10))
    assert not any("no lower" in line for line in watch.check(HEALTHY, STEP | {"task_loss": 0.55}, 110))
    assert any("no lower" in line for line in watch.check(HEALTHY, STEP | {"task_loss": 0.55}, 111))


def test_the_checklist_accepts_the_guides_values_and_says_why_it_does_not_others() -> None:
    differing = {check.setting for check in checklist(RlanConfig()) if not check.ok}
    assert differing == {"device.compile"}
    poor = RlanConfig(ModelConfig(stop_bias=-2.5), TrainingConfig(focal_alpha=0.25, batch_size=4))
    found = {check.setting: check.reason for check in checklist(poor) if not check.ok}
    assert "background outweighs" in found["training.focal_alpha"]
    assert {"model.stop_bias", "training.batch_size x grad_accumulation_steps"} <= found.keys()

import pytest

from rlan.health import HealthMonitor

METRICS = {
    "task_accuracy": 0.1, "pixel_accuracy": 0.7, "non_bg_accuracy": 0.4, "centroid_spread": 4.0, "context_norm": 3.0,
    "stop_probability": 0.6,
}  # fmt: skip
TRAINING = {"task_loss": 0.5, "first_step_loss": 0.6, "dsc_grad_norm": 0.1}
HYPERLORA = {"lora_magnitude_gru_reset": 0.5, "lora_magnitude_output_head": 0.5, "lora_diversity": 0.4}
AUXILIARY = {"loo_accuracy": 0.7, "loo_skipped_ratio": 0.1, "equiv_delta_norm": 0.3}


def make_monitor() -> HealthMonitor:
    return HealthMonitor(first_stop_probability=0.3, hyperlora_max_norm=2.0)


@pytest.mark.parametrize(
    ("sign", "metrics", "training", "last_quiet_epoch"),
    [
        ("no_exact", {"task_accuracy": 0.0}, {}, 50),
        ("no_foreground", {"non_bg_accuracy": 0.0}, {}, 100),
        ("dsc_gradient", {}, {"dsc_grad_norm": 1e-4}, 5),
        ("stop_unmoved", {"stop_probability": 0.305}, {}, 20),
        ("spread", {"centroid_spread": 1.0}, {}, 20),
        ("refinement", {}, {"task_loss": 0.7}, 10),
        ("context", {"context_norm": 0.05}, {}, None),
        ("near_misses", {"task_accuracy": 0.0, "pixel_accuracy": 0.85}, {}, 30),
        ("lora_gone", {}, {"lora_magnitude_gru_reset": 1e-5, "lora_magnitude_output_head": 0.0}, 5),
        ("lora_at_limit", {}, {"lora_magnitude_output_head": 1.999}, 5),
        ("lora_alike", {}, {"lora_diversity": 0.001}, 5),
        ("loo_accuracy", {}, {"loo_accuracy": 0.4}, 10),
        ("loo_skipped", {}, {"loo_skipped_ratio": 0.4}, None),
        ("equivariance", {}, {"equiv_delta_norm": 1.5}, 10),
    ],
)
def test_each_sign_alone_is_reported_from_its_epoch_on_and_once(
    sign: str, metrics: dict[str, float], training: dict[str, float], last_quiet_epoch: int | None
) -> None:
    monitor = make_monitor()
    arguments = METRICS | metrics, TRAINING | HYPERLORA | AUXILIARY | training
    if last_quiet_epoch is not None:
        assert monitor.check(*arguments, last_quiet_epoch) == []
    epoch = (last_quiet_epoch or 0) + 1
    assert len(monitor.check(*arguments, epoch)) == 1
    assert monitor.given == (sign,)
    assert monitor.check(*arguments, epoch + 1) == []


def test_a_healthy_run_is_never_warned() -> None:
    monitor = make_monitor()
    for epoch in range(0, 300, 10):
        training = TRAINING | HYPERLORA | AUXILIARY | {"task_loss": 0.5 - epoch / 1000}
        assert monitor.check(METRICS, training, epoch) == []


def test_one_exact_answer_is_enough_for_the_rest_of_the_run() -> None:
    monitor = make_monitor()
    monitor.check(METRICS, TRAINING, 10)
    assert monitor.check(METRICS | {"task_accuracy": 0.0}, TRAINING, 60) == []


def test_a_loss_without_a_new_minimum_is_reported_after_100_epochs() -> None:
    monitor = make_monitor()
    assert monitor.check(METRICS, TRAINING, 10) == []
    assert monitor.check(METRICS, TRAINING | {"task_loss": 0.55}, 110) == []
    monitor.check(METRICS, TRAINING | {"task_loss": 0.55}, 111)
    assert monitor.given == ("flat_loss",)

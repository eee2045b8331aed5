from dataclasses import replace

from rlan.config import ModelConfig, RlanConfig, TrainingConfig
from rlan.config_checks import check_against_guide

POOR = RlanConfig(ModelConfig(stop_bias=-2.5), TrainingConfig(focal_alpha=0.25, batch_size=4))


def differing_settings(config: RlanConfig) -> set[str]:
    return {check.setting for check in check_against_guide(config) if not check.ok}


def test_the_defaults_are_the_guides_values_but_for_compilation() -> None:
    assert differing_settings(RlanConfig()) == {"device.compile"}


def test_every_value_that_differs_from_the_guide_is_reported_with_a_reason() -> None:
    batch = "training.batch_size x grad_accumulation_steps"
    assert differing_settings(POOR) == {"device.compile", "model.stop_bias", "training.focal_alpha", batch}
    assert all(check.reason for check in check_against_guide(POOR))
    assert {check.setting: check.value for check in check_against_guide(POOR)}[batch] == 8


def test_focal_parameters_do_not_matter_in_other_loss_modes() -> None:
    other_mode = replace(POOR, training=replace(POOR.training, loss_mode="cross_entropy", focal_gamma=0.0))
    assert differing_settings(POOR) - differing_settings(other_mode) == {"training.focal_alpha"}

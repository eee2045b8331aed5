"""Losses and the quantiser against closed forms and naive versions."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch.nn import functional

from jepa_hrl.jepa.collapse import collapse_advice, isotropy
from jepa_hrl.jepa.config import JepaConfig, LossConfig
from jepa_hrl.jepa.losses.sigreg import draw_slices, epps_pulley, quadrature_rule
from jepa_hrl.jepa.losses.similarity import info_nce, invariance, relational
from jepa_hrl.jepa.model.jepa import Jepa, Predictor
from jepa_hrl.jepa.model.quantizer import VectorQuantizer


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_info_nce_is_cross_entropy_on_the_explicit_matrix_of_cosines() -> None:
    queries, keys, queue = noise(5, 8, seed=1), noise(10, 8, seed=2), noise(7, 8, seed=3)
    places = torch.tensor([0, 2, 4, 6, 8])
    loss, right = info_nce(queries, keys, places, queue, torch.tensor(0.2))
    total, hits = 0.0, 0
    for query, place in zip(queries.double(), places.tolist(), strict=True):
        every = [*keys.double(), *queue.double()]
        cosines = [float(query @ key / query.norm() / key.norm()) / 0.2 for key in every]
        total += float(np.log(np.exp(cosines).sum())) - cosines[place]
        hits += int(np.argmax(cosines[:10])) == place
    assert loss.item() == pytest.approx(total / 5, rel=1e-5)
    assert right.item() == pytest.approx(hits / 5)


def test_the_queue_holds_the_newest_keys_and_drops_the_oldest_first() -> None:
    model = Jepa(JepaConfig(loss=LossConfig(queue_size=5)))
    width = model.queue.shape[1]
    assert len(model.filled_queue) == 0
    for first in (0, 3, 6):
        model.enqueue(torch.arange(first, first + 3).float()[:, None].expand(3, width))
        kept = {*range(max(0, first + 3 - 5), first + 3)}
        assert set(model.filled_queue[:, 0].int().tolist()) == kept
    model.enqueue(torch.arange(100, 112).float()[:, None].expand(12, width))
    assert set(model.filled_queue[:, 0].int().tolist()) == {107, 108, 109, 110, 111}


@pytest.mark.parametrize(("points", "rule", "error"), [(17, "trapezoid", 2e-3), (17, "gauss_legendre", 1e-6)])
def test_sigreg_is_the_epps_pulley_statistic_by_direct_integration(points: int, rule: str, error: float) -> None:
    vectors, slices = noise(40, 6), draw_slices(6, 5, np.random.default_rng(0))
    shadows = (vectors.double() @ slices.double()).numpy()

    def integrand(t: float, values: np.ndarray) -> float:
        gap = np.exp(1j * t * values).mean() - np.exp(-(t**2) / 2)
        return float(abs(gap) ** 2 * np.exp(-(t**2) / 2))

    wanted = np.mean([40 * 2 * quad(integrand, 0, 3, args=(column,), epsabs=1e-10)[0] for column in shadows.T])
    found = epps_pulley(vectors, slices, *quadrature_rule(points, rule))  # type: ignore[arg-type]
    assert found.item() == pytest.approx(wanted, rel=error)


def published(vectors: torch.Tensor, slices: torch.Tensor) -> torch.Tensor:
    """The published statistic written out: trapezoid on 17 points of [0, 3], doubled, in float64."""
    t = torch.linspace(0, 3, 17, dtype=torch.float64)
    weights = torch.full((17,), 2 * 3 / 16, dtype=torch.float64)
    weights[[0, -1]] = 3 / 16
    phi = torch.exp(-(t**2) / 2)
    angles = (vectors.double() @ slices.double())[:, :, None] * t
    gap = (angles.cos().mean(0) - phi) ** 2 + angles.sin().mean(0) ** 2
    return ((gap @ (weights * phi)) * len(vectors)).mean()


@pytest.mark.parametrize("count", [1, 63, 64, 200])
def test_sigreg_in_chunks_equals_the_published_statistic_and_its_gradient(count: int) -> None:
    vectors = noise(33, 8).requires_grad_()
    slices = draw_slices(8, count, np.random.default_rng(1))
    found = epps_pulley(vectors, slices, *quadrature_rule(17, "trapezoid"))
    wanted = published(vectors, slices)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    one, two = torch.autograd.grad(found, vectors)[0], torch.autograd.grad(wanted, vectors)[0]
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_sigreg_prefers_a_standard_normal_to_a_collapsed_a_wide_and_a_flat_one() -> None:
    rule, slices = quadrature_rule(17, "trapezoid"), draw_slices(8, 128, np.random.default_rng(2))
    normal = noise(512, 8)
    flat = normal * torch.tensor([2.0, 2, 1, 1, 0.1, 0.1, 0.1, 0.1])
    best = epps_pulley(normal, slices, *rule)
    for worse in (normal * 0.1, normal * 3, normal + 1, flat):
        assert epps_pulley(worse, slices, *rule) > 3 * best


def test_relational_compares_cosines_of_objects_of_the_same_grid_only() -> None:
    embedded, fields = noise(7, 4, seed=4), noise(7, 9, seed=5)
    grids = torch.tensor([0, 0, 0, 1, 2, 2, 4])
    counts, wanted = np.bincount(grids.numpy()), []
    for i in range(7):
        for j in range(i + 1, 7):
            if grids[i] == grids[j]:
                mine = functional.cosine_similarity(embedded[i].double(), embedded[j].double(), dim=0)
                theirs = functional.cosine_similarity(fields[i].double(), fields[j].double(), dim=0)
                wanted.append(float((mine - theirs) ** 2))
    assert len(wanted) == 4
    assert relational(embedded, fields, counts).item() == pytest.approx(np.mean(wanted), rel=1e-5)
    for objects in (0, 1):
        assert relational(embedded[:objects], fields[:objects], np.bincount(grids[:objects].numpy())).item() == 0
    many = noise(900, 4, seed=8)
    of_three = np.full(300, 3)  # many more than share a row
    found = relational(many, many.abs(), of_three)
    each = [relational(many[n : n + 3], many[n : n + 3].abs(), of_three[:1]) for n in range(0, 900, 3)]
    assert found.item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-5)
    assert relational(fields, fields, counts).item() == pytest.approx(0, abs=1e-10)


def test_invariance_is_one_minus_the_mean_cosine() -> None:
    one = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    other = torch.tensor([[3.0, 0.0], [1.0, 0.0]])
    assert invariance(one, other).item() == pytest.approx(0.5)


def test_the_quantizer_gives_the_nearest_code_and_the_vectors_gradient() -> None:
    quantizer = VectorQuantizer(6, 3).eval()
    vectors = noise(20, 3, seed=6).requires_grad_()
    quantized, chosen, commitment = quantizer(vectors)
    distances = torch.cdist(vectors.detach().double(), quantizer.codes.double())
    assert torch.equal(chosen, distances.argmin(dim=1))
    torch.testing.assert_close(quantized, quantizer.codes[chosen])
    assert commitment.item() == pytest.approx(float(distances.amin(dim=1).square().mean() / 3), rel=1e-5)
    weights = noise(20, 3, seed=7)
    gradient = torch.autograd.grad((quantized * weights).sum(), vectors)[0]
    torch.testing.assert_close(gradient, weights)


def test_codes_are_the_running_means_of_what_is_assigned_to_them() -> None:
    quantizer = VectorQuantizer(4, 2, decay=0.5)
    sizes, sums, codes = (part.double().numpy().copy() for part in (quantizer.sizes, quantizer.sums, quantizer.codes))
    for step in range(3):
        vectors = noise(30, 2, seed=step)
        quantizer(vectors)
        chosen = ((vectors.numpy()[:, None] - codes) ** 2).sum(-1).argmin(1)
        for code in range(4):
            mine = vectors.numpy()[chosen == code]
            sizes[code] = 0.5 * sizes[code] + 0.5 * len(mine)
            sums[code] = 0.5 * sums[code] + 0.5 * mine.sum(0)
        smooth = (sizes + 1e-5) / (sizes.sum() + 4e-5) * sizes.sum()
        codes = sums / smooth[:, None]
        np.testing.assert_allclose(quantizer.codes.numpy(), codes, rtol=1e-4, atol=1e-5)


def test_usage_is_a_count_of_used_codes_and_unused_ones_move_onto_vectors() -> None:
    quantizer = VectorQuantizer(8, 2)
    vectors = torch.cat([torch.full((50, 2), 4.0), torch.full((50, 2), -4.0)])
    _, chosen, _ = quantizer(vectors)
    used = len(set(chosen.tolist()))
    assert quantizer.usage.item() == used / 8
    moved = quantizer.close_window(vectors, 0.01, torch.Generator().manual_seed(0))
    assert moved == 8 - used
    assert quantizer.usage.item() == used / 8
    assert quantizer.window.sum() == 0
    distances = torch.cdist(quantizer.codes, vectors).amin(dim=1)
    assert int((distances == 0).sum()) >= moved
    assert quantizer.close_window(vectors, None, torch.Generator()) == 0


def test_a_prediction_uses_the_other_pairs_of_its_task_alone_in_any_order() -> None:
    predictor = Predictor(4, 8).double()
    inputs, outputs = noise(5, 4, seed=8).double(), noise(5, 4, seed=9).double()
    tasks = torch.tensor([0, 0, 0, 1, 1])
    found = predictor(inputs, outputs, tasks)
    for pair, others in ((0, [1, 2]), (3, [4])):
        changes = predictor.read_change(torch.cat([inputs[others], outputs[others]], dim=1)).mean(dim=0)
        wanted = inputs[pair] + predictor.predict(torch.cat([inputs[pair], changes])[None])[0]
        torch.testing.assert_close(found[pair], wanted)
    changed = outputs.clone()
    changed[0] += 1  # a pair's own output
    torch.testing.assert_close(predictor(inputs, changed, tasks)[0], found[0])
    order = torch.tensor([2, 0, 1, 4, 3])
    torch.testing.assert_close(predictor(inputs[order], outputs[order], tasks), found[order])
    shown = torch.tensor([True, True, False, True, False])
    only = predictor(inputs, outputs, tasks, shown)
    torch.testing.assert_close(only[2], found[2])  # its demonstrations are the other two
    assert not torch.allclose(only[0], found[0])


def test_isotropy_is_1_for_equal_variances_and_the_share_of_used_directions_otherwise() -> None:
    axes = torch.cat([torch.eye(6), -torch.eye(6)])
    assert isotropy(axes) == pytest.approx(1)
    axes[:, 3:] = 0
    assert isotropy(axes) == pytest.approx(0.5)
    assert isotropy(axes[:, :1] @ torch.ones(1, 6)) == pytest.approx(1 / 6)
    assert isotropy(torch.ones(4, 6)) == pytest.approx(1 / 6)


def test_collapse_is_named_with_the_remedies_that_are_not_yet_taken() -> None:
    bad = JepaConfig(loss=LossConfig(temperature=1.0))
    assert collapse_advice(bad, {"isotropy": 0.5, "usage_ratio": 0.5}) == ""
    advice = collapse_advice(bad, {"isotropy": 0.1, "usage_ratio": 0.1})
    for part in (
        "isotropy is 0.10",
        "10% of the codes",
        "sigreg.weight 0.1",
        "loss.temperature 0.05",
        "queue_size 8192",
    ):
        assert part in advice
    assert "vq_refresh" not in advice

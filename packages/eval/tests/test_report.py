"""The report as text, and in a real browser."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from arc_core.task import Task, task_to_json
from arc_eval.cli import main
from arc_eval.report.plots import draw_plots

Make = Callable[..., Task]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
VILE = "<script>alert(1)</script>"


@pytest.fixture
def report(world: Any) -> Path:
    """Of the small world, with a task that failed and a method whose answers come with a program."""
    world.solver.faults = {"t4"}
    assert main(["compare", "--data", f"dir:{world.data}"]) == 1
    return next((world.root / "results").glob("*/report.html"))


def test_a_report_fetches_nothing_and_holds_every_grid_once(report: Path) -> None:
    text = report.read_text()
    outside = [url for url in re.findall(r'(?:src|href)="([^"#][^"]*)"', text) if not url.startswith("data:")]
    assert outside == []
    assert "http://" not in re.sub(r'xmlns(:\w+)?="[^"]*"|"http://www.w3.org/2000/svg"', "", text)
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    assert list(data["tasks"]) == [f"t{number}" for number in range(6)]
    peeking = next(method for method in data["methods"] if method["label"] == "peeking")
    assert peeking["answers"]["t4"] == {"error": "RuntimeError: cannot bear t4"}
    assert len(peeking["answers"]["t1"]["tests"]) == 2


@pytest.mark.parametrize("seconds", [9.999999999999999e-06, 1e-05, 0.0, 3.7])
def test_one_time_is_drawn_whatever_it_is(report: Path, seconds: float) -> None:
    methods = [
        method for method in json.loads((report.parent / "results.json").read_text())["methods"] if method["scores"]
    ]
    for place, method in enumerate(methods):
        method["scores"]["seconds_per_task"] = 0.0 if place else seconds
    assert len(draw_plots(methods)) > 3


def test_ids_labels_and_errors_are_text(world: Any, random_task: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    task = random_task([((2, 2), (2, 2))] * 2, task_id="x")
    folder = world.root / "vile"
    folder.mkdir()
    (folder / "kaggle.json").write_text(json.dumps({VILE: task_to_json(task), "t0": task_to_json(task)}))
    world.solver.name = "<img src=x onerror=alert(2)>"
    world.solver.truth = {VILE: [], "t0": []}
    monkeypatch.setattr(
        world.solver, "solve", lambda tasks, budget: (_ for _ in ()).throw(RuntimeError("</script><b>" + VILE))
    )
    assert main(["compare", "--data", f"kaggle:{folder / 'kaggle.json'}"]) == 1
    text = next((world.root / "results").glob("kaggle*/report.html")).read_text()
    assert VILE not in text
    assert "<img" not in text
    assert "</script><b>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


@pytest.fixture
def page() -> Iterator[Page]:
    """A page that fails the test on any message in its console."""
    if BROWSER is None:
        pytest.skip("needs Chromium (Debian's package chromium)")
    said: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        opened = browser.new_context(offline=True, viewport={"width": 1250, "height": 900}).new_page()
        opened.set_default_timeout(10_000)
        opened.on("console", lambda message: said.append(message.text))
        opened.on("pageerror", lambda error: said.append(str(error)))
        yield opened
        browser.close()
    assert said == []


def ids(page: Page) -> list[str]:
    """Of the tasks that are shown, in their order."""
    return page.locator("#task-table tbody tr:not([hidden]) .open").all_text_contents()


@pytest.mark.slow
def test_tasks_are_filtered_and_sorted(page: Page, report: Path) -> None:
    page.goto(report.as_uri())
    assert ids(page) == [f"t{number}" for number in range(6)]
    page.fill("#search", "T3")
    assert (ids(page), page.text_content("#count")) == (["t3"], "1 task")
    page.fill("#search", "")
    labels = page.locator("#solved option").all_text_contents()
    assert {"by peeking", "not by identity", "only by peeking"} <= set(labels)
    for label, expected in [
        ("by none", ["t4"]), ("by all", ["t0"]), ("by some, not all", ["t1", "t2", "t3", "t5"]),
        ("by identity", ["t0"]), ("not by peeking", ["t4"]), ("only by peeking", ["t1", "t2", "t3", "t5"]),
    ]:  # fmt: skip
        page.select_option("#solved", label=label)
        assert ids(page) == expected, label
    page.select_option("#solved", "")
    head = page.locator("#task-table thead th", has_text="identity")
    head.get_by_role("button").click()
    assert (ids(page)[0], head.get_attribute("aria-sort")) == ("t0", "descending")
    head.get_by_role("button").click()
    assert (ids(page)[-1], head.get_attribute("aria-sort")) == ("t0", "ascending")


@pytest.mark.slow
def test_a_task_is_opened_drawn_and_left_by_keyboard(page: Page, report: Path, world: Any) -> None:
    page.goto(report.as_uri())
    page.locator(".open", has_text="t1").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.is_visible()
    assert page.evaluate("location.hash") == "#task=t1"
    # One demonstration, two tests of input and answer, and per test two attempts of one method and one of the other.
    assert page.locator("#detail svg").count() == 2 + 2 * (2 + 2 + 1)
    named = page.get_by_role("img", name="attempt 1, 2 rows, 2 columns").first
    assert named.is_visible()
    assert page.locator("#detail .verdict-right").count() == 2  # the second attempt at each test
    assert "2×2, must be 3×3" in (page.text_content("#detail-body") or "")
    page.keyboard.press("ArrowRight")
    assert page.text_content("#detail-title") == "t2"
    page.check("#digits")
    shown = page.locator("#detail pre").nth(3).inner_text().split()
    assert shown == [str(cell) for row in world.solver.truth["t2"][0].tolist() for cell in row]
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("document.activeElement.textContent") == "t2"
    page.goto(report.as_uri() + "#task=t4")
    assert "failed: RuntimeError: cannot bear t4" in (page.text_content("#detail-body") or "")


@pytest.mark.slow
def test_wrong_cells_are_marked(page: Page, report: Path) -> None:
    page.goto(report.as_uri() + "#task=t0")  # where the answer has the input's size, and so has the first attempt
    attempt = page.locator("#detail .answer", has_text="wrong").first
    text = attempt.inner_text()
    count = int(re.search(r"(\d) wrong", text)[1])  # type: ignore[index]
    crosses = attempt.locator("path[stroke='#fff']").get_attribute("d") or ""
    assert crosses.count("M") == count > 0


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_the_page(page: Page, report: Path, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(report.as_uri())
    for selector in ("body", ".note", ".interval", "a", "#task-table td.wrong", "#task-table td.right"):
        colors = page.locator(selector).first.evaluate(
            "e => [getComputedStyle(e).color, getComputedStyle(document.body).backgroundColor]"
        )
        assert contrast(*colors) >= (3.0 if "wrong" in selector else 4.5), selector
    assert page.locator("figure svg").first.evaluate("e => getComputedStyle(e).color") == colors_of_ink(page)


def colors_of_ink(page: Page) -> str:
    return str(page.locator("body").evaluate("e => getComputedStyle(e).color"))


def contrast(first: str, second: str) -> float:
    """Of two CSS colours. Source: WCAG 2.2, relative luminance."""

    def luminance(color: str) -> float:
        channels = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)

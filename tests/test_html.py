"""The report as one HTML file: what it says, that it needs nothing else, and how a browser shows it."""

import base64
import html.parser
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from wmr_tf import report
from wmr_tf.report import charts, images, rounding, words
from wmr_tf.report.figures import COLOURS, model_handles
from wmr_tf.report.metrics import shown_classes
from wmr_tf.report.svg import svg

ATTACK = {"name": "PGD", "norm": "linf", "epsilon": 0.3, "step_size": 0.01, "steps": 40, "restarts": 1, "seed": 7}
SUITE = {
    "version": "strong",
    "norm": "linf",
    "epsilon": 0.3,
    "seed": 3,
    "examples": 1000,
    "clean_accuracy": 0.975,
    "accuracy": 0.894,
    "accuracy_interval": [0.873, 0.912],
    "accuracy_after": {"apgd-ce": 0.899, "apgd-t": 0.894},
    "deviations": ["Not a standard AutoAttack accuracy."],
    "flags": [],
}
OLD = {
    "dataset": "mnist",
    "split": "test",
    "method": "trades",
    "attack": ATTACK,
    "examples": 1000,
    "A_nat": 0.975,
    "A_nat_stderr": 0.005,
    "A_rob": 0.933,
    "A_rob_stderr": 0.008,
    "non_uniform": [{"alpha_test": 2.0, "A_sa": 0.687, "A_sa_stderr": 0.03, "A_tr": 0.673, "A_tr_stderr": 0.03}],
    "flags": [],
}
STRONG = {"A_strong": 0.894, "A_strong_interval": [0.873, 0.912], "masked": False, "suite": SUITE}


def classes(count):
    return [
        {
            "class": number,
            "examples": 100,
            "A_nat": 0.99,
            "A_nat_interval": [0.925, 1.0],
            "A_strong": 0.3 + 0.6 * number / count,
            "A_strong_interval": [0.2 + 0.6 * number / count, 0.4 + 0.6 * number / count],
        }
        for number in range(count)
    ]


def budget(chooser, *points):
    points = [{"images": images, "accuracy": value, "interval": [low, high]} for images, value, low, high in points]
    return {"chooser": chooser, "points": points}


NEW = {
    **OLD,
    **STRONG,
    "A_rob_interval": [0.916, 0.947],
    "budget": [
        budget("clean_margin", (10, 0.1, 0.02, 0.4), (100, 0.42, 0.33, 0.52), (1000, 0.894, 0.873, 0.912)),
        budget("random", (10, 0.9, 0.6, 0.98), (100, 0.89, 0.81, 0.94), (1000, 0.894, 0.873, 0.912)),
    ],
    "classes": classes(10),
    "worst_class": {**classes(10)[0], "chosen_on": "validation", "chosen_from": 500},
    "threat": {
        "norm": "linf",
        "attack": "fab",
        "examples": 1000,
        "median": 0.3412,
        "worst": [{"fraction": 0.01, "images": 10, "radius": 0.0213, "interval": [0.01, 0.03]}],
        "curve": [{"radius": radius / 10, "accuracy": 0.97 - radius / 10} for radius in range(7)],
    },
    "confidence": {
        "top_probability": 0.843,
        "curve": [
            {
                "scale": scale,
                "top_probability": probability,
                "non_uniform": [{"alpha_test": 2.0, "A_sa": value, "A_tr": value - 0.02}],
            }
            for scale, probability, value in ((0.1, 0.2, 0.88), (1.0, 0.843, 0.687), (10.0, 0.99, 0.5))
        ],
    },
    "hashes": {"weights": "sha256abc", "data": "sha256def"},
    "command": "python -m trainers.evaluate --suite=strong",
    "versions": {"keras": "3.15.1"},
    "date": "2026-11-29",
}
ALARM = {"name": "masked", "message": "MASKED: A_rob is 92.0 % & more."}
HIDES = {"A_rob": 0.92, "A_strong": 0.067, "A_strong_interval": [0.05, 0.09], "masked": True, "flags": [ALARM]}
MASKED = {**NEW, **HIDES}
HOSTILE = 'x<script>alert("1")</script>&$y$'


def picture(why="hardest", shape=(8, 8, 1), **changed):
    clean = np.random.default_rng(0).uniform(size=shape)
    given = {"why": why, "position": 12, "label": 4, "prediction": 9, "margin": -0.251, "radius": 0.0123}
    adversarial = np.clip(clean + 0.1, 0, 1)
    return {**given, "broken_by": "apgd-ce", "clean": clean, "adversarial": adversarial, **changed}


class Page(html.parser.HTMLParser):
    """The tags of a page, its visible text, and its tables by name."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.pieces, self.tables, self._open = [], [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self._rows = self.tables.setdefault(dict(attributes)["aria-label"], [])
        self._open.append(tag)
        if tag == "tr":
            self._row = []
        if tag in ("th", "td"):
            self._cell = ""

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass
        if tag in ("th", "td"):
            self._row.append(self._cell)
        if tag == "tr":
            self._rows.append(self._row)

    def handle_data(self, data):
        if not {"style", "script"} & set(self._open):
            self.pieces.append(data)
        if self._open and self._open[-1] in ("th", "td"):
            self._cell += data.replace("\u00a0", " ")

    @property
    def text(self):
        return " ".join(" ".join(self.pieces).split())

    def attributes(self, name):
        return [attributes[name] for _, attributes in self.tags if name in attributes]


def written(tmp_path, results, **options):
    report.write_report(tmp_path / "report.html", results, **options)
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(0.0, 1.0, "42"), (0.39, 0.461, "42"), (0.39, 0.459, "42.3"), (0.42, 0.4271, "42.3"), (0.42, 0.4269, "42.35")],
)
def test_decimals_are_those_that_the_interval_carries(low, high, shown):
    assert rounding.percent(0.4234567, low, high) == shown


def test_figures_without_an_interval_keep_the_decimals_of_their_source():
    assert rounding.with_interval({"A_rob": 0.4929}, "A_rob") == "49.29"
    assert rounding.with_interval({}, "A_rob") == "-"
    assert rounding.with_interval({"A_rob": 1.0, "A_rob_interval": [1.0, 1.0]}, "A_rob") == "100 [100, 100]"
    assert rounding.interval({"A_rob": 0.99, "A_rob_stderr": 0.01}, "A_rob") == (pytest.approx(0.9704), 1.0)


@pytest.fixture(scope="module")
def new_and_old(tmp_path_factory):
    return written(tmp_path_factory.mktemp("two"), [("TRADES", NEW), ("old", OLD)])


def test_the_table_has_the_numbers_of_the_metrics(new_and_old):
    page = new_and_old
    header, *rows = page.tables["Accuracies in percent, with 95 % intervals"]
    assert header == ["Figure", "TRADES", "old"]
    numbers = {row[0].partition(":")[0]: row[1:] for row in rows}
    assert numbers == {
        "A_nat": ["97.5 [96.5, 98.5]"] * 2,
        "A_rob": ["93.3 [91.6, 94.7]", "93.3 [91.7, 94.9]"],
        "A_strong": ["89.4 [87.3, 91.2]", "-"],
        "A_sa(2)": ["69 [63, 75]"] * 2,
        "A_tr(2)": ["67 [61, 73]"] * 2,
    }


def test_the_numbers_of_the_curves_are_those_of_the_metrics(new_and_old):
    page = new_and_old
    picked = page.tables["Accuracy on the images picked, in percent"][1:]
    by_margin = ["TRADES", "by the smallest clean margins"]
    assert picked[:2] == [[*by_margin, "10", "10 [2, 40]"], [*by_margin, "100", "42 [33, 52]"]]
    assert len(picked) == 6
    radii = page.tables["Mean radius of the most fragile images, with 95 % intervals"]
    assert radii == [["Model", "worst 1 %"], ["TRADES", "0.021 [0.010, 0.030]"], ["old", "-"]]
    by_scale = page.tables["In percent, as the logits are multiplied"]
    assert by_scale[2] == ["TRADES", "1", "84", "2", "69", "67"]
    assert page.tables["Accuracy after each attack"][1][3:] == ["97.5", "89.9", "89.4"]
    of_classes = page.tables["In percent; all intervals of a column hold at once"]
    assert of_classes[1] == ["0", "100", "99 [92, 100]", "30 [20, 40]"]
    assert len(of_classes) == 11


def test_settings_seeds_hashes_and_the_command_are_there_and_results_are_not_among_them(new_and_old):
    rows = new_and_old.tables["Settings, seeds, versions and hashes"]
    settings = {name: values for name, *values in rows}
    assert settings["attack.seed"] == ["7", "7"]
    assert settings["suite.version"] == ["strong", "-"]
    assert settings["suite.deviations"][0] == SUITE["deviations"][0]
    assert settings["hashes.weights"] == ["sha256abc", "-"]
    assert settings["command"][0] == NEW["command"]
    assert settings["date"][0] == "2026-11-29"
    assert not [name for name in settings if name.startswith(("A_", "budget", "classes", "threat", "suite.acc"))]


def test_the_verdict_counts_images():
    assert words.verdict(NEW) == (
        "Of 100 images, at least 11 (95 % interval 9 to 13) are misclassified when an attacker may change each pixel "
        "value by up to 0.3 of the range from 0 to 1; without an attacker 3 are."
    )
    precise = words.verdict({**NEW, "A_strong": 0.8943, "A_strong_interval": [0.8881, 0.9002], "A_nat": 0.9999})
    assert precise.startswith("Of 1,000 images, at least 106 (95 % interval 100 to 112) are")
    assert precise.endswith("without an attacker fewer than 1 are.")


@pytest.mark.parametrize(("norm", "says"), [("l2", "by up to 0.3 in Euclidean length"), ("l1", "by up to 0.3 in sum")])
def test_the_verdict_knows_the_norms(norm, says):
    assert says in words.verdict({**NEW, "attack": {**ATTACK, "norm": norm}})


def test_one_attack_is_an_upper_bound():
    found = words.verdict(OLD)
    assert "at least 7 (95 % interval 5 to 8)" in found
    assert "Only one attack was tried" in found
    assert "upper bound" in found
    assert "Only one" not in words.verdict(NEW)


def test_who_hides_comes_first(tmp_path):
    honest, masked = ("TRADES", {**OLD, **STRONG}), ("other MASKED", {**OLD, **STRONG, **HIDES})
    page = written(tmp_path, [honest, masked])
    start = page.text.index("This classifier hides from attacks")
    assert start < page.text.index("Of 100 images")
    assert "92.0 % of the images" in page.text.replace("\u00a0", " ")
    assert page.text.index(f"other: {ALARM['message']}") > start
    assert "verdict masked" in page.attributes("class")
    assert "verdict masked" not in written(tmp_path, [honest]).attributes("class")


def test_alarms_are_said_once_and_none_is_said_too(new_and_old):
    assert words.alarms([("a MASKED", MASKED), ("b MASKED", MASKED)]) == [("", ALARM["message"])]
    assert words.alarms([("a MASKED", MASKED), ("b", NEW)]) == [("a", ALARM["message"])]
    assert "Alarms None." in new_and_old.text


@pytest.mark.parametrize("metrics", [OLD, {"A_rob": 0.5, "non_uniform": []}, {"A_rob": 0.5}, {"non_uniform": []}])
def test_older_and_quoted_metrics_have_a_report(tmp_path, metrics):
    page = written(tmp_path, [("old", metrics)])
    assert not {"budget", "threat", "confidence", "suite", "classes0", "images"} & set(page.attributes("id"))
    assert len(page.tables) == 2


def test_the_metrics_of_the_repository_have_a_report(tmp_path):
    folder = Path(__file__).resolve().parents[1] / "results" / "mnist"
    results = [(path.parent.name, json.loads(path.read_text())) for path in sorted(folder.glob("*/metrics.json"))]
    assert results
    page = written(tmp_path, results)
    for label, metrics in results:
        assert label in page.text
        assert f"{100 * metrics['A_strong']:.1f} [" in page.text


def everything(tmp_path, name="report.html"):
    path = tmp_path / name
    labels = [("TRADES", NEW), (f"{HOSTILE} MASKED", {**MASKED, "classes": classes(30), "checkpoint": HOSTILE})]
    pictures = [[picture(), picture("first_broken", (8, 8, 3), radius=None)], [picture("hardest", broken_by=None)]]
    tables = [("Pairs <&>", ["pair", "difference"], [[HOSTILE, "+1.2"]])]
    report.write_report(path, labels, pictures=pictures, tables=tables, title=f"Title {HOSTILE}")
    return path


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return everything(tmp_path_factory.mktemp("full"))


def test_what_users_name_is_text_and_nothing_else(full):
    text = full.read_text(encoding="utf-8")
    assert "<script" not in text
    page = Page(text)
    assert page.text.count(HOSTILE) > 10  # $y$ is no formula either
    assert ["pair", "difference"] in page.tables["Pairs <&>"]


def test_nothing_is_loaded_and_names_are_unique(full):
    text = full.read_text(encoding="utf-8")
    page = Page(text)
    addresses = [address for name in ("src", "href", "xlink:href", "srcset") for address in page.attributes(name)]
    assert addresses
    assert {address.partition(",")[0][:15] for address in addresses if address[0] != "#"} <= {
        "data:image/png;",
        "data:",
    }
    assert not re.findall(r"@import|https?:|url\((?!#)", text)
    assert not {"script", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    names = page.attributes("id")
    assert len(names) == len(set(names))
    assert {address[1:] for address in addresses if address[0] == "#"} <= set(names)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(names)


def test_the_same_values_give_the_same_bytes(full, tmp_path):
    assert everything(tmp_path).read_bytes() == full.read_bytes()


def test_headings_are_in_order_and_pictures_have_words(full):
    page = Page(full.read_text(encoding="utf-8"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(np.diff(levels)) == 1
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in drawings)
    assert len(drawings) == 7
    boxes = [attributes for _, attributes in page.tags if attributes.get("class") == "scroll"]
    assert all(box["tabindex"] == "0" and box["role"] == "region" and box["aria-label"] for box in boxes)
    assert dict(page.tags)["html"] == {"lang": "en"}
    assert ("a", {"class": "skip", "href": "#content"}) in page.tags


def drawn(draw, *arguments):
    axes = Figure().subplots()
    return axes, draw(axes, *arguments)


def test_the_budget_curve_has_its_points_and_bands():
    axes, legend = drawn(charts.budget, [("old", OLD), ("new", NEW)])
    assert axes.lines[0].get_xydata().tolist() == [[0.01, 0.1], [0.1, 0.42], [1, 0.894]]
    assert axes.lines[0].get_color() == COLOURS[1]  # the second model's, although the first has no curve
    band = axes.collections[0].get_paths()[0].vertices
    assert {0.02, 0.4, 0.33, 0.52} <= set(band[:, 1])
    assert [line.get_label() for line in legend] == ["new", "picks by the smallest clean margins", "picks at random"]


def test_the_threat_curve_has_a_line_at_epsilon():
    axes, _ = drawn(charts.threat, [("new", NEW)])
    curve, epsilon = axes.lines
    assert curve.get_xydata()[3].tolist() == [0.3, pytest.approx(0.67)]
    assert epsilon.get_xdata() == [0.3, 0.3]


def test_the_confidence_curve_marks_the_model_as_trained():
    axes, _ = drawn(charts.confidence, [("new", NEW)])
    a_sa, star_sa, a_tr, star_tr = axes.lines
    assert a_sa.get_xydata().tolist() == [[0.2, 0.88], [0.843, 0.687], [0.99, 0.5]]
    assert star_sa.get_xydata().tolist() == [[0.843, 0.687]]
    np.testing.assert_allclose(star_tr.get_xydata(), [[0.843, 0.667]])
    assert a_tr.get_linestyle() == "--"


def test_of_many_classes_the_weakest_and_strongest_are_drawn():
    axes, _ = drawn(charts.classes, [("new", {"classes": classes(200)})])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [*map(str, range(10)), *map(str, range(190, 200))]
    assert [bar.get_width() for bar in axes.patches] == [
        classes(200)[n]["A_strong"] for n in (*range(10), *range(190, 200))
    ]
    assert len(shown_classes(classes(20))) == 20
    assert words.classes(NEW).startswith("Class 0 is the weakest (30 %) and class 9 the strongest (84 %)")
    assert "Class 0 was chosen beforehand, on 500 validation images: A_strong 30 % on its 100 images" in words.classes(
        NEW
    )


def test_a_change_is_magnified_around_grey():
    shown, factor = images.magnified(np.array([[0.0, 0.25], [-0.125, 0.1]]))
    assert factor == 2
    np.testing.assert_allclose(shown, [[0.5, 1.0], [0.25, 0.7]])
    assert images.magnified(np.zeros(3))[1] == 0


@pytest.mark.parametrize("shape", [(3, 5, 1), (3, 5, 3), (3, 5, 2)])
def test_an_image_in_the_page_has_its_pixels(shape):
    image = np.random.default_rng(0).uniform(size=shape)
    kind, _, code = images.data_uri(image).partition(",")
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(code))))
    expected = image if shape[-1] == 3 else image.mean(axis=-1)
    assert kind == "data:image/png;base64"
    np.testing.assert_array_equal(found, np.rint(255 * expected))


def test_an_image_says_what_became_of_it():
    (tile,) = images.tiles([picture()])
    assert tile.caption == (
        "Image 12: labelled 4, taken for 9, margin -0.25, smallest change found 0.0123, broken by apgd-ce."
    )
    assert [what for what, _, _ in tile.shown] == ["clean", "attacked", "change, magnified 5 times"]


def test_a_picture_takes_the_colours_of_the_page():
    drawing = svg(lambda axes: axes.plot([0, 1], color=COLOURS[1]), name="it", alt='a "b"')
    assert drawing.startswith('<svg role="img" aria-label="a &#34;b&#34;"')
    assert "var(--series-1)" in drawing
    assert "currentColor" in drawing
    assert not re.findall(r"#[0-9a-f]{6}", drawing)
    assert "<text" in drawing
    assert not re.findall(r"<style|<\?xml|<!DOCTYPE|<metadata|date", drawing)


def test_the_name_of_a_model_is_no_formula_and_not_hidden():
    drawing = svg(lambda axes: model_handles([("_a$y$", {})]), name="it", alt="")
    assert "_a$y$</text>" in drawing


DARK = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}

# The smallest contrast of any text, over its own background or the nearest one behind it.
CONTRAST = """
const parse = text => text.match(/[\\d.]+/g).map(Number);
const linear = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const luminance = c => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
const behind = e => { for (; e; e = e.parentElement) {
  const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } };
const ratio = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
  return (x + 0.05) / (y + 0.05); };
const texts = [...document.querySelectorAll("body *")].filter(e => e.closest("svg") ? e.tagName === "text" :
  [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()));
const lowest = Math.min(...texts.map(e => { const style = getComputedStyle(e);
  return ratio(parse(e.closest("svg") ? style.fill : style.color), behind(e)); }));
const probe = document.body.appendChild(document.createElement("i"));
const series = ["#777777", ...Array.from({length: 7}, (_, i) => `var(--series-${i})`)].map(colour => {
  probe.style.color = colour; return ratio(parse(getComputedStyle(probe).color), behind(probe)); });
return [lowest, Math.min(...series), texts.length];
"""


@pytest.fixture(scope="module")
def address(full):
    return full.as_uri()


def shown(browser, address, *, width=1280, media=None):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media or {"features": []})
    browser.get(address)
    return browser


def test_a_browser_has_nothing_to_complain_of_and_asks_nobody(browser, address):
    shown(browser, "about:blank").get_log("performance")
    shown(browser, address)
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert browser.execute_script("return [...document.images].every(image => image.naturalWidth > 0)")


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_width_makes_the_page_scroll_sideways(browser, address, width):
    shown(browser, address, width=width)
    opened = "document.querySelectorAll('details').forEach(box => box.open = true);"
    assert browser.execute_script(f"{opened} return document.documentElement.scrollWidth") <= width
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('svg, img, p')].map(e => e.getBoundingClientRect().right)"
    )
    assert max(boxes) <= width


@pytest.mark.parametrize(("media", "is_dark"), [(None, False), (DARK, True), ({"media": "print", **DARK}, False)])
def test_both_schemes_and_print_have_contrast(browser, address, media, is_dark):
    shown(browser, address, media=media)
    text, series, count = browser.execute_script(CONTRAST)
    assert count > 200
    assert text >= 4.5  # WCAG 2, level AA, for text
    assert series >= 3  # and for graphics
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper)[:3])) < 150) == is_dark


def test_the_keyboard_reaches_the_content_and_the_tables(browser, address):
    from selenium.webdriver.common.keys import Keys

    shown(browser, address, width=360).switch_to.active_element.send_keys(Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("class") == "skip"
    for _ in range(3):
        browser.switch_to.active_element.send_keys(Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("role") == "region"


def test_it_prints(browser, address):
    options = {"preferCSSPageSize": True, "printBackground": True}
    pdf = base64.b64decode(shown(browser, address).execute_cdp_cmd("Page.printToPDF", options)["data"])
    assert pdf.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 15

"""The page: what it says, what it hides from, and what it does in a browser."""

from __future__ import annotations

import base64
import io
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from browser import Browser
from PIL import Image, ImageChops, ImageDraw

from bidiffsr_cli.errors import InputError
from bidiffsr_cli.reports.chart import Axis, draw_chart
from bidiffsr_cli.reports.page import Exhibit, Page, Point, Table, Version, most_different, render_page
from bidiffsr_cli.reports.scores import scores_table

NAMES = ("parrot", "houses", "lighthouse")
HOSTILE = "</script><img src=x onerror=alert(1)>\"' onfocus=alert(2) {{7*7}} $title &lt; \u2028 \x00 \u202e \udcff"
VOID = {"meta", "link", "img", "br", "input"}
POINTS = [
    Point("bicubic", None, 29.8, 0.18, None),
    Point("fast", 5, 31.3, 0.06, 0.6),
    Point("fast", 1, 32.1, 0.09, 0.3),
]


class Outline(HTMLParser):
    """Tags of a document; `wrong` holds those that do not fit each other."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.wrong: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.wrong += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.wrong.append(tag)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def truth(name: str) -> Image.Image:
    with Image.open(Path(__file__).parents[1] / "pictures" / f"{name}.png") as image:
        return image.convert("RGB")


def views_of(name: str) -> Exhibit:
    """A picture, and it made small and large again in two ways."""
    original = truth(name)
    small = original.resize((64, 64), Image.Resampling.BICUBIC)
    bicubic = Version(
        "bicubic", small.resize(original.size, Image.Resampling.BICUBIC), {"psnr_y": 25.0, "seconds": 0.1}
    )
    smooth = Version("smooth", small.resize(original.size, Image.Resampling.LANCZOS), {"psnr_y": 26.0, "seconds": 0.2})
    nearest = Version("small", small.resize(original.size, Image.Resampling.NEAREST))
    return Exhibit(f"{name}.png", [nearest, bicubic, smooth, Version("original", original)], 3)


@pytest.fixture(scope="module")
def page() -> Page:
    table = Table("Means", ("", "PSNR-Y"), [("bicubic", "25.00"), ("smooth", "26.00")], "In dB.")
    pictures = [views_of(name) for name in NAMES]
    return Page("Three pictures", "Small and large again.", [table], pictures, POINTS, [("machine", "this one")])


@pytest.fixture(scope="module")
def file(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as a file."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(render_page(page), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page all of whose words are hostile."""
    image = truth("parrot").crop((0, 0, 40, 30))
    views = [Version(HOSTILE, image, {HOSTILE: 1.0}), Version(HOSTILE, ImageChops.invert(image), {"psnr_y": math.inf})]
    table = Table(HOSTILE, (HOSTILE, HOSTILE), [(HOSTILE, HOSTILE)] * 30, HOSTILE)
    points = [Point(HOSTILE, 1, 30.0, 0.1, 1.0), Point(HOSTILE, 2, math.inf, math.nan, 1.0)]
    page = Page(HOSTILE, HOSTILE, [table], [Exhibit(HOSTILE, views, None)], points, [(HOSTILE, HOSTILE)])
    path = tmp_path_factory.mktemp("hostile") / "page.html"
    path.write_text(render_page(page), encoding="utf-8")
    return path


# what the document says


def test_document_is_well_formed(file: Path, hostile: Path) -> None:
    for path in (file, hostile):
        html = path.read_text(encoding="utf-8")
        outline = Outline(html)
        assert not outline.wrong and html.startswith("<!DOCTYPE html>")
        assert outline.of("html") == [{"lang": "en"}] and len(outline.of("title")) == 1 + html.count("<svg") * (
            1 + html.count("<circle")
        )
        levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(b - a <= 1 for a, b in pairwise(levels))
        ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        assert all(image["alt"] for image in outline.of("img"))


def test_nothing_is_fetched_or_executed(file: Path, hostile: Path) -> None:
    for path in (file, hostile):
        html = path.read_text(encoding="utf-8")
        outline = Outline(html)
        policy = next(meta["content"] for meta in outline.of("meta") if "http-equiv" in meta) or ""
        assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy
        urls = [value for _, a in outline.tags for key, value in a.items() if key in ("src", "href", "action", "data")]
        assert urls and all((url or "").startswith("data:") for url in urls)
        assert not [
            key for _, attributes in outline.tags for key in attributes if key.startswith("on") or key == "style"
        ]
        assert len(outline.of("script")) == 1 and html.count("</script") == 1


def test_big_pictures_are_webp_and_crops_exact(page: Page) -> None:
    outline = Outline(render_page(Page("", "", [], page.pictures[:1])))
    images = []
    for attributes in outline.of("img"):
        data = base64.b64decode((attributes["src"] or "").partition(",")[2])
        image = Image.open(io.BytesIO(data))
        images.append((image.format, image.size, attributes["width"], image))
    assert [format for format, *_ in images] == ["WEBP"] * 4 + ["PNG"] * 12
    assert [(size, width) for _, size, width, _ in images[4:]] == [((64, 64), "192")] * 12
    [place, *_] = most_different(page.pictures[0].versions[3].image, page.pictures[0].versions[2].image)
    for (*_, crop), version in zip(images[4:8], page.pictures[0].versions, strict=True):
        expected = version.image.crop((*place, place[0] + 64, place[1] + 64))
        assert crop.convert("RGB").tobytes() == expected.tobytes()


def test_most_different_places() -> None:
    plain = Image.new("RGB", (400, 300), "grey")
    marked = plain.copy()
    draw = ImageDraw.Draw(marked)
    for (x, y), colour in {(16, 24): "white", (200, 200): (150, 150, 150), (304, 8): (200, 200, 200)}.items():
        draw.rectangle((x, y, x + 63, y + 63), fill=colour)
    assert most_different(plain, marked) == [(16, 24), (304, 8), (200, 200)]
    assert most_different(plain, plain) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (40, 30), (64, 64), (128, 130), (200, 64)])
def test_places_lie_inside_and_apart(size: tuple[int, int]) -> None:
    places = most_different(Image.new("RGB", size), Image.new("RGB", size, "white"))
    side = min(64, *size)
    assert places
    for x, y in places:
        assert 0 <= x <= size[0] - side and 0 <= y <= size[1] - side
    for index, (x, y) in enumerate(places):
        assert all(abs(x - a) >= side or abs(y - b) >= side for a, b in places[:index])


def test_first_choice_of_views() -> None:
    def shown(*labels: str, reference: int | None = None) -> tuple[int, int]:
        return Exhibit("", [Version(label, Image.new("RGB", (1, 1))) for label in labels], reference).shown

    assert shown("small", "Bicubic", "a", "b", "original", reference=4) == (1, 3)
    assert shown("a", "b") == (0, 1)
    assert shown("a", "bicubic") == (0, 1)
    assert shown("original", "a", reference=0) == (0, 1)
    assert shown("a", "original", reference=1) == (1, 0)


def test_best_scores_are_bold() -> None:
    html = scores_table("", [("a", {"psnr_y": 30.001, "lpips_alex": 0.2, "x": 1}), ("b", {"psnr_y": 30.004, "x": 2})])
    assert html.count("<b>") == 2 and html.count("<b>30.00</b>") == 2  # what reads alike is alike
    html = scores_table("", [("a", {"psnr_y": math.inf, "seconds": 2.0}), ("b", {"psnr_y": 40.0, "seconds": 1.0})])
    assert re.findall("<b>(.*?)</b>", html) == ["∞", "1.00"]
    assert "PSNR-Y ↑" in html and "s ↓" in html
    assert scores_table("", [("a", {}), ("b", {})]) == ""


def test_chart() -> None:
    svg = ET.fromstring(draw_chart(POINTS))
    circles, lines = (svg.findall(f".//{tag}") for tag in ("circle", "polyline"))
    assert len(circles) == 3 and len(lines) == 1
    radii = [float(circle.get("r", 0)) for circle in circles]
    assert radii[0] < radii[1] < radii[2]  # bicubic, then 1 step and 5
    texts = {" ".join("".join(text.itertext()).split()) for text in svg.findall(".//text")}
    assert {"bicubic", "fast 5 steps, 0.60 s", "1 step, 0.30 s"} <= texts
    places = [tuple(map(float, place.split(","))) for place in lines[0].get("points", "").split()]
    assert places[0][0] > places[1][0] and places[0][1] < places[1][1]  # 1 step: more PSNR, and more LPIPS
    assert "fast, 5 steps, 0.60 s: PSNR 31.30 dB, LPIPS 0.0600" in (svg.findtext("desc") or "")


def test_chart_of_odd_points() -> None:
    assert draw_chart([]) == draw_chart([Point("equal", 1, math.inf, 0.0, None)]) == ""
    ET.fromstring(draw_chart([Point("alone", None, 30.0, 0.0, None)]))
    crowd = [Point(f"model {i}", i, 30 + i / 1000, 0.1, 0.0) for i in range(1, 30)]
    assert draw_chart(crowd).count("<circle") == 29


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(29.2, 32.9, "30 31 32"), (0.041, 0.19, "0.05 0.10 0.15"), (0.0, 0.0011, "0.0000 0.0005 0.0010")],
)
def test_ticks(low: float, high: float, ticks: str) -> None:
    found = list(Axis(low, high, 0, 1).ticks())
    assert " ".join(text for _, text in found) == ticks
    assert all(value == pytest.approx(float(text)) for value, text in found)


def test_refused_pictures() -> None:
    def render(*sizes: tuple[int, int]) -> str:
        views = [Version("", Image.new("RGB", size)) for size in sizes]
        return render_page(Page("", "", [], [Exhibit("wide.png", views, None)]))

    with pytest.raises(ValueError):
        render((2, 2), (2, 3))
    with pytest.raises(ValueError):
        render((2, 2))
    with pytest.raises(InputError, match=r"wide\.png has 16384×1"):
        render((16384, 1), (16384, 1))


def test_a_page_of_nothing() -> None:
    assert not Outline(render_page(Page("Nothing", "", [], []))).of("section")


# what it does in a browser


def test_opens_without_a_message_or_request(browser: Browser, file: Path) -> None:
    browser.open(file)
    assert browser.driver.title == "Three pictures"
    assert browser.run("return [...document.images].every(image => image.complete && image.naturalWidth)")
    assert browser.messages() == [] and browser.requests() == [file.as_uri()]


def test_divider_follows_the_mouse(browser: Browser, file: Path) -> None:
    from selenium.webdriver import ActionChains

    browser.open(file)
    stage, divider = browser.middle(".stage"), browser.find(".divider")
    assert divider.get_attribute("aria-valuenow") == "50"
    before = shown(browser)
    width = stage.size["width"]
    hold = ActionChains(browser.driver).move_to_element(divider).click_and_hold()
    hold.move_by_offset(width // 4, 0).release().perform()
    assert divider.get_attribute("aria-valuenow") == "75"
    assert clip(browser) == pytest.approx(25, abs=0.5)
    hold = ActionChains(browser.driver).move_to_element(divider).click_and_hold()
    hold.move_by_offset(-width * 4 // 5, 0).release().move_by_offset(width // 2, 0).perform()
    assert divider.get_attribute("aria-valuenow") == "0"  # it stops at the edge, and once released follows no more
    assert clip(browser) == pytest.approx(100)
    ActionChains(browser.driver).move_to_element_with_offset(stage, width // 4, 40).click().perform()
    assert divider.get_attribute("aria-valuenow") == "75"
    after = shown(browser)
    assert differ(before, after, 0.55, 0.7) and not differ(before, after, 0.85, 0.95)
    assert browser.messages() == []


def test_divider_follows_the_keys(browser: Browser, file: Path) -> None:
    from selenium.webdriver import Keys

    browser.open(file)
    divider = browser.find(".divider")
    assert divider.aria_role == "slider" and divider.accessible_name == "Divider in parrot.png"
    browser.run("arguments[0].focus()", divider)
    pressed = [
        (Keys.ARROW_RIGHT, "51"),
        (Keys.ARROW_UP, "52"),
        (Keys.ARROW_LEFT, "51"),
        (Keys.ARROW_DOWN, "50"),
        (Keys.PAGE_UP, "60"),
        (Keys.HOME, "0"),
        (Keys.ARROW_LEFT, "0"),
        (Keys.END, "100"),
        (Keys.PAGE_DOWN, "90"),
    ]
    for key, value in pressed:
        divider.send_keys(key)
        assert divider.get_attribute("aria-valuenow") == value
        assert clip(browser) == pytest.approx(100 - int(value))
    assert divider.get_attribute("aria-valuetext") == "90 % bicubic, the rest smooth"


def test_focus_is_visible(browser: Browser, file: Path) -> None:
    from selenium.webdriver import ActionChains, Keys

    browser.open(file)
    for _ in range(20):
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        kind, width = browser.run(
            "const e = document.activeElement, handle = e.className === 'divider' ? '::after' : null;"
            "return [e.className || e.tagName, getComputedStyle(e, handle).outlineWidth]"
        )
        assert width == "3px", kind
        if kind == "divider":
            return
    raise AssertionError("the divider cannot be reached by Tab")


def test_selects_choose_the_views(browser: Browser, file: Path) -> None:
    from selenium.webdriver.support.select import Select

    browser.open(file)
    left, right = (Select(element) for element in browser.all(".picture:first-of-type select")[:2])
    assert (left.first_selected_option.text, right.first_selected_option.text) == ("bicubic", "smooth")
    before = shown(browser)
    right.select_by_visible_text("original")
    after = shown(browser)
    assert differ(before, after, 0.6, 0.9) and not differ(before, after, 0.1, 0.4)
    left.select_by_visible_text("original")  # the same on both sides: the whole picture
    assert browser.find(".view.left figcaption").text == "original"
    assert browser.style(".view.left", "clip-path") == "none"
    image = shown(browser).resize((256, 256))
    assert error(image.crop((0, 60, 256, 256)), truth("parrot").crop((0, 60, 256, 256))) < 12
    visible = [element.get_attribute("class") for element in browser.all(".stage .view") if element.is_displayed()]
    assert set(visible[0].split()) == {"view", "left", "right"} and visible[1:] == ["view left", "view right"] * 2


def test_magnifier_shows_one_place_of_all_views(browser: Browser, file: Path, page: Page) -> None:
    from selenium.webdriver import ActionChains

    browser.open(file)
    place, versions = browser.find(".magnifier .place"), page.pictures[0].versions
    first = most_different(versions[3].image, versions[2].image)
    assert place.text == f"x {first[0][0]}, y {first[0][1]}"
    browser.all(".picture:first-of-type button")[1].click()
    assert place.text == f"x {first[1][0]}, y {first[1][1]}"
    stage = browser.middle(".stage")
    middle = stage.size["width"] / 256  # CSS pixels of one of the picture
    ActionChains(browser.driver).move_to_element_with_offset(stage, round(-28 * middle), round(12 * middle)).perform()
    x, y = (int(value) for value in re.findall(r"\d+", place.text))
    assert abs(x - 68) <= 1 and abs(y - 108) <= 1
    for canvas, version in zip(browser.all(".picture:first-of-type canvas")[:4], versions, strict=True):
        data = browser.run("return arguments[0].toDataURL()", canvas)
        found = Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).convert("RGB")
        assert error(found, version.image.crop((x, y, x + 64, y + 64))) < 5  # WebP's
    ActionChains(browser.driver).move_to_element_with_offset(stage, round(127 * middle), round(127 * middle)).perform()
    assert place.text == "x 192, y 192"  # it stays inside


def test_hostile_words_do_nothing(browser: Browser, hostile: Path) -> None:
    browser.open(hostile)
    assert browser.messages() == [] and browser.requests() == [hostile.as_uri()]
    assert browser.run("return document.querySelectorAll('[onerror], [onfocus], img[src=x]').length") == 0
    for element in (browser.find("h1"), browser.find("h3"), browser.find(".stage .left figcaption")):
        assert element.text.startswith("</script><img src=x onerror=alert(1)>\"' onfocus=alert(2) {{7*7}} $title &lt;")
        assert element.text.endswith(r"\x00 \u202e \udcff")
    assert browser.all("option")[0].text.startswith("</script>")


def test_dark_and_light(browser: Browser, file: Path) -> None:
    looks = []
    for scheme in ("light", "dark"):
        browser.open(file, scheme=scheme)
        looks.append([luminance(browser.style("body", name)) for name in ("background-color", "color")])
        marks = [luminance(browser.style(f".chart .{name} circle", "fill")) for name in ("s0", "s1")]
        looks[-1] += marks
    (paper, ink, *marks), (dark_paper, dark_ink, *dark_marks) = looks
    assert contrast(paper, ink) > 7 and contrast(dark_paper, dark_ink) > 7 and paper > 0.9 > 0.1 > dark_paper
    assert all(contrast(paper, mark) > 4.5 for mark in marks)
    assert all(contrast(dark_paper, mark) > 4.5 for mark in dark_marks)


@pytest.mark.parametrize("width", [320, 360, 500, 800, 1280, 2000])
def test_no_scrolling_sideways(browser: Browser, file: Path, hostile: Path, width: int) -> None:
    for path in (file, hostile):
        browser.open(path, width=width)
        assert browser.run("return [document.documentElement.scrollWidth, innerWidth]") == [width, width]


def test_without_scripts_everything_is_there(browser: Browser, file: Path) -> None:
    browser.open(file, scripts=False)
    try:
        for selector, count in (
            (".view img", 12),
            (".view figcaption", 12),
            (".crops img", 36),
            ("table", 4),
            ("svg", 1),
        ):
            elements = browser.all(selector)
            assert len(elements) == count and all(element.is_displayed() for element in elements)
        for selector in ("select", ".divider", "canvas", "button"):
            assert not any(element.is_displayed() for element in browser.all(selector))
        boxes = [(element.rect["x"], element.rect["y"]) for element in browser.all(".view")]
        assert len(set(boxes)) == 12  # side by side, not upon each other
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)


def test_on_paper(browser: Browser, file: Path) -> None:
    browser.open(file, scheme="dark")
    browser.command("Emulation.setEmulatedMedia", media="print")
    try:
        assert all(element.is_displayed() for element in browser.all(".view"))
        assert not any(element.is_displayed() for element in browser.all("select, button, canvas, .divider, .frame"))
        assert browser.style("body", "background-color") == "rgb(255, 255, 255)"
        assert browser.style("figure", "break-inside") == "avoid"
    finally:
        browser.command("Emulation.setEmulatedMedia", media="")


def shown(browser: Browser) -> Image.Image:
    """The first slider as it looks, without divider, frame and words."""
    hide = "document.querySelectorAll('.divider, .frame, figcaption').forEach(e => e.style.opacity = arguments[0])"
    browser.run(hide, 0)
    image = Image.open(io.BytesIO(browser.find(".stage").screenshot_as_png)).convert("RGB")
    browser.run(hide, "")
    return image


def clip(browser: Browser) -> float:
    """How many per cent of the left view are cut off at its right."""
    found = re.fullmatch(
        r"inset\(0px (?:calc\(100% - ([\d.]+)%\)|([\d.]+)(?:%|px)) 0px 0px\)", browser.style(".left", "clip-path")
    )
    assert found, browser.style(".left", "clip-path")
    return 100 - float(found[1]) if found[1] else float(found[2])


def differ(a: Image.Image, b: Image.Image, start: float, end: float) -> bool:
    """Whether two pictures differ, more than by their rounding, in the columns between two parts of their width."""
    box = (round(start * a.width), 0, round(end * a.width), a.height)
    return error(a.crop(box), b.crop(box)) > 1


def error(a: Image.Image, b: Image.Image) -> float:
    """Mean absolute difference in levels."""
    data = ImageChops.difference(a, b).convert("L").tobytes()
    return sum(data) / len(data)


def luminance(colour: str) -> float:
    """WCAG's relative luminance of a computed colour."""
    levels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in levels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a: float, b: float) -> float:
    """WCAG's contrast of two luminances."""
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)

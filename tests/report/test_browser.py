"""The report in Chromium: nothing harmful runs, nothing leaves, and what can be pressed works, also by keyboard."""

from __future__ import annotations

import http.server
import threading

import pytest

from .conftest import PATIENCE
from .example import HARM

pytestmark = pytest.mark.browser

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DEVICES = {"desktop": {}, "phone": PHONE}


def with_responses(page):
    page.locator("#responses").scroll_into_view_if_needed()
    page.locator("#response-list[data-ready]").wait_for(state="attached")
    return page.locator("#response-list")


def with_curves(page):
    page.locator("#curves").scroll_into_view_if_needed()
    page.locator("#curve-panels[data-ready]").wait_for(state="attached")
    page.locator("[data-quantity=entropy] canvas").scroll_into_view_if_needed()
    return page.locator("[data-quantity=entropy]")


def resting_place(page, target):
    """Where the top of a link's target comes to rest, and how far the page can still be scrolled below it."""
    page.wait_for_function(
        """() => ["curve-panels", "response-list"].every((id) => {
            const list = document.getElementById(id), { top, bottom } = list.closest("section").getBoundingClientRect();
            return "ready" in list.dataset || bottom < -600 || top > innerHeight + 600;
        })"""
    )
    where = """(target) => [document.querySelector(target).getBoundingClientRect().top,
        document.documentElement.scrollHeight - innerHeight - scrollY].map(Math.round)"""
    seen = []
    while len(seen) < 5 or len(set(seen[-5:])) > 1:
        assert len(seen) < PATIENCE / 100, f"{target} does not come to rest"
        seen.append(tuple(page.evaluate(where, target)))
        page.wait_for_timeout(100)
    return seen[-1]


def picture(panel):
    return panel.locator("canvas").evaluate("canvas => canvas.toDataURL()")


# -- harm -------------------------------------------------------------------------------------------------------------


def test_responses_are_text_and_run_nothing(open_page):
    page = open_page()
    shown = with_responses(page)
    while page.locator("#response-more").is_visible():
        page.locator("#response-more").click()
    assert shown.locator("article").count() > 50
    assert shown.locator("script, img, svg, a, iframe, template, style").count() == 0
    attributes = shown.evaluate("list => [...list.querySelectorAll('*')].flatMap((one) => one.getAttributeNames())")
    assert not [name for name in attributes if name.startswith("on") or name in ("style", "href", "src")]
    text = shown.inner_text()
    for kind in ("script", "end of the data", "event", "template", "markup in MathML"):
        assert HARM[kind] in text, kind
    for number in ("U+202E", "U+2066", "U+2028", "U+200B", "U+0000"):
        assert number in text, number
    assert "\u202e" not in text
    assert "more characters" in text
    names = shown.evaluate("list => [...list.querySelectorAll('math')].map((one) => one.namespaceURI)")
    assert set(names) == {"http://www.w3.org/1998/Math/MathML"}
    fraction = shown.locator("math mfrac").first.bounding_box()
    assert fraction["height"] > 12  # two lines: it is drawn, not listed


def test_as_written_shows_the_source_of_formulas(open_page):
    page = open_page()
    shown = with_responses(page)
    page.locator("#response-find").fill("frac{1}")
    assert shown.locator("math").count() > 0
    page.locator("#response-source").check()
    assert shown.locator("math").count() == 0
    assert r"\(\frac{1}{2}\)" in shown.inner_text()


def test_nothing_can_be_fetched_and_no_added_script_runs(chromium, page_file):
    """Even a script on the page reaches no server: counted by a server."""
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b'<link rel="icon" href="data:,">')  # or the browser asks for one, some time later

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    context = chromium.new_context()
    context.set_default_timeout(PATIENCE)
    try:
        page = context.new_page()
        page.goto(address + "reachable")
        assert asked  # the browser could
        asked.clear()
        page.goto(page_file.as_uri())
        found = page.evaluate(
            """async (address) => {
                const found = { fetched: await fetch(address + "fetch").then(() => true, () => false) };
                await new Promise((done) => {
                    const image = new Image();
                    image.onload = image.onerror = done;
                    image.src = address + "image";
                });
                navigator.sendBeacon(address + "beacon");
                try { document.body.innerHTML += "<b>markup</b>"; found.markup = true; } catch { found.markup = false; }
                try {
                    const script = document.createElement("script");
                    script.append("window.harmed = 'added'");
                    document.body.append(script);
                } catch {}
                const link = document.createElement("a");
                link.href = "javascript:window.harmed='link'";
                document.body.append(link);
                link.click();
                await new Promise((done) => setTimeout(done, 300));
                return { ...found, harmed: window.harmed === undefined ? null : window.harmed };
            }""",
            address,
        )
        assert found == {"fetched": False, "markup": False, "harmed": None}
        assert asked == []
    finally:
        context.close()
        server.shutdown()


# -- what can be pressed ----------------------------------------------------------------------------------------------


def test_the_first_screen_says_what_was_run_and_every_verdict(open_page):
    page = open_page()
    facts = page.locator(".facts").inner_text()
    for word in ("Scale", "tiny", "Runs", "Seeds", "1, 2", "CPU-hours", "c0ffee0000", "2026-01-02"):
        assert word in facts
    assert page.locator(".tally .badge").all_inner_texts() == [
        "✓ 1 reproduced", "✗ 1 contradicted", "? 1 inconclusive", "– 1 not tested at this scale",
    ]  # fmt: skip
    claim = page.locator("#claim-1")
    assert claim.bounding_box()["y"] < 900
    assert not claim.locator("table").is_visible()
    claim.locator("summary").click()
    assert claim.locator("table").is_visible()
    assert "< 0.001" in claim.inner_text()
    assert claim.locator("svg[role=img]").count() == 2
    claim.locator("text=The figure that shows it").click()
    assert page.evaluate("location.hash") == "#figure-fig2"


@pytest.mark.parametrize("device", DEVICES)
def test_verdicts_of_statements_are_seen_without_scrolling_sideways(open_page, device):
    page = open_page(**DEVICES[device])
    tables = page.locator(".claim .scroll")
    for claim in page.locator(".claim summary").all():
        claim.click()
    assert tables.count() == 4
    for table in tables.all():
        assert table.evaluate("one => one.scrollWidth - one.clientWidth") <= 0
        box, badge = table.bounding_box(), table.locator(".badge").first.bounding_box()
        assert box["x"] <= badge["x"]
        assert badge["x"] + badge["width"] <= box["x"] + box["width"]
    tested, untested = page.locator("#claim-3 tbody tr").first, page.locator("#claim-4 tbody tr").first
    assert tested.locator("small").first.inner_text().endswith("paired · 2 seeds")
    assert untested.locator("small").first.inner_text().endswith("paired")
    assert tested.locator("td").last.inner_text() == "743"
    assert untested.locator("td").last.inner_text() == "–"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("target", ["#curves", "#tables", "#table-table2", "#runs", "#responses", "#about"])
def test_a_link_leads_to_its_target_whatever_is_filled_on_the_way(open_page, target, device):
    page = open_page(**DEVICES[device])
    if target == "#table-table2":
        page.locator("#claim-2 summary").click()
        page.locator(f"#claim-2 .see a[href='{target}']").click()
    else:
        page.locator(f"nav a[href='{target}']").click()
    for opened in (page, open_page(target, **DEVICES[device])):
        top, below = resting_place(opened, target)
        # under the bar of links; or the page ends
        assert abs(top - 64) <= 8 or below <= 2, (top, below)


def test_filters_of_responses(open_page):
    page = open_page()
    shown = with_responses(page)
    count = page.locator("#response-count")
    whole = int(count.inner_text().split()[0])
    page.locator("#response-method").select_option("grpo")
    page.locator("#response-correct").select_option("true")
    page.locator("#response-benchmark").select_option(index=1)
    page.locator("#response-backbone").select_option(index=1)
    assert 0 < int(count.inner_text().split()[0]) <= 2 < whole
    for card in shown.locator("article").all():
        assert "✓ correct" in card.inner_text()
        assert "GRPO" in card.inner_text()
    page.locator("#response-find").fill("nothing has this")
    assert shown.inner_text() == "No response is like that."
    assert count.inner_text().startswith("0 of ")


def test_methods_of_curves_are_switched_on_and_off(open_page):
    page = open_page()
    panel = with_curves(page)
    before = picture(panel)
    chip = page.locator("#curve-methods button", has_text="REINFORCE").first
    assert chip.get_attribute("aria-pressed") == "true"
    chip.focus()
    page.keyboard.press("Space")
    assert page.locator("#curve-methods button", has_text="REINFORCE").first.get_attribute("aria-pressed") == "false"
    assert page.evaluate("document.activeElement.textContent") == "REINFORCE"
    assert picture(panel) != before
    assert "REINFORCE," not in panel.locator(".plot").get_attribute("aria-label")
    page.keyboard.press("Space")
    assert picture(panel) == before
    for control in ("#curve-smooth", "#curve-bands"):
        page.locator(control).uncheck()
        assert picture(panel) != before
        page.locator(control).check()
    page.locator("#curve-choices button", has_text="None").click()
    assert "No method is switched on." in panel.inner_text()
    page.locator("#curve-choices button", has_text="Flips").click()
    assert page.locator("#curve-choices button", has_text="Flips").get_attribute("aria-pressed") == "true"
    assert page.locator('#curve-methods button[aria-pressed="true"]').count() == 3
    page.locator("#curve-backbone").select_option(index=1)
    assert "qwen3-80k" in panel.locator(".plot").get_attribute("aria-label").lower()


def test_curves_tell_their_values(open_page):
    page = open_page()
    panel = with_curves(page)
    plot = panel.locator(".plot")
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert "step" in panel.locator(".tip").inner_text()
    page.mouse.move(0, 0)
    plot.focus()
    page.keyboard.press("ArrowRight")
    last = panel.locator(".tip").inner_text()
    assert "step 4:" in last
    page.keyboard.press("ArrowLeft")
    assert "step 3:" in panel.locator(".tip").inner_text()
    page.keyboard.press("ArrowDown")
    assert panel.locator(".tip b").inner_text() != last.split("\n")[0]
    panel.locator(".values summary").click()
    assert (
        panel.locator(".values tbody tr").count() == page.locator('#curve-methods button[aria-pressed="true"]').count()
    )


def test_tables_are_sorted_by_their_heads(open_page):
    page = open_page()
    table = page.locator("#table-table2 table").first

    def column(index):
        return table.locator(f"tbody td:nth-child({index})").all_inner_texts()

    first = column(1)
    score = table.locator("thead th:nth-child(2)")
    score.locator("button").focus()
    page.keyboard.press("Enter")
    assert score.get_attribute("aria-sort") == "descending"
    assert column(2) == ["10.5 [9.0, 12]", "9.5 [8.0, 11]", "-2.0", "–"]  # as numbers; what is missing is last
    page.keyboard.press("Enter")
    assert score.get_attribute("aria-sort") == "ascending"
    assert column(2) == ["-2.0", "9.5 [8.0, 11]", "10.5 [9.0, 12]", "–"]
    page.keyboard.press("Enter")
    assert score.get_attribute("aria-sort") is None
    assert column(1) == first
    table.locator("thead th:nth-child(1) button").click()
    assert column(1) == sorted(first, key=str.lower)


def test_runs_are_found_and_have_a_page(open_page):
    page = open_page()
    rows = page.locator("#run-table tbody tr:visible")
    page.locator("#run-find").fill("asymgrpo seed-2 160k")
    assert rows.count() >= 1
    assert page.locator("#run-count").inner_text() == f"{rows.count()} run{'s' * (rows.count() != 1)}"
    link = rows.locator("a", has_text="AsymGRPO").first
    where = link.get_attribute("href")
    link.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#run-dialog")
    dialog.locator("h2", has_text="seed 2").wait_for()
    text = dialog.inner_text()
    for word in ("estimator.beta_pos", "v1", "assumed", "A <b>processor</b>", "0123456789abcdef", "snakemake -R train"):
        assert word in text
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert page.evaluate("document.activeElement.getAttribute('href')") == where
    again = open_page(where)  # an address of its own
    again.locator("#run-dialog h2", has_text="seed 2").wait_for()


def test_figures_are_enlarged(open_page):
    page = open_page()
    page.locator("#figure-fig2 button.zoom").focus()
    page.keyboard.press("Enter")
    image = page.locator("#zoom-image")
    width = image.bounding_box()["width"]
    page.keyboard.press("+")
    page.locator("#zoom-dialog [data-scale='1']").click()
    assert image.bounding_box()["width"] > 1.8 * width
    page.keyboard.press("0")
    assert image.bounding_box()["width"] == pytest.approx(width, abs=2)
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.dataset.zoom") == "fig2"


def test_the_first_key_leads_past_the_navigation(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.locator(".skip").bounding_box()["y"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_everything_that_can_be_pressed_has_a_name(open_page):
    page = open_page()
    with_curves(page)
    with_responses(page)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, a, input, select, img, [role=img], [role=region], dialog")]
            .filter((one) => !(one.getAttribute("aria-label") || one.labels?.[0]?.textContent || one.textContent.trim()
                || one.alt || document.getElementById(one.getAttribute("aria-labelledby"))))
            .map((one) => one.outerHTML.slice(0, 120)).filter((text) => !text.includes("zoom-image"))"""
    )
    assert nameless == []
    assert page.locator("h1").count() == 1
    assert (
        len(set(page.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")))
        == page.locator("[id]").count()
    )


# -- other ways to look at it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", DEVICES)
def test_light_and_dark_on_desktop_and_phone(open_page, tmp_path, device, scheme):
    page = open_page(color_scheme=scheme, **DEVICES[device])
    panel = with_curves(page)
    with_responses(page)
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0  # nothing makes the page wider than the screen
    canvas = panel.locator("canvas").bounding_box()
    assert 200 < canvas["width"] <= page.viewport_size["width"]
    contrast = page.evaluate(
        """() => {
            const light = (text) => {
                const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map((v) => v / 255)
                    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const back = (one) => { let at = one; while (at) { const c = getComputedStyle(at).backgroundColor;
                if (!/, 0\\)$|transparent/.test(c)) return c; at = at.parentElement; } return "rgb(255, 255, 255)"; };
            const read = "h1, .lede, .badge, .why, dt, dd, small, figcaption p, .chip, th button, td a";
            return [...document.querySelectorAll(read)].map((one) => {
                const [a, b] = [light(getComputedStyle(one).color), light(back(one))].sort((x, y) => y - x);
                return (a + 0.05) / (b + 0.05);
            }).reduce((x, y) => Math.min(x, y));
        }"""
    )
    assert contrast >= 4.5  # WCAG AA
    (tmp_path / "first.png").write_bytes(page.screenshot())
    shade = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (shade == "rgb(19, 20, 23)") == (scheme == "dark")


def test_curves_are_redrawn_for_the_other_scheme(open_page):
    page = open_page(color_scheme="light")
    panel = with_curves(page)
    before = picture(panel)
    page.emulate_media(color_scheme="dark")
    for _ in range(100):
        if picture(panel) != before:
            return
        page.wait_for_timeout(100)
    raise AssertionError("the curves are as they were")


def test_printed_it_has_everything_but_the_controls(open_page):
    page = open_page()
    page.emulate_media(media="print")
    for hidden in (".top", "#curve-controls", ".skip"):
        assert not page.locator(hidden).is_visible()
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#claim-1 table").is_visible()
    assert page.pdf()[:5] == b"%PDF-"
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert not page.locator("#claim-1").evaluate("one => one.open")


def test_without_scripts_verdicts_figures_tables_and_runs_are_there(chromium, page_file):
    context = chromium.new_context(java_script_enabled=False)
    context.set_default_timeout(PATIENCE)
    try:
        page = context.new_page()
        page.goto(page_file.as_uri())
        for part in ("#claim-1", "#figure-fig2 img", "#table-table2 table", "#run-table"):
            page.locator(part).first.scroll_into_view_if_needed()
            assert page.locator(part).first.is_visible(), part
        assert "need JavaScript" in page.locator("#curves").inner_text()
    finally:
        context.close()

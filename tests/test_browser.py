"""The site in a real browser, headless: nothing complains, sliders move, search finds, code copies, formulas are drawn,
dark and light can be read, a phone does not scroll sideways, and axe-core finds no serious violation.

`make test` looks at every page once and at five pages closely; `make test-all` looks at all of them closely."""
import functools, http.server, json, os, shutil, threading
from urllib.parse import urlparse

import pytest
from conftest import ALL, LESSONS, page_name

playwright = pytest.importorskip('playwright.sync_api', reason='playwright is not installed: pip install -e ".[dev]"')
BROWSER = os.environ.get('BROWSER_PATH') or next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason='no Chromium or Chrome on this machine (apt-get install chromium), or name one in BROWSER_PATH')

PAGES = ['index', 'api', *map(page_name, LESSONS)]
CLOSE = PAGES if ALL else ['index', 'lesson', 'attention', 'yarn', 'inference']
SLIDERS = [page_name(f) for f in LESSONS if 'te-frames' in f.read_text(encoding='utf-8')]


@pytest.fixture(scope='module')
def base(site):
    "Serve the site on this machine alone."
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *a): pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


@pytest.fixture(scope='module')
def browser():
    with playwright.sync_playwright() as p:
        b = p.chromium.launch(executable_path=BROWSER, args=['--no-sandbox'])
        yield b
        b.close()


@pytest.fixture
def visit(browser, base):
    "Open a page; what it complained about is in `page.complaints`. Badges from elsewhere are answered with an empty picture."
    contexts = []
    def open_page(name, **options):
        context = browser.new_context(**{'permissions': ['clipboard-read', 'clipboard-write'], **options}); contexts.append(context)
        page = context.new_page(); page.complaints = []
        def outside(route):
            if urlparse(route.request.url).hostname=='127.0.0.1': return route.continue_()
            if route.request.resource_type!='image': page.complaints.append(f'needs {route.request.url}')
            route.fulfill(status=200, content_type='image/svg+xml', body='<svg xmlns="http://www.w3.org/2000/svg" width="90" height="20"/>')
        page.route('**/*', outside)
        page.on('console', lambda m: page.complaints.append(m.text) if m.type=='error' else None)
        page.on('pageerror', lambda e: page.complaints.append(str(e)))
        page.on('response', lambda r: page.complaints.append(f'{r.status} {r.url}') if r.status>=400 else None)
        page.goto(f'{base}/{name}.html', wait_until='load')
        return page
    yield open_page
    for c in contexts: c.close()


@pytest.mark.parametrize('name', PAGES)
def test_page_loads_without_complaint(visit, name):
    "No error in the console, nothing fetched from elsewhere but badges, every picture drawn and described, solutions folded, no sideways scrolling on a phone."
    page = visit(name, viewport=dict(width=390, height=844))
    assert not page.complaints, page.complaints
    broken = page.evaluate('[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt || i.src.slice(0, 80))')
    assert not broken, f'pictures that are not drawn: {broken}'
    silent = page.evaluate('[...document.images].filter(i => !i.alt).length')
    assert not silent, f'{silent} pictures without a description'
    loose = page.evaluate('[...document.querySelectorAll("main pre")].filter(p => p.textContent.includes("#@title Solution") && !p.closest("details:not([open])")).length')
    assert not loose, f'{loose} solutions lie open'
    wide = page.evaluate('''document.documentElement.scrollWidth <= window.innerWidth ? [] : [...document.querySelectorAll('main *')]
        .filter(e => e.getBoundingClientRect().right > window.innerWidth + 1).slice(0, 5).map(e => e.outerHTML.slice(0, 120))''')
    assert page.evaluate('document.documentElement.scrollWidth') <= 390, wide


@pytest.mark.parametrize('name', SLIDERS)
def test_sliders_move_their_frames(visit, name):
    "One frame is seen at a time, and the bar chooses which."
    page = visit(name)
    for box in page.query_selector_all('.te-frames'):
        seen = lambda: box.evaluate('b => [...b.querySelectorAll(".te-frame")].map((f, i) => f.offsetParent ? i : -1).filter(i => i >= 0)')
        bar = box.query_selector('input[type=range]')
        start,last = int(bar.input_value()),int(bar.get_attribute('max'))
        assert seen()==[start] and last >= 1
        bar.focus(); bar.press('Home')
        assert seen()==[0]
        bar.press('ArrowRight')
        assert seen()==[1]
        bar.press('End')
        assert seen()==[last] and bar.get_attribute('aria-label')


def test_search_finds_yarn(visit):
    page = visit('index')
    page.fill('input[type=search]', 'YaRN')
    page.wait_for_function('document.querySelector(".smalldocs-search-results")?.innerText.includes("YaRN")', timeout=10_000)
    assert any('yarn.html' in (a.get_attribute('href') or '') for a in page.query_selector_all('.smalldocs-search-results a'))


def test_code_is_copied(visit):
    "The button of a code block puts its text on the clipboard."
    page = visit('attention')
    block = page.query_selector('main :is(.code-copy-outer-scaffold, div.sourceCode, pre):has(button)')
    text = block.query_selector('code').inner_text()
    block.hover(); block.query_selector('button').click()
    copied = page.evaluate('navigator.clipboard.readText()')
    assert copied.split()==text.split() and len(copied)>10


@pytest.mark.parametrize('name', ['yarn'])
def test_formulas_are_drawn(visit, name):
    page = visit(name)
    boxes = [m.bounding_box() for m in page.query_selector_all('main math')]
    assert boxes and all(b and b['width']>5 and b['height']>5 for b in boxes)
    assert '$$' not in page.inner_text('main')


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('name', CLOSE)
def test_page_is_accessible(visit, name, scheme):
    "axe-core: no serious or critical violation, contrast included, in both colour schemes."
    from axe_playwright_python.sync_playwright import Axe
    page = visit(name, color_scheme=scheme)
    dark = page.evaluate('getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g).slice(0, 3).map(Number).reduce((a, b) => a + b) < 384')
    assert dark==(scheme=='dark'), 'the page does not follow the reader\'s colour scheme'
    found = Axe().run(page, options={'resultTypes': ['violations'], 'runOnly': ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']}).response['violations']
    bad = [(v['id'], v['impact'], len(v['nodes']), v['nodes'][0]['html'][:200]) for v in found if v['impact'] in ('serious', 'critical')]
    assert not bad, json.dumps(bad, indent=1)

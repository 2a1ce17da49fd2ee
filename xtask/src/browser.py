#!/usr/bin/env python3
"""Opens a report in headless Chromium and uses it as a reader would: turns slices, hides outlines, sorts a table, on a wide and a narrow screen.

Needs: chromium and chromedriver, nothing of Python but what comes with it.

usage: browser.py REPORT.html PICTURES     exit 0: all is as it should be; PICTURES gets wide.png, narrow.png and dark.png
"""

import base64
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

report, pictures = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
pictures.mkdir(parents=True, exist_ok=True)
programs = {
    "chromedriver": shutil.which("chromedriver"),
    "chromium": shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome"),
}
for name, found in programs.items():
    if not found:
        sys.exit(f"expected {name} on the PATH, found none; on Debian: apt-get install chromium chromium-driver")
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
driver = subprocess.Popen([programs["chromedriver"], f"--port={port}"], stdout=subprocess.DEVNULL)
faults = []


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)["value"]


def expect(what, right):
    print(("ok      " if right else "WRONG   ") + what)
    if not right:
        faults.append(what)


try:
    for _ in range(100):
        try:
            call("GET", "/status")
            break
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    options = {"binary": programs["chromium"], "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]}
    wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
    session = "/session/" + call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]

    def run(script, *arguments):
        return call("POST", session + "/execute/sync", {"script": script, "args": list(arguments)})

    def devtools(name, **parameters):
        return call("POST", session + "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def screen(width, height):
        devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def picture(name):
        (pictures / name).write_bytes(base64.b64decode(call("GET", session + "/screenshot")))

    def element(selector):
        found = call("POST", session + "/element", {"using": "css selector", "value": selector})
        return session + "/element/" + next(iter(found.values()))

    def click(selector):
        run("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", selector)
        call("POST", element(selector) + "/click", {})

    def press(selector, keys):
        call("POST", element(selector) + "/value", {"text": keys})

    screen(1280, 900)
    call("POST", session + "/url", {"url": report.as_uri()})
    LEFT, RIGHT, HOME, END = "\ue012", "\ue014", "\ue011", "\ue010"
    shown = "return [...document.querySelectorAll('.viewer')[0].querySelectorAll('.slice')].filter(s => getComputedStyle(s).display !== 'none').map(s => s.dataset.z)"
    place = "return document.querySelector('.viewer .place').textContent"
    count = run("return document.querySelectorAll('.viewer')[0].querySelectorAll('.slice').length")
    expect(f"there are scans with slices ({count} in the first)", count > 1)
    expect("one slice is shown at a time", len(run(shown)) == 1)
    slider = ".viewer input[name=slice]"
    press(slider, HOME)
    first = run(shown)
    expect("Home shows the first slice and says so", run(place).startswith(f"Slice 1 of {count}, z = {first[0]}"))
    press(slider, RIGHT)
    second = run(shown)
    expect("the right arrow turns to the next slice", len(second) == 1 and second != first)
    expect("which is announced", run(place) == f"Slice 2 of {count}, z = {second[0]}")
    expect("and is the slider's own text", run("return document.querySelector(arguments[0]).getAttribute('aria-valuetext')", slider) == run(place))
    pixels = "const s = [...document.querySelectorAll('.viewer .slice')]; return s.slice(0, 2).map(e => e.querySelector('image').getAttribute('href'))"
    expect("its picture is another one", len(set(run(pixels))) == 2)
    press(slider, END)
    expect("End shows the last slice", run(place).startswith(f"Slice {count} of {count}"))
    press(slider, LEFT)
    expect("the left arrow turns back", run(place).startswith(f"Slice {count - 1} of {count}"))
    # Where the tumour is largest: both outlines are there.
    run("const r = document.querySelector(arguments[0]); r.value = r.defaultValue; r.dispatchEvent(new Event('input'))", slider)
    visible = "return [...document.querySelector('.viewer').querySelectorAll('.slice:not([hidden]) path.' + arguments[0])].filter(p => getComputedStyle(p).display !== 'none' && p.getBBox().width > 0).length"
    expect("the reference is outlined", run(visible, "reference") > 0)
    before = run(visible, "prediction")
    click(".viewer input[name=reference]")
    expect("its box hides it", run(visible, "reference") == 0)
    expect("and leaves the prediction", run(visible, "prediction") == before)
    click(".viewer input[name=reference]")
    expect("and shows it again", run(visible, "reference") > 0)
    seen = "return [...document.querySelector('.viewer').querySelectorAll('.slice:not([hidden]) image')].filter(i => getComputedStyle(i).display !== 'none').map(i => i.dataset.image)"
    names = run("return [...document.querySelector('.viewer select').options].map(o => o.value)")
    expect("the first image is shown", run(seen)[0] == names[0])
    run("const s = document.querySelector('.viewer select'); s.value = arguments[0]; s.dispatchEvent(new Event('change', {bubbles: true}))", names[1])
    expect("another image can be chosen", set(run(seen)) == {names[1]})
    run("const s = document.querySelector('.viewer select'); s.value = arguments[0]; s.dispatchEvent(new Event('change', {bubbles: true}))", names[0])
    expect("other scans stay as they were", run("return [...document.querySelectorAll('.viewer')].slice(1).every(v => v.querySelectorAll('.slice:not([hidden])').length === 1)"))

    run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    column = run("return [...document.querySelector('table[data-sortable]').tHead.rows[0].cells].findIndex(c => c.textContent === 'Dice') + 1")
    head = f"table[data-sortable] thead th:nth-child({column}) button"
    values = "return [...document.querySelector('table[data-sortable]').tBodies[0].rows].map(r => parseFloat(r.cells[arguments[0] - 1].textContent)).filter(v => !isNaN(v))"
    rows = run("return document.querySelector('table[data-sortable]').tBodies[0].rows.length")
    for way, reverse in [("ascending", False), ("descending", True)]:
        click(head)
        found = run(values, column)
        expect(f"the table sorts by Dice, {way}", found == sorted(found, reverse=reverse))
        expect("and says so", run("return document.querySelector(arguments[0]).parentElement.getAttribute('aria-sort')", head) == way)
    expect("no row is lost", run("return document.querySelector('table[data-sortable]').tBodies[0].rows.length") == rows)
    run("document.querySelectorAll('details').forEach(d => { d.open = false; })")

    unnamed = "return [...document.querySelectorAll('input, select, button, img, svg[role=img], [role=region]')].filter(e => !(e.labels?.length || e.textContent.trim() && e.tagName === 'BUTTON' || e.alt || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby'))).map(e => e.outerHTML.slice(0, 80))"
    expect(f"everything to use or see has a name {run(unnamed)}", run(unnamed) == [])
    levels = run("return [...document.querySelectorAll('h1, h2, h3, h4')].map(h => +h.tagName[1])")
    expect("headings go down one level at a time", levels[0] == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:])))
    expect("tables have captions", run("return [...document.querySelectorAll('table')].every(t => t.caption?.textContent)"))

    def at_slices():
        run("document.querySelector('#slices').scrollIntoView()")

    at_slices()
    picture("wide.png")
    for width, name in [(768, None), (360, "narrow.png")]:
        screen(width, 780)
        wide = run("return document.documentElement.scrollWidth")
        expect(f"nothing sticks out at {width} pixels ({wide})", wide <= width)
        if name:
            at_slices()
            picture(name)
    devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    screen(1280, 900)
    at_slices()
    picture("dark.png")

    messages = [entry["message"] for entry in call("POST", session + "/se/log", {"type": "browser"})]
    expect(f"the console is silent {messages}", messages == [])
    requests = [json.loads(entry["message"])["message"] for entry in call("POST", session + "/se/log", {"type": "performance"})]
    urls = [r["params"]["request"]["url"] for r in requests if r["method"] == "Network.requestWillBeSent"]
    others = [url for url in urls if not url.startswith(("data:", report.as_uri()))]
    expect(f"nothing is fetched from elsewhere {others}", others == [])
    call("DELETE", session)
finally:
    driver.terminate()
    driver.wait()
if faults:
    sys.exit(f"{len(faults)} of what a reader does went wrong")

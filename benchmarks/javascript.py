"""Compare the speed of javascript/bothways.js in Node and in Chromium with that of Python, and print what to download.

Run after make demo and make javascript/node_modules/.complete:
python -m benchmarks.javascript demo/out/messages.bundle demo/held_out.csv
It takes some minutes and prints two tables. The texts are those of the column text.
"""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from tools.javascript_site import JAVASCRIPT, served

import bothways

RUNTIME = JAVASCRIPT / "node_modules" / "onnxruntime-web" / "dist"
IN_BROWSER = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
SINGLE_TEXTS = 50
REPEATS = 3
MEASURE = """async (ort, load, bytes, texts) => {
  const seconds = async (action) => {  // the least of some times, so that other work on the machine matters little
    const times = [];
    for (let i = 0; i < REPEATS; i += 1) {
      const start = performance.now();
      await action();
      times.push((performance.now() - start) / 1000);
    }
    return Math.min(...times);
  };
  let model;
  const load_s = await seconds(async () => { model = await load(ort, bytes); });
  await model.predict(texts.slice(0, 5));
  const all_s = await seconds(() => model.predict(texts));
  const single_s = await seconds(async () => {
    for (const text of texts.slice(0, SINGLE)) await model.predict([text]);
  });
  return [load_s, all_s, single_s];
}""".replace("SINGLE", str(SINGLE_TEXTS)).replace("REPEATS", str(REPEATS))
NODE = f"""
import {{ readFileSync }} from "node:fs";
import * as ort from "{RUNTIME}/ort.node.min.mjs";
import {{ load }} from "{JAVASCRIPT}/bothways.js";
const measure = {MEASURE};
console.log(JSON.stringify(await measure(ort, load, readFileSync(process.argv[1]), JSON.parse(readFileSync(0)))));
"""
BROWSER = f"""async ([file, texts]) => {{
  const ort = await import("./node_modules/onnxruntime-web/dist/{IN_BROWSER[0]}");
  const {{ load }} = await import("./bothways.js");
  return ({MEASURE})(ort, load, await (await fetch(file)).arrayBuffer(), texts);
}}"""


def main() -> None:
    """Print a table of speeds, and a table of the files that a browser downloads."""
    bundle, table = map(Path, sys.argv[1:])
    with table.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        bothways.export_onnx(bundle, out=model)
        rows = {
            "Python": in_python(bundle, texts),
            "Node": in_node(model, texts),
            "Chromium": in_chromium(model, texts),
        }
        files = {path.name: path for path in [JAVASCRIPT / "bothways.js", *(RUNTIME / name for name in IN_BROWSER)]}
        files["the model"] = model
        print("| | load, s | texts/s | one text, ms |\n|---|--:|--:|--:|")
        for name, (load_s, all_s, single_s) in rows.items():
            print(f"| {name} | {load_s:.1f} | {len(texts) / all_s:.0f} | {1000 * single_s / SINGLE_TEXTS:.0f} |")
        print("\n| | MB | MB with gzip |\n|---|--:|--:|")
        for name, path in files.items():
            data = path.read_bytes()
            print(f"| {name} | {len(data) / 1e6:.2f} | {len(gzip.compress(data)) / 1e6:.2f} |")


def in_python(bundle: Path, texts: list[str]) -> list[float]:
    """Return the seconds to load the bundle, to predict all texts, and to predict some of them one by one."""
    model = bothways.load(bundle)
    model.predict(texts[:5])

    def one_by_one() -> None:
        for text in texts[:SINGLE_TEXTS]:
            model.predict([text])

    return [least_s(lambda: bothways.load(bundle)), least_s(lambda: model.predict(texts)), least_s(one_by_one)]


def least_s(action: Callable[[], object]) -> float:
    """Return the least of some times."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def in_node(model: Path, texts: list[str]) -> list[float]:
    """Return the same for onnxruntime-web in Node."""
    command = ["node", "--input-type=module", "--eval", NODE, str(model)]
    return list(
        json.loads(subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=True).stdout)
    )


def in_chromium(model: Path, texts: list[str]) -> list[float]:
    """Return the same for onnxruntime-web in Debian's Chromium."""
    with served(model.parent) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(url)
        found: Any = page.evaluate(BROWSER, [model.name, texts])
        browser.close()
        return list(found)


if __name__ == "__main__":
    main()

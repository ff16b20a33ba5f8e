// Predicts with ONNX Runtime for WebAssembly: node predict.mjs FILE.onnx < TEXTS, a JSON list. Prints a JSON list.
import { readFileSync } from "node:fs";
import * as ort from "../../javascript/node_modules/onnxruntime-web/dist/ort.node.min.mjs";
import { load } from "../../javascript/bothways.js";

const model = await load(ort, readFileSync(process.argv[2]));
const texts = JSON.parse(readFileSync(0, "utf-8"));
console.log(JSON.stringify(await model.predict(texts)));

// Prints the inputs of a model's graph. Each line of the input is a JSON document: `texts`, each a list of fields, and
// `tokenizer` and `linear` as in the metadata of the model, unless they are those of the line before.
import readline from "node:readline";
import { Ngrams, Tokenizer } from "../../javascript/bothways.js";

let tokenizer, ngrams;
for await (const line of readline.createInterface({ input: process.stdin })) {
  const document = JSON.parse(line);
  if (document.tokenizer) tokenizer = new Tokenizer(document.tokenizer);
  if (document.linear) ngrams = new Ngrams(document.linear);
  const inputs = document.texts.map((fields) => ({ ...tokenizer.read(fields), ...ngrams?.ofText(fields) }));
  console.log(JSON.stringify(inputs));
}

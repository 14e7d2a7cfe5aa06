// The half of llama_cpp.py that runs in Node.js: node llama_cpp.mjs FOLDER, with the request as JSON on stdin.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const packageFile = join(process.argv[2], "node_modules", "node-llama-cpp", "dist", "index.js");
const { getLlama } = await import(pathToFileURL(packageFile));
const { file, prompts, most } = JSON.parse(readFileSync(0, "utf8"));
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
const model = await llama.loadModel({ modelPath: file });
// Keys and values are of 16 bits unless something else is asked for.
const precision = { experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32" };
const context = await model.createContext({ contextSize: 512, threads: 2, flashAttention: false, ...precision });
const sequence = context.getSequence();
const replies = [];
for (const text of prompts) {
  await sequence.clearHistory();
  const prompt = model.tokenize(text, true);
  const ids = [];
  for await (const id of sequence.evaluate(prompt, { temperature: 0 })) {
    ids.push(id);
    if (ids.length >= most) break;
  }
  replies.push({ prompt, ids, text: model.detokenize(ids) });
}
process.stdout.write(JSON.stringify(replies), () => process.exit(0));

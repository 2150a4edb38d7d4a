// The SDKs of OpenAI and Anthropic for Node, called from outside: node node_sdks.mjs FOLDER
// FOLDER has the packages. Prints "ready PORT"; each line that a connection to it sends is a call:
//   {"id", "sdk", "client": {its options}, "method", "arguments": [...], "result": method of a stream}
// or {"id", "abort": true}. The answers to a call are {"id", "event"} for each event of a stream or
// item of a list, and at last {"id", "value", "requestId"} or {"id", "error"}.
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { createInterface } from "node:readline";

const require = createRequire(`${process.argv[2]}/`);
const SDKS = {
  openai: require("openai").default,
  anthropic: require("@anthropic-ai/sdk").default,
};

async function call({ sdk, client, method, arguments: words, result }, signal, send) {
  const names = method.split(".");
  const last = names.pop();
  const resource = names.reduce((value, name) => value[name], new SDKS[sdk](client));
  const value = await resource[last](...words, { signal });
  if (!value?.[Symbol.asyncIterator]) return { value, requestId: value?._request_id };
  for await (const event of value) send({ event });
  return { value: result && (await value[result]()) };
}

function described(error) {
  const { status, code, type, message, requestID } = error;
  return { name: error.constructor.name, status, code, type, message, requestId: requestID };
}

const server = createServer((socket) => {
  const running = new Map();
  const answer = (id) => (words) => socket.writable && socket.write(`${JSON.stringify({ id, ...words })}\n`);
  socket.on("error", () => {});
  socket.on("close", () => running.forEach((controller) => controller.abort()));
  createInterface({ input: socket }).on("line", (line) => {
    const request = JSON.parse(line);
    const send = answer(request.id);
    if (request.abort) return running.get(request.id)?.abort();
    const controller = new AbortController();
    running.set(request.id, controller);
    call(request, controller.signal, send)
      .catch((error) => ({ error: described(error) }))
      .then(send)
      .finally(() => running.delete(request.id));
  });
});
server.listen(0, "127.0.0.1", () => console.log(`ready ${server.address().port}`));

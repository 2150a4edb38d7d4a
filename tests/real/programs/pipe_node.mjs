// Standard input to text frames and text frames to standard output, one a line, with the
// WebSocket that is built into Node: node pipe_node.mjs URL [TOKEN]
// The end of standard input closes the connection; the last line is the way it was closed.
import { createInterface } from "node:readline";

const [url, token] = process.argv.slice(2);
const headers = token ? { Authorization: `Bearer ${token}` } : {};
const socket = new WebSocket(url, { headers });

socket.onopen = () => {
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (line) => socket.send(line));
  lines.on("close", () => socket.close(1000));
};
socket.onmessage = (event) => console.log(event.data);
socket.onclose = (event) => {
  console.log(JSON.stringify({ closed: event.code, reason: event.reason }));
  process.exit(0);
};

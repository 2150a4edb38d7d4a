// The console's connection to the broker: tables that it watches, questions and actions.
const RETRY_MS = [500, 1000, 2000, 4000, 8000];
const SILENCE_MS = 10000;
const ANSWER_MS = 15000;

export class WatchedTable {
  rows = new Map();
  matching = 0;
  total = 0;
  skip = 0;
  time = 0;
  isLoaded = false;
  problem = "";
  // The totals of a few seconds ago, by key, for rates.
  #past = [];

  apply(frame) {
    this.matching = frame.matching;
    this.total = frame.total;
    this.time = frame.time;
    this.isLoaded = true;
    if (frame.op === "snapshot") {
      this.rows = new Map(frame.rows.map(([key, ...cells]) => [key, cells]));
    } else {
      for (const key of frame.gone ?? []) this.rows.delete(key);
      for (const [key, cells] of Object.entries(frame.cells ?? {})) {
        // A new array, so that the array of a moment ago keeps its figures.
        const row = [...this.rows.get(key)];
        for (const [column, cell] of Object.entries(cells)) row[column] = cell;
        this.rows.set(key, row);
      }
      for (const [key, ...cells] of frame.rows ?? []) this.rows.set(key, cells);
      if (frame.order) this.rows = new Map(frame.order.map((key) => [key, this.rows.get(key)]));
    }
    this.#past.push({ time: frame.time, rows: new Map(this.rows) });
    while (this.#past.length > 2 && this.#past[1].time <= frame.time - 5) this.#past.shift();
  }

  // The growth of a total per second over the last seconds; null while that is not known.
  rate(key, column) {
    const before = this.#past.find((each) => each.rows.has(key));
    const now = this.rows.get(key);
    if (!before || !now || this.time - before.time < 0.5) return null;
    return Math.max(0, (now[column] - before.rows.get(key)[column]) / (this.time - before.time));
  }
}

export class Feed {
  // The last one: without the broker, the last figures stay on the page.
  greeting = null;
  // "connecting", "live", "waiting" (to try again), "silent", "refused" or "paused".
  status = "connecting";
  reason = "";
  retryAt = 0;
  #pass;
  #onChange;
  #socket = null;
  #tables = new Map();
  #wanted = new Map();
  #numbers = new Map();
  #pending = new Map();
  #next = 1;
  #failures = 0;
  #timer = 0;
  #newsAt = 0;
  #isPaused = false;
  #isAdmitted = false;

  constructor(pass, onChange) {
    this.#pass = pass;
    this.#onChange = onChange;
    setInterval(() => this.#checkSilence(), 1000);
    addEventListener("online", () => this.retry());
    document.addEventListener("visibilitychange", () => this.pause(document.hidden));
  }

  connect() {
    clearTimeout(this.#timer);
    this.#set("connecting");
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/admin`);
    this.#socket = socket;
    socket.onopen = () => this.#send({ op: "hello", token: this.#pass, version: 1 });
    socket.onmessage = ({ data }) => this.#received(JSON.parse(data));
    socket.onclose = (event) => {
      if (this.#socket === socket) this.#closed(event);
    };
  }

  retry() {
    if (this.status === "waiting") this.connect();
  }

  has(table) {
    return Boolean(this.greeting?.tables[table]);
  }

  columns(table) {
    return this.greeting?.tables[table] ?? [];
  }

  table(name) {
    return this.#tables.get(name) ?? new WatchedTable();
  }

  asks(question) {
    return (this.greeting?.questions ?? []).includes(question);
  }

  get actions() {
    return this.greeting?.actions ?? [];
  }

  watch(name, query = {}) {
    const text = JSON.stringify(query);
    if (this.#wanted.get(name)?.text === text) return;
    const same = this.#wanted.get(name)?.query;
    if (same?.filter !== query.filter || same?.sort !== query.sort) this.table(name).problem = "";
    this.#wanted.set(name, { query, text });
    this.#watch(name);
  }

  watchOnly(names) {
    for (const name of [...this.#wanted.keys()]) {
      if (names.includes(name)) continue;
      this.#wanted.delete(name);
      this.#tables.delete(name);
      if (this.#isOpen()) this.#send({ op: "unwatch", table: name });
    }
  }

  // Resolves to the answer; rejects with an Error whose message is for people.
  ask(question, of = "") {
    return this.#request({ op: "ask", question, of });
  }

  act(message) {
    return this.#request({ op: "act", ...message });
  }

  pause(isPaused) {
    if (isPaused === this.#isPaused) return;
    this.#isPaused = isPaused;
    if (this.#isOpen()) {
      for (const name of this.#wanted.keys()) {
        if (isPaused) this.#send({ op: "unwatch", table: name });
        else this.#watch(name);
      }
      this.#newsAt = Date.now();
      this.#set(isPaused ? "paused" : "live");
    } else if (!isPaused) this.retry();
  }

  #isOpen() {
    return this.#isAdmitted && this.#socket?.readyState === WebSocket.OPEN;
  }

  #watch(name) {
    if (!this.#isOpen() || this.#isPaused || !this.has(name)) return;
    const id = this.#next++;
    const { query } = this.#wanted.get(name);
    this.#numbers.set(name, { id, skip: query.skip ?? 0, seq: null });
    this.#send({ op: "watch", table: name, id, ...query });
  }

  #send(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #request(message) {
    if (!this.#isOpen()) return Promise.reject(new Error("The broker is not connected."));
    const id = this.#next++;
    this.#send({ ...message, id });
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#settle(id)?.reject(new Error("No answer came.")), ANSWER_MS);
      this.#pending.set(id, { resolve, reject, timer });
    });
  }

  #settle(id) {
    const waiting = this.#pending.get(id);
    if (waiting) clearTimeout(waiting.timer);
    this.#pending.delete(id);
    return waiting;
  }

  #received(frame) {
    this.#newsAt = Date.now();
    if (this.status === "silent") this.#set("live");
    switch (frame.op) {
      case "hello_ack":
        this.greeting = frame;
        this.#isAdmitted = true;
        this.#failures = 0;
        this.#set(this.#isPaused ? "paused" : "live");
        for (const name of this.#wanted.keys()) this.#watch(name);
        break;
      case "snapshot":
      case "delta":
        this.#frame(frame);
        break;
      case "answer":
        this.#settle(frame.id)?.resolve(frame.answer);
        break;
      case "effect":
        this.#settle(frame.id)?.resolve(frame);
        break;
      case "error":
        if (frame.id && this.#pending.has(frame.id)) {
          this.#settle(frame.id).reject(new Error(frame.message));
        } else if (frame.table && this.#wanted.has(frame.table)) {
          this.#ensure(frame.table).problem = frame.message;
        } else console.warn(frame.code, frame.message);
    }
    this.#onChange(frame);
  }

  #ensure(name) {
    if (!this.#tables.has(name)) this.#tables.set(name, new WatchedTable());
    return this.#tables.get(name);
  }

  #frame(frame) {
    const number = this.#numbers.get(frame.table);
    if (!number || !this.#wanted.has(frame.table)) return;
    if (frame.op === "snapshot") {
      if (frame.id && frame.id !== number.id) return;
    } else if (number.seq === null) {
      return; // of an earlier watch
    } else if (frame.seq !== number.seq + 1) {
      number.seq = null;
      this.#send({ op: "resync", table: frame.table });
      return;
    }
    number.seq = frame.seq;
    const table = this.#ensure(frame.table);
    table.skip = number.skip;
    table.problem = "";
    table.apply(frame);
  }

  #closed({ code, reason }) {
    this.#isAdmitted = false;
    for (const id of [...this.#pending.keys()]) {
      this.#settle(id).reject(new Error("The connection to the broker broke off."));
    }
    this.reason = reason;
    if (code === 4003) {
      this.#set("refused");
      return;
    }
    const wait = RETRY_MS[Math.min(this.#failures, RETRY_MS.length - 1)] * (0.75 + Math.random() / 2);
    this.#failures += 1;
    this.retryAt = Date.now() + wait;
    this.#set("waiting");
    this.#timer = setTimeout(() => this.connect(), wait);
  }

  #checkSilence() {
    // The table of the broker changes every second, so silence means that it hangs.
    if (this.status === "live" && this.has("broker") && Date.now() - this.#newsAt > SILENCE_MS) {
      this.#set("silent");
    } else if (this.status === "waiting" || this.status === "silent") this.#onChange(null);
  }

  #set(status) {
    this.status = status;
    if (status !== "waiting") this.retryAt = 0;
    this.#onChange(null);
  }
}

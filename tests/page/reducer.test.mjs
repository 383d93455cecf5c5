// The reducer, history and why of the page, on events made by hand: run by `node --test`.

import assert from "node:assert/strict";
import { test } from "node:test";
import page from "./page.mjs";

const { History, Why, INVARIANTS, badEvent, cellOf, copyState, idOf, inOrder, initialState, reduce, step } = page;
const VOTERS = [0, 1, 2];

/** Events of three nodes, with numbers and times given out in order. */
class Run {
  constructor() {
    this.events = [];
    this.seqs = {};
    this.boots = { 0: "aaaa", 1: "bbbb", 2: "cccc" };
    this.t = 100;
  }

  tell(n, k, fields = {}) {
    this.t += 0.001;
    this.seqs[n] = (this.seqs[n] || 0) + 1;
    const event = { v: 1, n, boot: this.boots[n], seq: this.seqs[n], t: this.t, lc: this.events.length, k, ...fields };
    this.events.push(event);
    return event;
  }

  boot(n, z = [0, 0], epoch = 0) {
    this.seqs[n] = 0;
    return this.tell(n, "boot", { pid: 1, wall_ms: 1, cluster: "demo", voters: VOTERS, z, snapshot: [0, 0], accepted: epoch, current: epoch, joined: true });
  }

  leads(n, epoch) {
    for (const phase of ["DISCOVERY", "SYNCHRONIZATION", "BROADCAST"]) this.tell(n, "state", { role: "LEADING", phase, epoch, leader: n, why: "established", text: "a quorum holds the initial history", have: VOTERS, need: 2 });
  }

  follows(n, leader, epoch) {
    this.tell(n, "state", { role: "FOLLOWING", phase: "BROADCAST", epoch, leader, why: "up_to_date", text: "up to date" });
  }

  /** Three nodes, 0 leads epoch 1. */
  static ready() {
    const run = new Run();
    for (const n of VOTERS) run.boot(n);
    run.leads(0, 1);
    run.follows(1, 0, 1);
    run.follows(2, 0, 1);
    return run;
  }

  propose(z, prev) {
    this.tell(0, "propose", { z0: z, z, count: 1, prev });
    for (const n of [1, 2]) this.tell(0, "send", { type: "PROPOSE", to: n, mid: `${n}-p${z}`, z0: z, z, count: 1 });
  }

  receive(n, z) {
    this.tell(n, "recv", { type: "PROPOSE", from: 0, mid: `${n}-p${z}`, z0: z, z, count: 1 });
  }

  ack(n, z) {
    this.tell(n, "persist", { z, ms: 1 });
    this.tell(n, "send", { type: "ACK", to: 0, mid: `${n}-a${z}`, z });
    this.tell(0, "ack", { from: n, z, have: [0, n], need: 2 });
  }

  write(z, prev, digest = "00000000000000aa") {
    this.propose(z, prev);
    this.tell(0, "persist", { z, ms: 1 });
    this.receive(1, z);
    this.ack(1, z);
    this.tell(0, "commit", { z, epoch: z[0], mid: `c${z}`, have: [0, 1], need: 2 });
    this.tell(0, "apply", { z0: z, z, count: 1, digest });
    this.tell(0, "client", { what: "ok", z0: z, z, count: 1 });
    this.tell(1, "commit", { z, epoch: z[0], by: "COMMIT" });
    this.tell(1, "apply", { z0: z, z, count: 1, digest });
  }

  get history() {
    const history = new History();
    for (const event of this.events) history.add(event);
    return history;
  }

  get state() {
    return this.history.state;
  }
}

const bad = (state) => Object.keys(state.checks).filter((name) => state.checks[name].bad);
const codes = (answer) => answer.clauses.map((clause) => clause.code);
const why = (run) => { const { history } = run; return new Why(history, history.end - 1, history.state); };

test("an entry goes from proposed to disk to committed to applied", () => {
  const run = Run.ready();
  const cells = () => cellOf(run.state.nodes[1], [1, 1]);
  run.propose([1, 1], [0, 0]);
  assert.equal(cells(), "absent");
  run.receive(1, [1, 1]);
  assert.equal(cells(), "proposed");
  run.ack(1, [1, 1]);
  assert.equal(cells(), "fsynced");
  run.tell(1, "commit", { z: [1, 1], epoch: 1, by: "COMMIT" });
  assert.equal(cells(), "committed");
  run.tell(1, "apply", { z0: [1, 1], z: [1, 1], count: 1, digest: "00000000000000aa" });
  assert.equal(cells(), "applied");
});

test("what is cut off is shown as truncated, and the log goes on from there", () => {
  const run = Run.ready();
  run.write([1, 1], [0, 0]);
  run.propose([1, 2], [1, 1]);
  run.receive(2, [1, 2]);
  run.tell(2, "truncate", { z: [1, 1], was: [1, 2] });
  const { nodes } = run.state;
  assert.equal(cellOf(nodes[2], [1, 2]), "truncated");
  assert.deepEqual(nodes[2].proposed, [1, 1]);
});

test("an entry of an epoch that a restarted node never had is not in its log", () => {
  const run = Run.ready();
  run.events.push({ v: 1, k: "snapshot", n: 2, boot: "cccc", seq: 90, t: run.t + 1, state: { boot: "cccc", seq: 90, t: run.t + 1, role: "FOLLOWING", phase: "BROADCAST", epoch: 3, leader: 0, accepted_epoch: 3, proposed: [3, 4], last: [3, 4], committed: [3, 4], applied: [3, 4], snapshot: [0, 0], digest: "aa", game: null, tail: [], ends: [[1, 8], [3, 4]], voters: VOTERS, quorum: 2, cluster: "demo" } });
  const { nodes } = run.state;
  assert.equal(cellOf(nodes[2], [1, 8]), "applied");
  assert.equal(cellOf(nodes[2], [1, 9]), "absent");
  assert.equal(cellOf(nodes[2], [2, 1]), "absent");
});

test("a run in which all promises hold turns nothing red", () => {
  const run = Run.ready();
  for (let i = 1; i < 40; i += 1) run.write([1, i], i === 1 ? [0, 0] : [1, i - 1], `00000000000000${String(i).padStart(2, "0")}`);
  const { checks } = run.state;
  assert.deepEqual(bad(run.state), []);
  for (const name of INVARIANTS.filter((each) => each !== "lost")) assert.ok(checks[name].n > 0, `${name} was checked`);
});

const BREAKS = {
  one_leader: (run) => run.leads(1, 1),
  prefix: (run) => { run.tell(2, "apply", { z0: [1, 1], z: [1, 2], count: 2, digest: "00000000000000bb" }); },
  order: (run) => run.tell(1, "apply", { z0: [1, 1], z: [1, 1], count: 1, digest: "00000000000000aa" }),
  ack: (run) => { run.receive(2, [1, 1]); run.tell(2, "send", { type: "ACK", to: 0, z: [1, 1] }); },
  quorum: (run) => { run.propose([1, 2], [1, 1]); run.tell(0, "commit", { z: [1, 2], epoch: 1, mid: "c", have: [0], need: 2 }); },
  lost: (run) => run.leads(2, 2),
  hash: (run) => { run.receive(2, [1, 1]); run.tell(2, "apply", { z0: [1, 1], z: [1, 1], count: 1, digest: "00000000000000ff" }); },
  client: (run) => { run.propose([1, 2], [1, 1]); run.tell(0, "client", { what: "ok", z0: [1, 2], z: [1, 2], count: 1 }); },
};

for (const [name, breaks] of Object.entries(BREAKS)) {
  test(`a broken promise is told by its own chip, with the two events: ${name}`, () => {
    const run = Run.ready();
    run.write([1, 1], [0, 0]);
    assert.deepEqual(bad(run.state), []);
    breaks(run);
    const { state } = run;
    assert.ok(bad(state).includes(name), `red: ${bad(state)}`);
    const { a, b } = state.checks[name].bad;
    const ids = run.events.map(idOf);
    assert.ok(ids.includes(a) && ids.includes(b) && a !== b, "both events are in the run");
  });
}

test("what an epoch committed may be heard of before how it began", () => {
  // Another node's story arrived first: the page found it as it is now, and the leader's from the beginning.
  const run = new Run();
  for (const n of VOTERS) run.boot(n);
  run.tell(1, "commit", { z: [1, 2], epoch: 1, by: "UPTODATE" });
  run.tell(1, "apply", { z0: [1, 1], z: [1, 2], count: 2, digest: "00000000000000aa" });
  run.tell(1, "client", { what: "ok", z0: [1, 2], z: [1, 2], count: 1 });
  run.leads(0, 1);
  assert.deepEqual(bad(run.state), []);
  run.leads(2, 2);
  assert.deepEqual(bad(run.state), ["lost", "client"], "but the next one begins without it");
});

test("a copy that was counted before its sync is found out when the sync is told", () => {
  const run = Run.ready();
  run.propose([1, 1], [0, 0]);
  run.tell(0, "commit", { z: [1, 1], epoch: 1, mid: "c", have: [0, 1], need: 2 });
  assert.deepEqual(bad(run.state), []);
  run.tell(1, "persist", { z: [1, 1], ms: 1 });
  assert.deepEqual(bad(run.state), ["quorum"]);
});

test("events that are missing are no violation", () => {
  const run = Run.ready();
  run.write([1, 1], [0, 0]);
  run.seqs[1] += 7;
  run.tell(1, "send", { type: "ACK", to: 0, z: [1, 9] });
  run.tell(1, "apply", { z0: [1, 9], z: [1, 9], count: 1, digest: "00000000000000cc" });
  assert.deepEqual(bad(run.state), []);
});

test("any moment of the past is the same as playing up to it", () => {
  const run = Run.ready();
  for (let i = 1; i < 120; i += 1) run.write([1, i], i === 1 ? [0, 0] : [1, i - 1], String(i).padStart(16, "0"));
  const { history } = run;
  const state = initialState();
  run.events.forEach((event, i) => {
    step(state, event);
    if (i % 97 === 0 || i === 499 || i === 500) assert.deepEqual(history.stateAt(i).nodes, state.nodes, `at ${i}`);
  });
  for (const i of [700, 3, 501, 499, 0]) assert.equal(history.stateAt(i).count, i + 1);
});

test("heartbeats are not kept, and nothing is missing for it: in the past, and in an export", () => {
  const run = Run.ready();
  for (let i = 1; i < 5; i += 1) {
    run.tell(1, "recv", { type: "HEARTBEAT", from: 0, count: 20 });
    run.write([1, i], i === 1 ? [0, 0] : [1, i - 1], String(i).padStart(16, "0"));
  }
  const { history } = run;
  assert.ok(history.records.every((record) => record.e.type !== "HEARTBEAT"));
  const counts = (state) => Object.values(state.checks).map((check) => check.n);
  const past = history.stateAt(history.end - 2);
  assert.ok(past.nodes[1].whole);
  const again = new History();
  for (const line of history.lines().join("").trim().split("\n")) again.add(JSON.parse(line));
  assert.deepEqual(counts(again.state), counts(history.state));
  assert.deepEqual(again.records.map((record) => idOf(record.e)), history.records.map((record) => idOf(record.e)));
});

test("the ring keeps the newest events, says what it cut, and still travels", () => {
  const history = new History();
  const run = Run.ready();
  for (const event of run.events) history.add(event);
  for (let i = 0; i < 60000; i += 1) history.add({ v: 1, n: 0, boot: "aaaa", seq: ++run.seqs[0], t: run.t + i / 1000, lc: i, k: "note", what: "x" });
  assert.ok(history.records.length <= page.RING_MAX);
  assert.equal(history.cut + history.records.length, 60000 + run.events.length);
  assert.equal(history.stateAt(history.first).count, history.first + 1);
  assert.equal(history.at(history.first).i, history.first);
});

test("what a node ran with that leaves a rule out taints all that follows, and an export when the beginning is cut", () => {
  const run = new Run();
  run.boot(0).unsafe = ["rejoin-empty", "__proto__"];
  run.boot(1);
  for (let i = 0; i < 60000; i += 1) run.tell(i % 2, "note", { what: "x" });
  run.boot(0).unsafe = ["rejoin-empty"];
  run.boot(0);
  const { history } = run;
  assert.deepEqual(history.state.unsafe, ["rejoin-empty", "__proto__"].map((name) => ({ name, n: 0 })));
  assert.ok(history.cut > 0);
  const told = history.lines().join("").trim().split("\n").map((line) => JSON.parse(line));
  const tainted = told.filter((event) => event.unsafe);
  assert.deepEqual(tainted.map(({ n, unsafe }) => [n, unsafe]), [[0, ["rejoin-empty", "__proto__"]], [0, ["rejoin-empty"]]]);
  const again = new History();
  for (const event of told) again.add(event);
  assert.deepEqual(again.state.unsafe, history.state.unsafe);
  assert.deepEqual(badEvent({ ...told[0], unsafe: 7 }), ["bad_field", { field: "unsafe" }]);
});

test("why there is a leader is answered though an old node did not tell who stood behind it", () => {
  const run = new Run();
  for (const n of VOTERS) run.boot(n);
  for (const [phase, why] of [["DISCOVERY", "elected"], ["SYNCHRONIZATION", "quorum_promised"], ["BROADCAST", "established"]])
    run.tell(0, "state", { role: "LEADING", phase, epoch: 1, leader: 0, why, text: "told so" });
  assert.deepEqual(codes(why(run).now()), ["node.leads"]);
});

test("who did not count in the election and has joined since is said to count by now", () => {
  const run = new Run();
  for (const n of VOTERS) run.boot(n).joined = n !== 2;
  const refused = run.tell(2, "vote", { round: 1, candidate: null, why: "refused" });
  run.tell(0, "vote", { round: 1, candidate: 0, epoch: 0, z: [0, 0], id: 0, why: "own" });
  for (const [phase, told] of [["DISCOVERY", "elected"], ["BROADCAST", "established"]])
    run.tell(0, "state", { role: "LEADING", phase, epoch: 1, leader: 0, why: told, text: told, have: [0, 1], need: 2 });
  run.follows(2, 0, 1);
  const of2 = () => why(run).node(2).clauses.filter(({ code }) => code.startsWith("election.")).map(({ code, id }) => [code, id]);
  assert.deepEqual(of2(), [["election.uncounted", idOf(refused)]]);
  const joined = run.tell(2, "persist", { what: "epochs", accepted: 1, current: 1, joined: true, ms: 1 });
  run.tell(2, "persist", { what: "epochs", accepted: 2, current: 1, joined: true, ms: 1 });
  assert.deepEqual(of2(), [["election.uncounted", idOf(refused)], ["election.joined", idOf(joined)]]);
});

test("who counts and does not stand for election is not said to have an empty disk", () => {
  const run = new Run();
  for (const n of VOTERS) run.boot(n).joined = true;
  run.tell(2, "state", { role: "LOOKING", phase: "ELECTION", epoch: 1, leader: null, why: "no_quorum", text: "told so" });
  const vote = run.tell(2, "vote", { round: 1, candidate: null, why: "abstained", text: "its disk is full" });
  const of2 = () => why(run).node(2).clauses.filter(({ code }) => /abst|uncounted/.test(code)).map(({ code, id }) => [code, id]);
  assert.deepEqual(of2(), [["election.abstained", idOf(vote)]]);
  run.tell(0, "vote", { round: 1, candidate: 0, epoch: 0, z: [0, 0], id: 0, why: "own" });
  for (const [phase, told] of [["DISCOVERY", "elected"], ["BROADCAST", "established"]])
    run.tell(0, "state", { role: "LEADING", phase, epoch: 1, leader: 0, why: told, text: told, have: [0, 1], need: 2 });
  run.follows(2, 0, 1);
  assert.deepEqual(of2(), [["election.abstained", idOf(vote)]]);
});

test("notes are told in words", () => {
  const run = Run.ready();
  for (const [what, said] of [
    [{ what: "mesh", peer: 1, up: false }, "is not connected with node 1 any more"],
    [{ what: "mesh", peer: 1, up: true }, "is connected with node 1"],
    [{ what: "sync", peer: 2, method: "DIFF", z0: [1, 1], z: [1, 4] }, "brings node 2 up to date: DIFF to 1.1–1.4"],
    [{ what: "quorum", have: [0, 1], need: 3, ms: 200 }, "was heard of late by 0 1; 3 are needed"],
    [{ what: "rush", steps: 17 }, "goes on after 17 steps that nobody watched"],
    [{ what: "predict", by: "ann", target: 2, answer: "none" }, "Said of killing node 2: no leader: writes stop. ann"],
    [{ what: "alone", text: "no quorum: 1 of 5 nodes are up" }, "no quorum: 1 of 5 nodes are up"],
    [{ text: "stopped by SIGINT" }, "stopped by SIGINT"],
  ]) assert.equal(page.words(run.tell(0, "note", what)), said);
});

test("a prediction that is heard after what came is judged by the moment at which it was made", () => {
  const run = Run.ready();
  const asked = run.tell(1, "note", { what: "predict", by: "ann", question: "kill", target: 0, answer: "another" });
  run.tell(2, "note", { what: "mesh", peer: 0, up: false });
  run.leads(2, 2);
  const state = initialState();
  for (const event of [...run.events.filter((each) => each !== asked), asked]) reduce(state, event);
  assert.deepEqual(state.bets.map(({ came }) => came), ["another"]);
});

const BETS = {
  another: (run) => { run.tell(1, "note", { what: "mesh", peer: 0, up: false }); run.leads(2, 2); },
  same: (run) => { run.tell(0, "note", { what: "mesh", peer: 2, up: false }); run.t += 3; run.tell(0, "note", { text: "three seconds later" }); },
  none: (run) => { for (const peer of [0, 2]) run.tell(1, "note", { what: "mesh", peer, up: false }); run.t += 3; run.tell(1, "recv", { type: "HEARTBEAT", from: 1, count: 9 }); },
};

for (const [came, happens] of Object.entries(BETS)) {
  test(`what came of a kill that somebody predicted follows from the events: ${came}`, () => {
    const run = Run.ready();
    const target = came === "same" ? 2 : 0;
    const asked = run.tell(1, "note", { what: "predict", by: "ann", question: "kill", target, answer: "another" });
    run.tell(1, "note", { text: "a moment later" });
    assert.equal(run.state.bets[0].down, null);
    happens(run);
    const { history } = run;
    const [bet] = history.state.bets;
    assert.deepEqual([bet.id, bet.target, bet.came], [idOf(asked), target, came]);
    const fell = history.records.find(({ e }) => e.what === "mesh").i;
    assert.equal(history.stateAt(fell).bets[0].came, null, "that it is down settles nothing");
    const answer = new Why(history, history.end - 1, history.state).bet(bet.id);
    assert.deepEqual(codes(answer).slice(0, 3), ["bet_said", came === "another" ? "bet_right" : "bet_wrong", "event"]);
    assert.ok(answer.clauses.every((clause) => run.events.some((event) => idOf(event) === clause.id)), "each is proven");
    // An export holds the time of heartbeats that it leaves out, at its end as well.
    const again = new History();
    for (const line of history.lines().join("").trim().split("\n")) again.add(JSON.parse(line));
    assert.deepEqual(again.state.bets, history.state.bets);
  });
}

test("a page that joins late comes to the same as one that saw it all", () => {
  const run = Run.ready();
  run.write([1, 1], [0, 0]);
  const whole = run.state.nodes[1];
  const state = initialState();
  reduce(state, { v: 1, k: "snapshot", n: 1, boot: "bbbb", seq: whole.seq, t: run.t, state: { boot: "bbbb", seq: whole.seq, t: run.t, pid: 1, role: "FOLLOWING", phase: "BROADCAST", epoch: 1, leader: 0, accepted_epoch: 0, joined: true, proposed: [1, 1], last: [1, 1], committed: [1, 1], applied: [1, 1], snapshot: [0, 0], digest: "00000000000000aa", game: null, tail: [{ z0: [1, 1], z: [1, 1], count: 1 }], ends: [[1, 1]], voters: VOTERS, quorum: 2, cluster: "demo" } });
  for (const key of ["role", "phase", "epoch", "leader", "proposed", "durable", "committed", "applied", "digest", "log", "ends", "whole", "up"]) assert.deepEqual(state.nodes[1][key], whole[key], key);
});

test("a kept state does not change with the one that goes on", () => {
  const run = Run.ready();
  const state = initialState();
  for (const event of run.events) reduce(state, event);
  const kept = copyState(state);
  reduce(state, { v: 1, n: 0, boot: "aaaa", seq: 99, t: 101, k: "commit", z: [9, 9], epoch: 9 });
  assert.deepEqual(kept.nodes[0].committed, [0, 0]);
});

test("events are ordered by time, though a Lamport clock begins anew with a process", () => {
  const early = { n: 1, seq: 9, t: 1, lc: 900 }, late = { n: 0, seq: 1, t: 2, lc: 1 };
  assert.deepEqual([late, early].sort(inOrder), [early, late]);
});

test("why not committed: who has it, whose disk is slow, who is not there", () => {
  const run = Run.ready();
  run.propose([1, 1], [0, 0]);
  run.receive(1, [1, 1]);
  run.tell(0, "persist", { z: [1, 1], ms: 1 });
  run.tell(0, "ack", { from: 0, z: [1, 1], have: [0], need: 2 });
  run.tell(0, "note", { what: "mesh", peer: 2, up: false });
  const answer = why(run).entry([1, 1]);
  assert.match(answer.title, /not committed/);
  assert.deepEqual(codes(answer), ["entry.proposed", "entry.waiting", "voter.has", "voter.writing", "voter.down"]);
  for (const clause of answer.clauses) assert.ok(run.events.some((event) => idOf(event) === clause.id), `${clause.code} is proven`);
});

test("a node that was silent and is heard again is back also when that moment is looked at later", () => {
  const run = Run.ready();
  const history = new History();
  for (const e of run.events) history.add(e);
  run.t += 4;
  history.add({ v: 1, k: "page", what: "silent", n: 2, t: run.t, lc: 0 });
  history.add(run.tell(2, "recv", { type: "HEARTBEAT", from: 0, count: 10 }));
  const place = history.end - 1;
  const then = copyState(history.stateAt(place));
  assert.equal(then.nodes[2].up, true);
  history.add(run.tell(0, "note", { text: "later" }));
  assert.deepEqual(history.stateAt(place).nodes, then.nodes);
});

test("why not committed, during a split: the message was cut", () => {
  const run = Run.ready();
  for (const n of [1, 2]) run.tell(0, "fault", { what: "set", rules: [{ peer: 1, cut: "both" }, { peer: 2, cut: "both" }] });
  run.propose([1, 1], [0, 0]);
  run.tell(0, "persist", { z: [1, 1], ms: 1 });
  run.tell(0, "ack", { from: 0, z: [1, 1], have: [0], need: 2 });
  for (const peer of [1, 2]) run.tell(0, "drop", { type: "PROPOSE", peer, way: "out", fault: "cut", count: 1, why: "cut" });
  assert.deepEqual(codes(why(run).entry([1, 1])), ["entry.proposed", "entry.waiting", "voter.has", "voter.dropped", "voter.dropped"]);
});

test("why committed: the leader's commit proves it", () => {
  const run = Run.ready();
  run.write([1, 1], [0, 0]);
  const answer = why(run).entry([1, 1]);
  assert.deepEqual(codes(answer), ["entry.proposed", "entry.committed", "entry.applied"]);
  assert.equal(answer.clauses[1].id, idOf(run.events.find((event) => event.k === "commit")));
});

test("why never committed: a later epoch began without it", () => {
  const run = Run.ready();
  run.write([1, 1], [0, 0]);
  run.propose([1, 2], [1, 1]);
  run.tell(0, "state", { role: "LOOKING", phase: "QUIESCE", epoch: 1, leader: null, why: "no_quorum_of_echoes", text: "no quorum of echoes within 400 ms" });
  run.leads(1, 2);
  const answer = why(run).entry([1, 2]);
  assert.match(answer.title, /not committed/);
  assert.deepEqual(codes(answer), ["entry.proposed", "entry.replaced", "entry.deposed"]);
  run.tell(0, "truncate", { z: [1, 1], was: [1, 2] });
  assert.ok(codes(why(run).entry([1, 2])).includes("entry.cut"));
});

test("why leader: the votes that lost are compared with the one that won", () => {
  const run = new Run();
  for (const n of VOTERS) run.boot(n, [1, n], 1);
  for (const n of VOTERS) run.tell(n, "vote", { round: 1, candidate: n, epoch: 1, z: [1, n], id: n, why: "own" });
  run.tell(2, "state", { role: "LEADING", phase: "DISCOVERY", epoch: 1, leader: 2, why: "elected", text: "elected", have: [0, 2], need: 2 });
  run.tell(2, "state", { role: "LEADING", phase: "BROADCAST", epoch: 2, leader: 2, why: "established", text: "established", have: [0, 2], need: 2 });
  const answer = why(run).node(2);
  assert.deepEqual(codes(answer), ["election.won", "election.lost", "election.lost", "election.established"]);
  assert.match(answer.clauses[1].text, /\(1, 1\.0, 0\) is less than \(1, 1\.2, 2\), a shorter history/);
});

test("a line that is no event is named by what is wrong with it", () => {
  const event = Run.ready().events[3];
  assert.equal(badEvent(event), null);
  assert.deepEqual(badEvent({ ...event, v: 2 }), ["bad_version", { v: "2" }]);
  assert.deepEqual(badEvent({ ...event, role: undefined }), ["bad_field", { field: "role" }]);
  assert.deepEqual(badEvent({ ...event, z: "3.7" }), ["bad_field", { field: "z" }]);
  for (const field of ["peer", "from", "to", "target"]) assert.deepEqual(badEvent({ ...event, [field]: "__proto__" }), ["bad_field", { field }]);
  assert.deepEqual(badEvent([1]), ["bad_object", {}]);
  assert.deepEqual(badEvent(null), ["bad_object", {}]);
});

// Reduces the event files of a directory up to given places: node reduced.mjs LOGS < [[{n, boot, seq, t}, ...], ...]
// Prints the states, one for each list of places. A node that is not in a list is taken up to the list's last moment.

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import page from "./page.mjs";

const events = [];
for (const name of readdirSync(process.argv[2])) {
  if (!/^node-\d+\.jsonl$/.test(name)) continue;
  for (const line of readFileSync(join(process.argv[2], name), "utf8").split("\n")) {
    if (!line) continue;
    const event = JSON.parse(line);
    const bad = page.badEvent(event);
    if (bad) throw new Error(`${name}: ${page.T(...bad)}: ${line}`);
    events.push(event);
  }
}
events.sort(page.inOrder);

const answers = JSON.parse(readFileSync(0, "utf8")).map((places) => {
  const until = Math.max(...places.map((place) => place.t));
  const history = new page.History();
  for (const event of events) {
    const place = places.find((each) => each.n === event.n);
    if (place && event.boot === place.boot ? event.seq <= place.seq : event.t <= until) history.add(event);
  }
  const { nodes, checks, game, need } = history.state;
  const again = history.stateAt(Math.floor(history.end / 2));  // from a keyframe, and on
  return { nodes, checks, game, need, leader: page.leaderOf(history.state)?.id ?? null, middle: again.count, marks: history.marks.map((mark) => mark.kind) };
});
console.log(JSON.stringify(answers));

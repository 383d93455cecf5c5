// The parts of index.html that know of no browser: its text, reducer, history and rules of why.

import { readFileSync } from "node:fs";

const html = readFileSync(new URL("../../index.html", import.meta.url), "utf8");
const from = html.indexOf("/* ==== text");
const to = html.indexOf("/* ==== the page itself");
if (from < 0 || to < from) throw new Error("index.html has other sections than docs/page.md says");

const names = "TEXT T initialState reduce step copyState leaderOf cellOf holds badEvent inOrder zstr zcmp idOf isBeat History Why words INVARIANTS RING_MAX";
const parts = new Function("location", `"use strict"; ${html.slice(from, to)}; return { ${names.replaceAll(" ", ", ")} };`);

export default parts({ search: "" });

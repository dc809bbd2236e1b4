"use strict";

// The explorer of examples. Its whole state is the URL fragment: `#example=17`, or `#base=wrong&m1=right&hardness=hard`.
// Every change is one synchronous step: state, then page, then fragment. All text enters the page as text nodes.

const data = JSON.parse(document.getElementById("data").textContent);
const models = data.models;
const examples = data.examples;
const positionOf = new Map(examples.map((example, position) => [String(example.index), position]));
const byId = (id) => document.getElementById(id);

/** Create an element. Attributes that are null are left out; children are nodes or texts. */
function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

// ---------------------------------------------------------------- state

const defaults = { example: "", search: "", hardness: "", database: "", judged: "" };
for (const model of models) defaults[model.name] = "";
const filterNames = Object.keys(defaults).filter((name) => name !== "example");
let state = { ...defaults };
let shown = examples.map((_, position) => position);

function stateOf(fragment) {
  const given = new URLSearchParams(fragment.replace(/^#/, ""));
  const read = { ...defaults };
  for (const name of Object.keys(defaults)) read[name] = given.get(name) ?? "";
  return read;
}

function fragmentOf(wanted) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(wanted)) if (value) parameters.set(name, value);
  return "#" + parameters.toString();
}

function isRight(answer) {
  return state.judged === "official" ? answer.official : answer.paper;
}

function matches(example, wanted) {
  if (wanted.hardness && example.hardness !== wanted.hardness) return false;
  if (wanted.database && example.db_id !== wanted.database) return false;
  for (const [position, model] of models.entries()) {
    const outcome = wanted[model.name];
    const answer = example.answers[position];
    if (outcome === "right" && !isRight(answer)) return false;
    if (outcome === "wrong" && isRight(answer)) return false;
    if (outcome && outcome !== "right" && outcome !== "wrong" && answer.outcome !== outcome) return false;
  }
  return !wanted.search || searchText(example).includes(wanted.search.toLowerCase());
}

function searchText(example) {
  example.searchText ??= [
    example.index, example.question, example.db_id, data.texts[example.gold],
    ...example.answers.map((answer) => data.texts[answer.sql]),
  ].join("\n").toLowerCase();
  return example.searchText;
}

/** Take over the changes, bring the page up to date, then note it all in the URL. */
function change(changes) {
  const filtered = Object.keys(changes).some((name) => name !== "example");
  state = { ...state, ...changes };
  render(filtered);
  try {
    history.replaceState(null, "", fragmentOf(state));
  } catch {
    // Safari refuses more than a hundred a few seconds, as a held arrow key makes: the next change notes it all.
  }
}

/** Show what the URL asks for; asking twice changes nothing. A fragment without `=` is an ordinary anchor. */
function readFragment() {
  if (!location.hash.includes("=")) return;
  const given = stateOf(location.hash);
  state = given;
  render(false);
  byId(given.example && isNarrow() ? "detail" : "examples").scrollIntoView();
}

// ---------------------------------------------------------------- the list

const rows = examples.map((example, position) => {
  const ticks = element("span", { class: "ticks", role: "img" });
  const link = element("a", { href: `#example=${example.index}`, tabindex: "-1" },
    element("span", { class: "question" }, example.question), ticks,
    element("span", { class: "about" }, `${example.index} · ${example.db_id} · ${example.hardness}`));
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    change({ example: String(example.index) });
    if (isNarrow()) byId("detail").scrollIntoView();
  });
  return { item: element("li", {}, link), link, ticks, position, judged: null };
});

function drawTicks(row) {
  if (row.judged === state.judged) return;
  row.judged = state.judged;
  const answers = examples[row.position].answers;
  row.ticks.setAttribute("aria-label",
    models.map((model, i) => `${model.label} ${isRight(answers[i]) ? "right" : "wrong"}`).join(", "));
  row.ticks.replaceChildren(...answers.map((answer) => tick(isRight(answer))));
}

function tick(right) {
  return element("span", { class: right ? "right" : "wrong" }, right ? "✓" : "✗");
}

/** Whether the example stands below the list, not beside it. */
function isNarrow() {
  return matchMedia("(max-width: 60rem)").matches;
}

function current() {
  return positionOf.get(state.example);
}

function render(filtered) {
  shown = [];
  for (const row of rows) {
    const match = matches(examples[row.position], state);
    row.item.hidden = !match;
    if (match) shown.push(row.position);
    drawTicks(row);
  }
  const kept = current() !== undefined && (!filtered || shown.includes(current()));
  if (!kept) state.example = shown.length ? String(examples[shown[0]].index) : "";

  byId("count").textContent = shown.length === examples.length
    ? `${examples.length.toLocaleString("en")} examples`
    : `${shown.length.toLocaleString("en")} of ${examples.length.toLocaleString("en")} examples`;
  byId("nothing").hidden = shown.length > 0;
  byId("clear").hidden = filterNames.every((name) => !state[name]);
  for (const name of filterNames) if (byId(`filter-${name}`).value !== state[name]) byId(`filter-${name}`).value = state[name];
  drawChips();
  select();
}

/** Mark the current example in the list and show it. */
function select() {
  const position = current();
  for (const row of rows) {
    const selected = row.position === position;
    if (selected === (row.link.getAttribute("aria-current") === "true")) continue;
    row.link.tabIndex = selected ? 0 : -1;
    if (selected) row.link.setAttribute("aria-current", "true");
    else row.link.removeAttribute("aria-current");
  }
  if (position !== undefined) {
    // Not scrollIntoView: that would move the page as well.
    const { item } = rows[position];
    const list = byId("list");
    if (item.offsetTop < list.scrollTop) list.scrollTop = item.offsetTop;
    const overhang = item.offsetTop + item.offsetHeight - list.scrollTop - list.clientHeight;
    if (overhang > 0) list.scrollTop += overhang;
  }
  drawDetail(position === undefined ? null : examples[position]);
}

function neighbour(offset) {
  const place = shown.indexOf(current());
  return place < 0 ? shown[0] : shown[Math.min(Math.max(place + offset, 0), shown.length - 1)];
}

function go(position) {
  if (position === undefined) return;
  change({ example: String(examples[position].index) });
}

byId("list").addEventListener("keydown", (event) => {
  const target = {
    ArrowDown: () => neighbour(1), ArrowUp: () => neighbour(-1),
    PageDown: () => neighbour(10), PageUp: () => neighbour(-10),
    Home: () => shown[0], End: () => shown.at(-1),
  }[event.key];
  if (!target || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  go(target());
  if (current() !== undefined) rows[current()].link.focus();
});

// ---------------------------------------------------------------- filters

function option(value, text) {
  return element("option", { value }, text);
}

function fillFilters() {
  const count = (test) => examples.filter(test).length;
  const present = (values, of) => values.filter((value) => examples.some((example) => of(example) === value));
  byId("filter-hardness").append(option("", "any"), ...present(data.hardness, (example) => example.hardness)
    .map((level) => option(level, `${level} (${count((example) => example.hardness === level)})`)));
  byId("filter-database").append(option("", "any"), ...[...new Set(examples.map((example) => example.db_id))].sort()
    .map((name) => option(name, `${name} (${count((example) => example.db_id === name)})`)));
  for (const [i, model] of models.entries()) {
    const causes = data.causes
      .map((cause) => [cause, count((example) => example.answers[i].outcome === cause)])
      .filter(([, number]) => number > 0)
      .map(([cause, number]) => option(cause, `${words(cause)} (${number})`));
    byId(`filter-${model.name}`).append(option("", "any"), option("right", "right"), option("wrong", "wrong"),
      element("optgroup", { label: "cause of failure" }, ...causes));
  }
  for (const name of filterNames) {
    byId(`filter-${name}`).addEventListener("input", (event) => change({ [name]: event.target.value }));
  }
}

function words(name) {
  return name.replaceAll("_", " ").replace("sql", "SQL");
}

const outcomes = [];
for (const [i, model] of models.entries()) {
  if (i === 0) continue;
  outcomes.push([`${models[0].label} wrong, ${model.label} right`, { [models[0].name]: "wrong", [model.name]: "right" }]);
  outcomes.push([`${models[0].label} right, ${model.label} wrong`, { [models[0].name]: "right", [model.name]: "wrong" }]);
}
outcomes.push(["All right", Object.fromEntries(models.map((model) => [model.name, "right"]))]);
outcomes.push(["All wrong", Object.fromEntries(models.map((model) => [model.name, "wrong"]))]);

const chips = outcomes.map(([label, wanted]) => {
  const number = element("b");
  const link = element("a", { href: fragmentOf(wanted) }, `${label} `, number);
  const isActive = () => models.every((model) => state[model.name] === (wanted[model.name] ?? ""));
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const cleared = Object.fromEntries(models.map((model) => [model.name, ""]));
    change(isActive() ? cleared : { ...cleared, ...wanted });
  });
  return { link, number, wanted, isActive, judged: null };
});

/** How many examples have the outcomes `wanted`: of all, also where only some of them are shown. */
function numberOf(wanted) {
  if (!data.in_all) return examples.filter((example) => matches(example, { ...defaults, ...wanted })).length;
  const counts = Object.entries(data.in_all[state.judged === "official" ? "official" : "paper"]);
  const fits = (outcome) => models.every((model, i) => {
    return !wanted[model.name] || (wanted[model.name] === "right") === (outcome[i] === "1");
  });
  return counts.reduce((sum, [outcome, count]) => sum + (fits(outcome) ? count : 0), 0);
}

function drawChips() {
  for (const chip of chips) {
    if (chip.judged !== state.judged) {
      chip.judged = state.judged;
      chip.number.textContent = numberOf(chip.wanted).toLocaleString("en");
    }
    if (chip.isActive()) chip.link.setAttribute("aria-current", "true");
    else chip.link.removeAttribute("aria-current");
  }
}

byId("clear").addEventListener("click", () => change(Object.fromEntries(filterNames.map((name) => [name, ""]))));

// ---------------------------------------------------------------- one example

function drawDetail(example) {
  const place = example ? shown.indexOf(current()) : -1;
  byId("previous").disabled = place <= 0;
  byId("next").disabled = !example || place === shown.length - 1 || shown.length === 0;
  byId("detail-body").hidden = !example;
  if (!example) {
    byId("where").replaceChildren();
    return;
  }
  byId("where").replaceChildren(
    element("a", { href: `#example=${example.index}`, title: "Link to this example" }, `Example ${example.index}`),
    element("span", {}, example.db_id), element("span", {}, example.hardness));
  byId("question").textContent = example.question;
  const gold = data.texts[example.gold];
  byId("answers").replaceChildren(
    answerBlock(element("h4", {}, "Gold"), element("pre", { class: "sql" }, gold), null, data.results[example.gold_result]),
    ...models.map((model, i) => modelBlock(example, model, i, gold)));
  drawSchema(example.db_id);
}

function answerBlock(heading, sql, error, result) {
  return element("section", { class: "answer" }, heading,
    element("div", {}, sql, error === null ? null : element("p", { class: "error" }, error)),
    result === null ? element("div", { class: "result" }, element("p", {}, "no result")) : resultTable(result));
}

function modelBlock(example, model, i, gold) {
  const answer = example.answers[i];
  const right = isRight(answer);
  const sql = data.texts[answer.sql];
  const notes = [];
  if (answer.paper !== answer.official) {
    notes.push(`${answer.paper ? "right" : "wrong"} as a set of rows (paper), ` +
      `${answer.official ? "right" : `wrong (${words(answer.outcome)})`} by the official definition`);
  }
  const twin = models.findIndex((_, j) => j < i && example.answers[j].sql === answer.sql);
  if (twin >= 0) notes.push(`same answer as ${models[twin].label}`);
  const heading = element("h4", { class: model.style }, element("span", {}, mark(model.name), model.label),
    element("span", { class: right ? "right" : "wrong" }, `${right ? "✓ right" : "✗ wrong"}` +
      (right || answer.outcome === "correct" ? "" : `: ${words(answer.outcome)}`)),
    notes.length ? element("span", { class: "muted" }, notes.join("; ")) : null);
  const shownSql = answer.outcome === "not_sql"
    ? element("pre", { class: "sql" }, sql || "(nothing)") : markedSql(gold, sql);
  if (answer.cut) shownSql.append(element("span", { class: "muted" }, ` … ${answer.cut.toLocaleString("en")} more characters`));
  const block = answerBlock(heading, shownSql, answer.error, answer.result === null ? null : data.results[answer.result]);
  block.dataset.model = model.name;
  return block;
}

function mark(name) {
  return document.getElementById(`mark-${name}`).content.firstElementChild.cloneNode(true);
}

function resultTable(result) {
  const isNumber = (cell) => cell === null || /^-?\d[\d.]*(e[+-]?\d+)?$/.test(cell);
  const numeric = result.columns.map((_, i) => result.rows.length > 0 && result.rows.every((row) => isNumber(row[i])));
  const kind = (i) => (numeric[i] ? "number" : null);
  const cell = (value, i) => element("td", { class: kind(i) },
    value === null ? element("span", { class: "null" }, "NULL") : value);
  const wide = result.more_columns ? `, ${result.more_columns} more columns` : "";
  const size = result.row_count === result.rows.length
    ? `${result.row_count.toLocaleString("en")} row${result.row_count === 1 ? "" : "s"}`
    : `first ${result.rows.length} of ${result.row_count.toLocaleString("en")} rows`;
  return element("div", { class: "result" },
    element("div", { class: "scroll" }, element("table", {},
      element("thead", {}, element("tr", {}, ...result.columns.map((name, i) => element("th", { class: kind(i) }, name)))),
      element("tbody", {}, ...result.rows.map((row) => element("tr", {}, ...row.map(cell)))))),
    element("p", {}, size + wide));
}

/** Split SQL into tokens: the text, the white space before it, and what it is compared by. */
function tokens(sql) {
  return Array.from(sql.matchAll(/(\s*)('(?:[^']|'')*'|"[^"]*"|\w+|\S)/g), ([, space, text]) => (
    { space, text, key: /^['"]./.test(text) ? text.slice(1, -1) : text.toLowerCase() }));
}

/**
 * The model's SQL: what gold has not is marked as inserted, what it lacks is shown as deleted, unless that is most of
 * gold: two queries with little in common are easier to read each by itself.
 */
function markedSql(gold, sql) {
  const target = element("pre", { class: "sql" });
  const a = tokens(gold);
  const b = tokens(sql);
  if (!b.length || a.length * b.length > 1e6) {
    target.append(sql || "(nothing)");
    return target;
  }
  // Longest common subsequence: common[i][j] of a[i..] and b[j..].
  const common = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      common[i][j] = a[i].key === b[j].key ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
    }
  }
  const showsDeleted = 3 * common[0][0] >= a.length;
  const runs = []; // neighbours of one kind joined; white space between runs belongs to neither
  const put = (kind, { space, text }) => {
    const last = runs.at(-1);
    if (last?.kind === kind) last.text += space + text;
    else runs.push({ kind, text, space: space || (last && (kind === "del" || last.kind === "del") ? " " : "") });
  };
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i].key === b[j].key) {
      put("same", b[j++]);
      i++;
    } else if (j === b.length || (i < a.length && common[i + 1][j] >= common[i][j + 1])) {
      if (showsDeleted) put("del", a[i]);
      i++;
    } else {
      put("ins", b[j++]);
    }
  }
  for (const { kind, text, space } of runs) target.append(space, kind === "same" ? text : element(kind, {}, text));
  return target;
}

function drawSchema(name) {
  const schema = data.schemas[name];
  byId("schema").hidden = !schema;
  if (!schema) return;
  byId("schema-name").textContent = `Schema of ${name}`;
  byId("tables").replaceChildren(...schema.tables.map((table) => {
    const references = new Map(schema.foreign_keys.filter((key) => key.table === table.name)
      .map((key) => [key.column, `${key.ref_table}.${key.ref_column}`]));
    const columns = table.columns.flatMap((column, i) => [
      i ? ", " : "",
      table.primary_key.includes(column.name) ? element("u", { title: "primary key" }, column.name) : column.name,
      references.has(column.name) ? element("span", { class: "muted" }, ` → ${references.get(column.name)}`) : "",
    ]);
    return element("li", {}, element("b", {}, table.name), " (", ...columns, ")");
  }));
}

byId("previous").addEventListener("click", () => go(neighbour(-1)));
byId("next").addEventListener("click", () => go(neighbour(1)));

// ---------------------------------------------------------------- theme, start

byId("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

fillFilters();
byId("outcomes").append(...chips.map((chip) => element("li", {}, chip.link)));
byId("list").append(...rows.map((row) => row.item));
render(false);
readFragment();
window.addEventListener("hashchange", readFragment);
document.documentElement.dataset.ready = "true";

// Elements are made here and nowhere else: text is always a text node, so a name stays a name.

const SVG = "http://www.w3.org/2000/svg";
const FREE = new Set(["class", "href", "src", "type", "title", "role", "id", "alt", "target", "rel",
  "controls", "preload", "poster", "playsinline", "loop", "muted", "loading", "value", "selected", "for",
  "aria-label", "aria-pressed", "aria-current", "data-state", "data-kind", "max", "open", "colspan"]);

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(String(child)))));
  return node;
}

export function make(tag, attributes = {}, ...children) {
  for (const name of Object.keys(attributes)) {
    if (!name.startsWith("on") && !FREE.has(name)) throw new Error(`no attribute ${name}`);
  }
  if ("href" in attributes && !/^[#/]/.test(attributes.href)) throw new Error("a link leads away");
  return filled(document.createElement(tag), attributes, children);
}

export function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

export function table(heads, rows) {
  const cell = (tag) => (item) => {
    const [text, kind] = Array.isArray(item) ? item : [item, ""];
    return make(tag, { class: kind || null }, text);
  };
  return make("div", { class: "wide" }, make("table", {},
    make("thead", {}, make("tr", {}, heads.map(cell("th")))),
    make("tbody", {}, rows.map((row) => make("tr", {}, row.map(cell("td")))))));
}

export function pairs(rows) {
  return make("dl", {}, rows.filter(([, value]) => value !== "" && value !== null)
    .map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

// The path of a file of a run: its name may hold anything.
export function fileOf(run, name) {
  const version = run.files[name].version;
  return `/runs/${run.key}/files/${name.split("/").map(encodeURIComponent).join("/")}?v=${version}`;
}

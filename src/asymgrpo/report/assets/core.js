"use strict";
// What the other scripts share. Nodes are made, markup is never parsed: text from runs can only become text.
const report = { data: new Map() };

// Data that the page holds, read when it is first asked for.
report.load = (name) => {
  if (!report.data.has(name)) report.data.set(name, report.unpack(document.getElementById("data-" + name)));
  return report.data.get(name);
};

report.unpack = async (element) => {
  const bytes = Uint8Array.from(atob(element.textContent.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
};

// An element; attributes that are undefined or false are left out, children that are strings become text.
report.element = (tag, attributes, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
};

// Calls once, shortly before the element comes into view.
report.whenNear = (element, call) => {
  if (!element) return;
  const observer = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    call();
  }, { rootMargin: "600px" });
  observer.observe(element);
};

// Fills a section with data of the page, shortly before it comes into view. What a link has led to stays where it is on
// the screen, whatever grows above it: a browser sees to that for what has been scrolled to, not always for a link.
report.fillWhenNear = (section, data, fill) => report.whenNear(section, async () => {
  const found = await Promise.all(data.map(report.load));
  const target = document.getElementById(report.place());
  const before = target?.getBoundingClientRect().top;
  fill(...found);
  if (before >= 0 && before < innerHeight) scrollBy(0, target.getBoundingClientRect().top - before);
});

report.number = (value, digits = 4) => value === null || value === undefined ? "–"
  : String(Number(value.toPrecision(digits))).replace("-", "−");

report.dark = window.matchMedia("(prefers-color-scheme: dark)");
report.colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

report.options = (select, entries, all) => {
  if (all) select.append(report.element("option", { value: "" }, all));
  for (const [value, label] of entries) select.append(report.element("option", { value }, label));
};

// Dialogs: the button closes them; so does a click beside them.
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}

// The address's part after #; as it stands if it is no text that was encoded.
report.place = () => {
  try { return decodeURIComponent(location.hash.slice(1)); } catch { return location.hash.slice(1); }
};

// A link into a closed part opens it.
report.reveal = () => {
  const name = report.place();
  const target = name && document.getElementById(name);
  if (target && target.tagName === "DETAILS") target.open = true;
};
window.addEventListener("hashchange", report.reveal);
report.reveal();

// Printed, everything that can be opened is open.
window.addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("main details:not([open])")) { part.open = true; part.dataset.printed = ""; }
});
window.addEventListener("afterprint", () => {
  for (const part of document.querySelectorAll("details[data-printed]")) { part.open = false; delete part.dataset.printed; }
});

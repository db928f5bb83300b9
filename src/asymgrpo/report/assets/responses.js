"use strict";
// Sampled responses: text of a model, so everything is set as text; mathematics is built from the elements named here.
report.fillWhenNear(document.getElementById("responses"), ["names", "responses"], (names, all) => {
  const { element } = report;
  const MATHML = "http://www.w3.org/1998/Math/MathML";
  const TAGS = new Set(("math mrow mi mn mo ms mtext mspace msup msub msubsup mfrac msqrt mroot mover munder munderover mtable mtr "
    + "mtd mstyle menclose").split(" "));
  const ATTRIBUTES = new Set("mathvariant displaystyle display scriptlevel stretchy fence separator accent form linethickness columnalign notation".split(" "));
  const STEP = 12;
  const list = document.getElementById("response-list");
  const more = document.getElementById("response-more");
  const fields = Object.fromEntries(["backbone", "method", "benchmark", "correct", "find", "source"].map((name) =>
    [name, document.getElementById("response-" + name)]));
  let count = STEP;

  const mathematics = ([tag, attributes, text, children]) => {
    const made = document.createElementNS(MATHML, TAGS.has(tag) ? tag : "mrow");
    for (const [name, value] of Object.entries(attributes)) if (ATTRIBUTES.has(name)) made.setAttribute(name, value);
    made.append(text, ...children.map(mathematics));
    return made;
  };

  const piece = (one, source) => {
    if (typeof one === "string") return one;
    const [kind, value, about] = one;
    if (kind === "m") return source ? about : element("span", { class: "formula", title: about }, mathematics(value));
    return element("span", { class: "unseen", title: about }, value);
  };
  const shown = (pieces, source) => element("bdi", { dir: "ltr" }, ...pieces.map((one) => piece(one, source)));
  const plain = (pieces) => pieces.map((one) => typeof one === "string" ? one : one[0] === "m" ? one[2] : one[1]).join("").replace(/,  /g, " ");

  for (const row of all) row.text = [row.prompt, row.response, row.truth, row.answer].map(plain).join("\n").toLowerCase();

  const card = (row) => {
    const source = fields.source.checked;
    return element("article", { class: "response " + (row.correct ? "right" : "wrong") },
      element("header", {},
        element("span", { class: "badge " + (row.correct ? "reproduced" : "contradicted") }, row.correct ? "✓ correct, reward 1" : "✗ wrong, reward 0"),
        element("b", {}, names.methods[row.method]?.label || row.method),
        element("span", {}, names.benchmarks[row.benchmark] || row.benchmark),
        element("span", {}, names.backbones[row.backbone] || row.backbone),
        element("span", { class: "small" }, `seed ${row.seed}, ${row.tokens} tokens${row.cut ? ", cut off" : ""}`)),
      element("dl", {},
        element("dt", {}, "Problem"), element("dd", { class: "model" }, shown(row.prompt, source)),
        element("dt", {}, "Response"), element("dd", { class: "model" }, row.response.length ? shown(row.response, source) : element("i", {}, "empty")),
        // of countdown the whole response is the answer
        ...(plain(row.answer) === plain(row.response) ? [] : [element("dt", {}, "Answer"),
          element("dd", { class: "model" }, row.answer.length ? shown(row.answer, source) : element("i", {}, "none was found"))]),
        element("dt", {}, "Expected"), element("dd", { class: "model" }, shown(row.truth, source)),
        ...(row.reason.length ? [element("dt", {}, "Verifier"), element("dd", { class: "model" }, shown(row.reason, true))] : [])));
  };

  const draw = () => {
    const wanted = fields.find.value.trim().toLowerCase();
    const found = all.filter((row) =>
      ["backbone", "method", "benchmark"].every((name) => !fields[name].value || row[name] === fields[name].value)
      && (!fields.correct.value || String(row.correct) === fields.correct.value)
      && (!wanted || row.text.includes(wanted)));
    list.replaceChildren(...(found.length ? found.slice(0, count).map(card) : [element("p", { class: "empty" }, "No response is like that.")]));
    document.getElementById("response-count").textContent = `${found.length} of ${all.length} responses`;
    more.hidden = found.length <= count;
  };

  for (const [name, labels] of [["backbone", names.backbones], ["method", names.methods], ["benchmark", names.benchmarks]]) {
    const there = new Set(all.map((row) => row[name]));
    report.options(fields[name], Object.entries(labels).filter(([key]) => there.has(key)).map(([key, value]) => [key, value.label || value]), "all");
  }
  for (const field of Object.values(fields)) field.addEventListener("input", () => { count = STEP; draw(); });
  more.addEventListener("click", () => {
    const before = count;
    count += 2 * STEP;
    draw();
    const next = list.children[before];
    if (next) { next.tabIndex = -1; next.focus({ preventScroll: true }); }
  });
  draw();
  list.dataset.ready = "";
});

"use strict";
// The page of a run, at #run/<backbone>/<method>/seed-<n>; and finding runs in their table.
{
  const dialog = document.getElementById("run-dialog");
  const body = document.getElementById("run-body");
  const { element, number } = report;

  const pairs = (entries) => element("dl", { class: "pairs" }, ...entries.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  const table = (heads, rows, numbers = []) => element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": heads[0] },
    element("table", {},
      element("thead", {}, element("tr", {}, ...heads.map((head, column) => element("th", { scope: "col", class: numbers.includes(column) && "number" }, head)))),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((cell, column) =>
        element("td", { class: numbers.includes(column) && "number" }, cell)))))));

  const show = async (backbone, method, seed) => {
    const [names, runs] = await Promise.all([report.load("names"), report.load("runs")]);
    const run = runs.find((one) => one.backbone === backbone && one.method === method && `seed-${one.seed}` === seed);
    if (!run) return;
    document.getElementById("run-title").textContent = `${names.methods[method].label}, ${names.backbones[backbone]}, seed ${run.seed}`;
    const words = { none_solved: "groups with no rollout correct", all_solved: "groups with every rollout correct", gradient_norm: "gradient norm",
      response_length: "response length (tokens)", entropy: "entropy (nats)", alpha: "alpha (nats per token)" };
    body.replaceChildren(
      element("p", { class: "small" }, element("code", {}, run.path)),
      pairs([
        ["Steps", String(run.steps) + (run.resumed ? `, resumed after step ${run.resumed}` : "")],
        ["Best step", run.best_step === null ? "–" : String(run.best_step)],
        ["CPU time", run.cost.cpu_seconds ? `${run.cost.cpu_seconds.toFixed(1)} s` : "not measured"],
        ["Wall-clock time", `${run.cost.wall_seconds.toFixed(1)} s`],
        ...(run.cost.gpu_seconds ? [["GPU time", `${run.cost.gpu_seconds.toFixed(1)} s`]] : []),
        ["Fingerprint of its inputs", element("code", {}, run.fingerprint || "–")],
      ]),
      element("h3", {}, "Test accuracy while training"),
      table(["Step", ...Object.keys(run.accuracy)], [["mean of benchmarks, %", ...Object.values(run.accuracy).map((value) => value === null ? "–" : value.toFixed(1))]],
        Object.keys(run.accuracy).map((_, column) => column + 1)),
      element("h3", {}, "At the last step"),
      pairs(Object.entries(run.end).map(([name, value]) => [words[name] || name, number(value)])),
      element("h3", {}, "Settings"),
      element("p", { class: "small" }, "Provenance: stated in the paper; derived from it; v1, a public note on its first version; inferred; assumed, the field's usual value; ours, for a scale that the paper does not have."),
      table(["Setting", "Value", "Provenance", "Note"], run.settings.map(([key, value, provenance, note]) =>
        [element("code", {}, key), value, element("span", { class: "origin " + provenance.replace(/[^a-z0-9]/g, "") }, provenance), note])),
      element("h3", {}, "Made with"),
      pairs(run.made.map(([name, value]) => [name, value])),
      element("h3", {}, "To repeat it"),
      element("p", {}, element("code", {}, `snakemake -R train -- ${run.path}/run.yaml`)),
    );
    if (!dialog.open) dialog.showModal();
    body.scrollTop = 0;
    body.focus();
  };

  const follow = () => {
    const parts = report.place().match(/^run\/([^/]+)\/([^/]+)\/([^/]+)$/);
    if (parts) show(...parts.slice(1));
    else if (dialog.open) dialog.close();
  };
  window.addEventListener("hashchange", follow);
  // closed: the address is as before, and the link that opened it has the focus again
  dialog.addEventListener("close", () => {
    const link = [...document.querySelectorAll("#run-table a")].find((one) => one.hash === location.hash);
    if (location.hash.startsWith("#run/")) history.replaceState(null, "", "#runs");
    link?.focus({ preventScroll: true });
  });
  follow();

  const find = document.getElementById("run-find");
  find?.addEventListener("input", () => {
    const wanted = find.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...document.querySelectorAll("#run-table tbody tr")];
    for (const row of rows) {
      const text = (row.textContent + " " + row.querySelector("a").hash).toLowerCase();
      row.hidden = !wanted.every((word) => text.includes(word));
    }
    const left = rows.filter((row) => !row.hidden).length;
    document.getElementById("run-count").textContent = `${left} run${left === 1 ? "" : "s"}`;
  });
}

"use strict";
// Training curves with uPlot: a panel per quantity, methods on and off, values of the nearest line under the pointer.
report.fillWhenNear(document.getElementById("curves"), ["names", "curves"], (names, panels) => {
  const state = { backbone: null, methods: new Set(), kind: "smooth", bands: true };
  const place = document.getElementById("curve-panels");
  const backbones = Object.keys(names.backbones).filter((name) => panels.some((panel) => panel.backbones[name]));
  const plots = [];
  state.backbone = backbones[0];
  place.replaceChildren();

  const available = () => {
    const found = new Set(panels.flatMap((panel) => Object.keys(panel.backbones[state.backbone]?.methods || {})));
    return Object.keys(names.methods).filter((name) => found.has(name));
  };
  const colour = (method) => names.methods[method][report.dark.matches ? "dark" : "light"];
  const transparent = (hex, alpha) => hex + Math.round(255 * alpha).toString(16).padStart(2, "0");
  const label = (method) => names.methods[method].label;

  // Which methods: sets of them, and each

  const chips = document.getElementById("curve-methods");
  const choices = document.getElementById("curve-choices");

  const swatch = (method) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    for (const [key, value] of Object.entries({ viewBox: "0 0 24 8", width: 24, height: 8, "aria-hidden": "true" })) svg.setAttribute(key, value);
    for (const [key, value] of Object.entries({ x1: 0, x2: 24, y1: 4, y2: 4, "stroke-width": 2.5, stroke: colour(method) })) line.setAttribute(key, value);
    if (names.methods[method].dash.length) line.setAttribute("stroke-dasharray", names.methods[method].dash.map((part) => part * 1.6).join(" "));
    svg.append(line);
    return svg;
  };

  const drawChips = () => {
    const focused = chips.contains(document.activeElement) ? document.activeElement.dataset.method : null;
    chips.replaceChildren(...available().map((method) => report.element("button", {
      type: "button", class: "chip", "data-method": method, "aria-pressed": String(state.methods.has(method)),
      onclick: () => { if (!state.methods.delete(method)) state.methods.add(method); update(); },
    }, swatch(method), label(method))));
    if (focused) chips.querySelector(`[data-method="${CSS.escape(focused)}"]`)?.focus();
    for (const button of choices.children) {
      const wanted = JSON.parse(button.dataset.methods);
      button.setAttribute("aria-pressed", String(wanted.length === state.methods.size && wanted.every((name) => state.methods.has(name))));
    }
  };

  const drawChoices = () => {
    const known = new Set(available());
    const sets = [...names.choices.map(([title, methods]) => [title, methods.filter((name) => known.has(name))]),
      ["All", [...known]], ["None", []]];
    choices.replaceChildren(...sets.filter(([title, methods]) => methods.length || title === "None").map(([title, methods]) =>
      report.element("button", {
        type: "button", "data-methods": JSON.stringify(methods),
        onclick: () => { state.methods = new Set(methods); update(); },
      }, title)));
  };

  // A panel

  const sync = uPlot.sync("curves");
  const frames = panels.map((panel) => {
    const box = report.element("div", { class: "plot", tabindex: 0, role: "img", "aria-label": panel.title });
    const tip = report.element("div", { class: "tip", hidden: true, "aria-live": "polite" });
    const rows = report.element("tbody");
    const table = report.element("details", { class: "values" }, report.element("summary", {}, "Values at the last step"),
      report.element("table", {}, report.element("thead", {}, report.element("tr", {},
        report.element("th", { scope: "col" }, "Method"), report.element("th", { scope: "col", class: "number" }, "Mean [band]"))), rows));
    const figure = report.element("figure", { class: "panel", "data-quantity": panel.quantity },
      report.element("figcaption", {}, report.element("b", {}, panel.title), " ", report.element("small", {}, panel.unit)),
      report.element("div", { class: "frame" }, box, tip), table);
    place.append(figure);
    return { panel, figure, box, tip, rows, plot: null };
  });

  const say = (panel, method, index, lines, steps) => {
    const [mean, low, high] = lines.map((line) => line[index]);
    const band = low === null ? "" : ` [${report.number(low, 3)}, ${report.number(high, 3)}]`;
    return [label(method), `step ${steps[index]}: ${report.number(mean)}${band}`];
  };

  const draw = (frame) => {
    const { panel, box, tip, rows } = frame;
    const data = panel.backbones[state.backbone];
    const methods = data ? available().filter((name) => state.methods.has(name) && data.methods[name]) : [];
    frame.plot?.destroy();
    frame.plot = null;
    tip.hidden = true;
    box.replaceChildren();
    const shown = methods.map((name) => label(name)).join(", ");
    box.setAttribute("aria-label", `${panel.title} (${panel.unit}) over training steps, ${names.backbones[state.backbone]}: ${shown || "no method is switched on"}. Arrow keys read values; a table of the last values follows.`);
    const lines = methods.map((name) => data.methods[name][state.kind]);
    rows.replaceChildren(...methods.map((name, order) => {
      const [title, text] = say(panel, name, data.steps.length - 1, lines[order], data.steps);
      return report.element("tr", {}, report.element("td", {}, title), report.element("td", { class: "number" }, text.replace(/^.*?: /, "")));
    }));
    if (!methods.length) { box.append(report.element("p", { class: "empty" }, data ? "No method is switched on." : "Not measured on this backbone.")); return; }

    const series = [{}], values = [data.steps], bands = [];
    methods.forEach((method, order) => {
      const [mean, low, high] = lines[order];
      series.push({ label: method, stroke: colour(method), width: 1.75, dash: names.methods[method].dash.map((part) => part * 1.75), points: { show: false } });
      values.push(mean);
      if (state.bands && methods.length <= 12) {
        const at = series.length;
        series.push({ points: { show: false } }, { points: { show: false } });
        values.push(high, low);
        bands.push({ series: [at, at + 1], fill: transparent(colour(method), 0.14) });
      }
    });
    const ink = report.colour("--soft"), grid = report.colour("--line");
    const axis = { stroke: ink, font: "12px system-ui, sans-serif", grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 } };
    frame.plot = new uPlot({
      width: Math.max(220, box.clientWidth), height: 250, series, bands,
      scales: { x: { time: false } }, legend: { show: false }, padding: [8, 10, 0, 0],
      axes: [{ ...axis, size: 30 }, { ...axis, size: 52, values: (plot, marks) => marks.map((mark) => report.number(mark)) }],
      cursor: { sync: { key: sync.key, setSeries: false }, points: { show: false }, y: false },
      hooks: {
        setCursor: [(plot) => {
          const { idx, left, top } = plot.cursor;
          const active = box.matches(":hover") || document.activeElement === box;
          tip.hidden = idx === null || idx === undefined || left < 0 || !active;
          if (tip.hidden) return;
          let best = null;
          methods.forEach((method, order) => {
            const value = lines[order][0][idx];
            if (value === null) return;
            const distance = frame.reading === undefined ? Math.abs(plot.valToPos(value, "y") - top) : Math.abs(order - frame.reading);
            if (best === null || distance < best.distance) best = { method, order, distance, value };
          });
          if (best === null) { tip.hidden = true; return; }
          const [title, text] = say(panel, best.method, idx, lines[best.order], data.steps);
          tip.replaceChildren(swatch(best.method), report.element("b", {}, title), report.element("span", {}, text));
          const x = plot.valToPos(data.steps[idx], "x") + plot.bbox.left / devicePixelRatio;
          const y = plot.valToPos(best.value, "y") + plot.bbox.top / devicePixelRatio;
          tip.style.left = Math.min(Math.max(0, x - tip.offsetWidth / 2), box.clientWidth - tip.offsetWidth) + "px";
          tip.style.top = (y > tip.offsetHeight + 16 ? y - tip.offsetHeight - 10 : y + 14) + "px";
        }],
      },
    }, values, box);
  };

  for (const frame of frames) {
    frame.box.addEventListener("mousemove", () => { frame.reading = undefined; }, { capture: true });
    frame.box.addEventListener("blur", () => { frame.tip.hidden = true; frame.reading = undefined; });
    frame.box.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!move || !frame.plot) return;
      event.preventDefault();
      const steps = frame.plot.data[0];
      const first = frame.reading === undefined;
      const index = Math.min(steps.length - 1, Math.max(0, (first ? steps.length - 1 : frame.plot.cursor.idx ?? 0) + (first ? 0 : move[0])));
      frame.reading = first ? 0 : Math.min(state.methods.size - 1, Math.max(0, frame.reading + move[1]));
      frame.plot.setCursor({ left: frame.plot.valToPos(steps[index], "x"), top: 10 });
    });
  }

  // Panels are drawn when they come near; then again at every change

  const drawn = new Set();
  const update = () => { drawChips(); drawn.forEach(draw); };
  for (const frame of frames) report.whenNear(frame.figure, () => { drawn.add(frame); draw(frame); });

  let width = 0;
  new ResizeObserver(() => {
    if (Math.abs(place.clientWidth - width) < 2) return;
    width = place.clientWidth;
    drawn.forEach((frame) => frame.plot?.setSize({ width: Math.max(220, frame.box.clientWidth), height: 250 }));
  }).observe(place);
  report.dark.addEventListener("change", update);

  const choose = document.getElementById("curve-backbone");
  report.options(choose, backbones.map((name) => [name, names.backbones[name]]));
  choose.addEventListener("change", () => {
    state.backbone = choose.value;
    state.methods = new Set(available().filter((name) => state.methods.has(name)));
    drawChoices();
    update();
  });
  document.getElementById("curve-smooth").addEventListener("change", (event) => { state.kind = event.target.checked ? "smooth" : "raw"; update(); });
  document.getElementById("curve-bands").addEventListener("change", (event) => { state.bands = event.target.checked; update(); });

  drawChoices();
  const known = new Set(available());
  const begin = (names.choices[0]?.[1] || available().slice(0, 6)).filter((name) => known.has(name));
  state.methods = new Set(begin.length ? begin : [...known].slice(0, 6));
  update();
  place.dataset.ready = "";
});

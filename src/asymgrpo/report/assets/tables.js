"use strict";
// Tables that are sorted by the head of a column: numbers by their value, what is missing last.
{
  const value = (cell) => {
    const text = cell.textContent.trim();
    if (text === "–" || text === "") return null;
    const number = parseFloat(text.replace(/[\u2212]/g, "-").replace(/,(?=\d{3})/g, "").replace(/^<\s*/, ""));
    return cell.classList.contains("number") && !Number.isNaN(number) ? number : text.toLowerCase();
  };

  const sort = (table, column, descending) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [value(row.cells[column]), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
      const order = a < b ? -1 : a > b ? 1 : 0;
      return descending ? -order : order;
    });
    body.append(...rows.map(([, row]) => row));
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    const first = [...table.tBodies[0].rows];
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const was = head.getAttribute("aria-sort");
        const numbers = head.classList.contains("number");
        for (const other of heads) other.removeAttribute("aria-sort");
        // numbers begin with the largest; the third press gives the order of the paper back
        const order = numbers ? ["descending", "ascending"] : ["ascending", "descending"];
        const next = was === null ? order[0] : was === order[0] ? order[1] : null;
        if (next === null) { table.tBodies[0].append(...first); return; }
        head.setAttribute("aria-sort", next);
        sort(table, column, next === "descending");
      });
    });
  }
}

"use strict";
// Sorts a table by the column whose heading is pressed: numbers from the greatest, words from A; pressed again, the
// other way. Cells say what they are sorted by in data-v; those without a value come last.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const words = heading.dataset.words !== undefined;
      const before = heading.getAttribute("aria-sort");
      const ascending = before ? before === "descending" : words;
      const value = (row) => row.cells[column].dataset.v ?? "";
      const compare = (a, b) => (words ? a.localeCompare(b, "en", { numeric: true }) : a - b);
      const body = table.tBodies[0];
      const rows = [...body.rows].sort((one, other) => {
        const [a, b] = [value(one), value(other)];
        if (a === "" || b === "") return (a === "") - (b === "");
        return ascending ? compare(a, b) : compare(b, a);
      });
      headings.forEach((each) => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      body.append(...rows);
    });
  });
}

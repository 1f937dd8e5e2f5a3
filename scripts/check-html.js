"use strict";
// Appended to a report's page by check-html.sh. Checks the page, and writes the result to an element that the script
// reads: one line for each fault, or "passed".
(() => {
  const wrong = [];
  const expect = (holds, what) => holds || wrong.push(what);

  const visible = [...document.querySelectorAll("figure svg")].filter((svg) => svg.getClientRects().length > 0);
  const figures = document.querySelectorAll("figure");
  expect(visible.length === figures.length, `${figures.length} figures show ${visible.length} pictures`);
  for (const svg of visible) {
    const { width, height } = svg.getBoundingClientRect();
    expect(width >= 250 && height >= 180, `a picture of ${width} by ${height} pixels`);
    const drawn = svg.querySelectorAll("polyline[points], rect").length;
    expect(drawn > 0, "a picture in which nothing is drawn");
    for (const text of svg.querySelectorAll("text")) {
      const box = text.getBoundingClientRect();
      const frame = svg.getBoundingClientRect();
      const inside = box.left >= frame.left - 1 && box.right <= frame.right + 1;
      expect(inside, `"${text.textContent.trim()}" sticks out of its picture`);
      const size = parseFloat(getComputedStyle(text).fontSize) * (frame.width / svg.viewBox.baseVal.width);
      expect(size >= 8, `"${text.textContent.trim()}" is written ${size.toFixed(1)} pixels high`);
    }
  }

  const page = document.documentElement;
  expect(page.scrollWidth <= page.clientWidth, `the page is ${page.scrollWidth} wide in a window of ${page.clientWidth}`);

  // Light or dark, what is written must stand out from what is behind it (WCAG 2, contrast of 4.5).
  const luminance = (color) => {
    const [r, g, b] = color.match(/[\d.]+/g).map((part) => part / 255);
    const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  };
  const contrast = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const ground = getComputedStyle(document.body).backgroundColor;
  expect(luminance(ground) < 0.5 === dark, `the ground is ${ground}, though the scheme is ${dark ? "dark" : "light"}`);
  for (const element of document.querySelectorAll("h1, h2, p, td, th, .tile span, .tile b, figure text")) {
    const style = getComputedStyle(element);
    const color = element instanceof SVGElement ? style.fill : style.color;
    const behind = element.closest("figure, section, .tile, .verdict") ?? document.body;
    const found = contrast(color, getComputedStyle(behind).backgroundColor);
    expect(found >= 4.5, `"${element.textContent.trim().slice(0, 20)}" has a contrast of ${found.toFixed(1)}`);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const column = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.startsWith("mean"));
    const values = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[column].dataset.v));
    const button = table.tHead.rows[0].cells[column].querySelector("button");
    const ordered = (sign) => values().every((value, i, all) => i === 0 || sign * (all[i - 1] - value) >= 0);
    button.click();
    expect(ordered(1), "a first press did not sort from the greatest");
    button.click();
    expect(ordered(-1), "a second press did not sort from the least");
    const named = [...table.tBodies[0].rows].every((row) => row.cells.length === table.tHead.rows[0].cells.length);
    expect(named, "a row has another number of cells than there are headings");
  }

  const result = document.createElement("pre");
  result.id = "check";
  result.textContent = [...new Set(wrong)].map((each) => `wrong: ${each}\n`).join("") || "passed";
  document.body.append(result);
})();

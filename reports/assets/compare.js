"use strict";
// Two runs compared: the table of differences is sorted by the column whose title is pressed.
(() => {
  const table = document.getElementById("lines"), body = table.tBodies[0], first = [...body.rows];
  const buttons = [...table.querySelectorAll("thead button")];
  const told = document.getElementById("sorted");

  function show(rows, column, down) {
    body.append(...rows);
    buttons.forEach((button, i) => {
      if (i === column) button.parentElement.setAttribute("aria-sort", down ? "descending" : "ascending");
      else button.parentElement.removeAttribute("aria-sort");
    });
    told.textContent = column < 0 ? "Lines in the order of computation" : `Sorted by ${buttons[column].textContent}, ${down ? "descending" : "ascending"}`;
  }

  function sort(column, down) {
    const value = (row) => row.cells[column].dataset.sort;
    const numbers = table.tHead.rows[0].cells[column].classList.contains("n");
    const compare = (x, y) => (numbers ? x - y : x < y ? -1 : x > y ? 1 : 0);
    show([...first].sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === "" || y === "") return (x === "") - (y === ""); // missing last, either way
      return down ? compare(y, x) : compare(x, y);
    }), column, down);
  }

  buttons.forEach((button, i) => button.addEventListener("click", () => sort(i, button.parentElement.getAttribute("aria-sort") === "ascending")));
  document.getElementById("first-order").addEventListener("click", () => show(first, -1, false));
})();

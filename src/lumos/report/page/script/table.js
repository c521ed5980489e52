// Tables that are sorted by the column whose head is pressed: numbers by size, words by letter.
function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const cell = row.cells[column], number = cell.querySelector("data");
    if (!number) return cell.textContent.trim().toLowerCase();
    return number.value === "" ? null : Number(number.value);
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const body = table.tBodies[0], rows = [...body.rows];
      const falling = head.getAttribute("aria-sort") !== "descending";
      const order = (first, second) => {
        const a = key(first, column), b = key(second, column);
        if (a === null || b === null) return (a === null) - (b === null);  // unknown comes last
        return (a < b ? -1 : a > b ? 1 : 0) * (falling ? -1 : 1);
      };
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      body.append(...rows.sort(order));
    });
  });
}

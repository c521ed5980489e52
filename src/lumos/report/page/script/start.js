switchTheme(document.getElementById("theme"));
hints();
document.querySelectorAll("table.sortable").forEach(sortable);
document.querySelectorAll(".timeline").forEach(timeline);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));

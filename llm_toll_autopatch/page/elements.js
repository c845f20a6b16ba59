/* Makes elements. Whatever comes out of the ledger becomes text, by `textContent` and attributes, and never HTML. */
const Elements = (() => {
  const byId = (id) => document.getElementById(id);

  /* `make("td", {class: "num", text: "12"}, [children])` */
  const make = (tag, attributes = {}, children = []) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "text") element.textContent = value;
      else if (name === "onclick") element.addEventListener("click", value);
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  };

  /* Put rows into a table; the focus stays where it was, for those who are in it by keyboard. */
  const fill = (table, caption, columns, rows) => {
    const active = document.activeElement;
    const key = table.contains(active) ? active.dataset.key : undefined;
    const head = make("tr", {}, columns.map((column) => make("th", { scope: "col", class: column.class, text: column.name })));
    table.replaceChildren(
      make("caption", { class: "hidden", text: caption }),
      make("thead", {}, [head]),
      make("tbody", {}, rows),
    );
    if (key === undefined) return;
    for (const element of table.querySelectorAll("[data-key]")) if (element.dataset.key === key) element.focus();
  };

  const row = (columns, cells) =>
    make("tr", {}, cells.map((cell, number) => {
      const column = columns[number];
      const content = cell instanceof Node ? [cell] : [];
      return make(number ? "td" : "th", {
        scope: number ? null : "row",
        class: column.class,
        text: content.length ? null : cell,
      }, content);
    }));

  /* A bar beside a number that says the same. `parts` are [share of the whole, class]. */
  const bar = (parts) => {
    const element = make("span", { class: "bar", "aria-hidden": "true" });
    for (const [share, name, color] of parts) {
      const part = make("span", { class: name });
      part.style.width = `${Math.min(100, Math.max(0, 100 * share))}%`;
      if (color) part.style.background = color;
      element.append(part);
    }
    return element;
  };

  const options = (select, choices, value) => {
    const wanted = JSON.stringify(choices);
    if (select.dataset.choices !== wanted) {
      select.dataset.choices = wanted;
      select.replaceChildren(...choices.map(([key, name]) => make("option", { value: key, text: name })));
    }
    select.value = value;
  };

  const toggle = (element, visible) => {
    if (element.hidden === visible) element.hidden = !visible;
  };

  const write = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };

  return { bar, byId, fill, make, options, row, toggle, write };
})();

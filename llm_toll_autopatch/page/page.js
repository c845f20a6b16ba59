/* Puts it together: the data, what is chosen of it, and on a served page, what is new. */
(() => {
  const { byId, options, toggle, write } = Elements;
  const root = document.documentElement;
  const ANNOUNCE_MS = 15_000;
  const RETRY_MS = 5_000;

  let ledger = Ledger.open(JSON.parse(byId("data").textContent));
  const state = Filters.read(ledger);
  let failure = "";

  const about = () => {
    const { since, until, where } = ledger.chosen;
    const parts = Object.entries(where).map(([name, values]) => `${Ledger.title(name).toLowerCase()} ${values.join(" or ")}`);
    if (since) parts.push(`from ${Figures.moment(since)}`);
    if (until) parts.push(`before ${Figures.moment(until)}`);
    const made = root.dataset.interval ? "" : `As of ${Figures.moment(ledger.generated_at)} UTC. `;
    write(byId("about"), made + (parts.length ? `Only calls of ${parts.join(", ")}.` : "All calls of the ledger."));
  };

  const sentence = (sums) => {
    const unknown = sums.unknown ? `, ${Figures.plural(sums.unknown, "call")} of unknown cost` : "";
    return `${Figures.plural(sums.calls, "call")}, ${sums.estimated ? "about " : ""}${Figures.usd(sums.nano)}${unknown}.`;
  };

  const empty = (isEmpty) => {
    toggle(byId("empty"), isEmpty);
    for (const id of ["figures", "more-figures"]) toggle(byId(id), !isEmpty);
    if (!isEmpty) return;
    const narrowed = Filters.isNarrowed(state);
    write(byId("empty-title"), narrowed ? "No such calls" : "No calls yet");
    write(byId("empty-text"), narrowed
      ? "No call is all that is chosen above."
      : "As soon as a metered program calls a model, it shows up here. Two lines meter a program:");
    toggle(byId("empty-code"), !narrowed);
    toggle(byId("empty-reset"), narrowed);
  };

  const render = () => {
    about();
    Filters.show(ledger, state, changed);
    const dimensions = ledger.dimensions.map((name) => [name, Ledger.title(name)]);
    byId("measure").value = state.measure;
    options(byId("stack"), dimensions, state.stack);
    options(byId("breakdown-by"), dimensions, state.by);
    for (const input of document.getElementsByName("calls")) input.checked = input.value === state.calls;
    const selection = Ledger.select(ledger, state);
    const sums = Ledger.total(selection.cells);
    const isEmpty = selection.cells.length === 0;
    empty(isEmpty);
    Lists.budgets(ledger, state);
    if (!isEmpty) {
      Lists.summary(sums);
      Spending.show(ledger, selection, state);
      Lists.breakdown(ledger, selection, state, filter);
      Lists.calls(ledger, selection, state);
      Lists.trust(ledger, selection);
    }
    return sums;
  };

  const announce = (sums) => write(byId("announce"), `Shown: ${sentence(sums)}`);

  const changed = () => {
    Lists.fewer();
    announce(render());
    Filters.write(state);
  };

  const filter = (name, wanted) => {
    state.filters[name] = wanted;
    changed();
  };

  for (const [id, name] of [["measure", "measure"], ["stack", "stack"], ["breakdown-by", "by"]])
    byId(id).addEventListener("change", (event) => {
      state[name] = event.target.value;
      changed();
    });
  for (const input of document.getElementsByName("calls"))
    input.addEventListener("change", () => {
      state.calls = input.value;
      changed();
    });
  byId("calls-more").addEventListener("click", () => {
    Lists.more();
    render();
  });
  byId("empty-reset").addEventListener("click", () => {
    Filters.clear(state);
    changed();
    byId("period").focus();
  });

  /* Light and dark: as the system has it, unless somebody has said otherwise. */
  const stored = (value) => {
    try { // a page from a file may have no storage
      if (value === undefined) return localStorage.getItem("autotoll-theme") ?? "";
      localStorage.setItem("autotoll-theme", value);
    } catch { /* then it is as the system has it the next time */ }
    return "";
  };
  const dress = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
    byId("theme").value = root.dataset.theme ?? "";
    Spending.paint();
  };
  byId("theme").addEventListener("change", (event) => {
    stored(event.target.value);
    dress(event.target.value);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => Spending.paint());

  dress(stored());
  render();

  const interval = Number(root.dataset.interval) * 1000;
  if (!interval) return;

  /* On a served page. */
  let tag = "";
  let isPaused = false;
  let announced = 0;
  toggle(byId("live"), true);

  const tell = () => {
    const what = failure || isPaused;
    byId("live-dot").classList.toggle("off", Boolean(what));
    write(byId("live-text"), isPaused ? "Paused" : failure ? "No answer" : `Live, ${Figures.fullClock(new Date())} UTC`);
    write(byId("alert"), failure);
    toggle(byId("alert"), Boolean(failure));
  };

  const ask = async () => {
    const answer = await fetch("data.json", { cache: "no-store", headers: tag ? { "If-None-Match": tag } : {} });
    if (answer.status === 304) return;
    const data = await answer.json();
    if (!answer.ok) throw new Error(data.error);
    tag = answer.headers.get("ETag") ?? "";
    if (isPaused) return;
    ledger = Ledger.open(data);
    const sums = render();
    if (Date.now() - announced > ANNOUNCE_MS) {
      announced = Date.now();
      announce(sums);
    }
  };

  const go = async () => {
    let wait = interval;
    if (!isPaused && document.visibilityState === "visible") {
      try {
        await ask();
        failure = "";
      } catch (error) {
        failure = error instanceof TypeError ? "The server does not answer: has `autotoll serve` ended? These are the last figures that came." : error.message;
        wait = Math.max(interval, Math.min(RETRY_MS, interval * 4));
      }
      tell();
    }
    setTimeout(go, wait);
  };

  byId("pause").addEventListener("click", () => {
    isPaused = !isPaused;
    byId("pause").setAttribute("aria-pressed", String(isPaused));
    if (isPaused) tag = ""; // what comes next is shown whole
    tell();
  });
  tell();
  go();
})();

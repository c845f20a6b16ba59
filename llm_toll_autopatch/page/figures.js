/* Numbers, money and moments, as people read them. Money is nano-USD in a BigInt: its sums are exact. */
const Figures = (() => {
  const LOCALE = "en-US";
  const whole = new Intl.NumberFormat(LOCALE);
  const compact = new Intl.NumberFormat(LOCALE, { notation: "compact", maximumSignificantDigits: 3 });
  const NANO = 1_000_000_000n;
  const CENTS = 2;

  const count = (number) => whole.format(number);
  const short = (number) => (Math.abs(number) < 10_000 ? whole.format(Math.round(number)) : compact.format(number));
  const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;
  const dollars = (nano) => Number(nano) / 1e9;

  /* How many decimals a column of amounts needs, by the largest of them: three or four digits that say something. */
  const places = (nanos) => {
    let most = 0n;
    for (const nano of nanos) {
      const size = nano < 0n ? -nano : nano;
      if (size > most) most = size;
    }
    if (most === 0n || most >= 10n * NANO) return CENTS;
    return most >= NANO / 10n ? 4 : most >= NANO / 1000n ? 6 : 9;
  };

  /* `$1,234.56`; an amount that is not zero never reads as zero. */
  const usd = (nano, decimals = places([nano])) => {
    const size = nano < 0n ? -nano : nano;
    const unit = 10n ** BigInt(9 - decimals);
    const rounded = (size + unit / 2n) / unit;
    if (rounded === 0n && size > 0n) return `<$${(1 / 10 ** decimals).toFixed(decimals)}`;
    const scale = 10n ** BigInt(decimals);
    const rest = decimals ? `.${(rounded % scale).toString().padStart(decimals, "0")}` : "";
    return `${nano < 0n ? "-" : ""}$${whole.format(rounded / scale)}${rest}`;
  };

  /* The exact amount, for those who look twice. */
  const exactly = (nano) => {
    const text = usd(nano, 9);
    return text.replace(/(\.\d\d\d*?)0+$/, "$1");
  };

  const percent = (part, all) => {
    if (!all || !part) return "0%";
    const share = (100 * part) / all;
    return share < 0.1 ? "<0.1%" : `${share.toFixed(share < 99.95 ? 1 : 0)}%`;
  };

  const seconds = (value) => {
    if (value < 60) return `${value.toFixed(1)} s`;
    const all = Math.round(value);
    const minutes = Math.floor(all / 60);
    const text = (number) => String(number).padStart(2, "0");
    return minutes < 60 ? `${minutes}:${text(all % 60)} min` : `${count(Math.floor(minutes / 60))}:${text(minutes % 60)} h`;
  };

  const form = (options) => {
    const made = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...options });
    return (moment) => made.format(moment);
  };
  const dayAndYear = form({ day: "numeric", month: "short", year: "numeric" });
  const day = form({ day: "numeric", month: "short" });
  const month = form({ month: "short", year: "numeric" });
  const clock = form({ hour: "2-digit", minute: "2-digit" });
  const fullClock = form({ hour: "2-digit", minute: "2-digit", second: "2-digit" });

  const instant = (period) => new Date(period.length > 10 ? `${period}Z` : `${period}T00:00Z`);

  /* The name of a period that begins so. */
  const period = (beginning, unit) => {
    const moment = instant(beginning);
    if (unit === "hour") return `${day(moment)} ${clock(moment)}`;
    if (unit === "month") return month(moment);
    if (unit === "year") return beginning.slice(0, 4);
    return `${unit === "week" ? "Week of " : ""}${dayAndYear(moment)}`;
  };

  /* The same for the axis of a chart, where there is little room. */
  const tick = (beginning, unit) => {
    const moment = instant(beginning);
    if (unit === "hour") return beginning.endsWith("T00:00") ? day(moment) : clock(moment);
    return unit === "day" || unit === "week" ? day(moment) : period(beginning, unit);
  };

  const moment = (text) => {
    const at = new Date(text);
    return `${dayAndYear(at)} ${fullClock(at)}`;
  };

  return { clock, compact, count, dayAndYear, dollars, exactly, fullClock, instant, moment, percent, period, places, plural, seconds, short, tick, usd };
})();

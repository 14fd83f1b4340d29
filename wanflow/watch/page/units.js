// Sizes, times and shares as people read them; the same forms as the command line's.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(count) {
  if (count === null || count === undefined) return "–";
  let value = Math.abs(count), power = 0;
  while (value >= 1024 && power < UNITS.length - 1) { value /= 1024; power += 1; }
  const digits = power === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${count < 0 ? "-" : ""}${value.toFixed(digits)} ${UNITS[power]}`;
}

export function seconds(count) {
  if (count === null || count === undefined) return "–";
  if (count < 10) return `${count.toFixed(2)} s`;
  if (count < 60) return `${count.toFixed(1)} s`;
  const total = Math.round(count);
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(total / 3600), minutes = Math.floor(total / 60) % 60;
  const rest = two(total % 60);
  return hours ? `${hours}:${two(minutes)}:${rest}` : `${minutes}:${rest}`;
}

// A time that changes every second is read more easily without hundredths.
export function whole(count) {
  return count < 60 ? `${Math.round(count)} s` : seconds(count);
}

export function percent(share) { return `${Math.round(100 * share)}%`; }

export function date(stamp, lang) {
  if (!stamp) return "–";
  const then = new Date(1000 * stamp), year = then.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  const form = { year, month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hour12: false };
  return then.toLocaleString(lang === "zh" ? "zh-CN" : "en-GB", form);
}

/** Numbers for people: counts, MAdds, bytes, times. */

/** Three significant digits with a prefix: 12_345_678 → "12.3 M". */
function short(x: number): string {
  const prefixes = ["", "k", "M", "G", "T"];
  let value = x;
  let i = 0;
  // 999.5 would be shown as 1000: it belongs to the next prefix.
  while (Math.abs(value) >= 999.5 && i < prefixes.length - 1) {
    value /= 1000;
    i++;
  }
  if (i === 0) return Number.isInteger(value) ? `${value} ` : `${value.toPrecision(3)} `;
  return `${value.toPrecision(3)} ${prefixes[i]}`;
}

/** 12_345_678 → "12.3 M" */
export function formatMadds(madds: number): string {
  return short(madds).trimEnd();
}

/** 1_500_000 → "1.50 MB", powers of ten. */
export function formatBytes(bytes: number): string {
  return `${short(bytes)}B`;
}

/** 60_000 → "60,000" */
export function formatCount(n: number): string {
  return n.toLocaleString("en-GB", { maximumFractionDigits: 0 });
}

/** 0.00321 → "3.21 ms", 12.34 → "12.3 s", 125 → "2:05", 3725 → "1:02:05" */
export function formatSeconds(seconds: number): string {
  if (seconds < 0.9995) return `${(seconds * 1000).toPrecision(3)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const two = (n: number) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** 0.912345 → "91.23 %" */
export function formatPercent(share: number): string {
  return `${(share * 100).toFixed(2)} %`;
}

// Numbers as people read them.

export const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)} %`;

export const probability = (share) => (share > 0 && share < 0.001 ? "< 0.1 %" : percent(share, 1));

export const millions = (multiplyAdds) => `${(multiplyAdds / 1e6).toFixed(1)} M`;

export const decimal = (value) => (value && value < 10 ? value.toFixed(2) : value.toFixed(0));

/** For an axis: no more digits than needed. */
export const short = (value) => String(Number(value.toPrecision(2)));

export function duration(seconds) {
  const ms = 1000 * seconds;
  if (!ms) return "0 ms";
  if (ms >= 1000) return `${seconds.toFixed(1)} s`;
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${ms.toFixed(0)} ms`;
}

/** A class name without the underscores of data sets. */
export const words = (label) => label.replaceAll("_", " ");

export const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

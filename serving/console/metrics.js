// Reads /metrics, so that this page shows the very numbers that Prometheus gets. Pure.

const SAMPLE = /^(ride_\w+)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** One scrape. */
export class Scrape {
  constructor(text, time) {
    this.time = time;
    this.samples = new Map();
    for (const line of text.split("\n")) {
      const [, name, labels = "", value] = SAMPLE.exec(line) ?? [];
      if (!name) continue;
      if (!this.samples.has(name)) this.samples.set(name, []);
      this.samples.get(name).push({ labels: readLabels(labels), value: Number(value) });
    }
  }

  /** Whether there is a metric of this name. */
  has(name) {
    return this.samples.has(name);
  }

  /** The sum over all labels; 0 without samples. */
  sum(name) {
    return (this.samples.get(name) ?? []).reduce((sum, { value }) => sum + value, 0);
  }

  /** Values of a label. */
  labels(name, label) {
    return (this.samples.get(name) ?? []).map(({ labels }) => labels[label]);
  }

  /** A histogram's cumulated counts by upper bound, over all other labels, rising. */
  buckets(name) {
    const counts = new Map();
    for (const { labels, value } of this.samples.get(`${name}_bucket`) ?? []) {
      const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
      counts.set(bound, (counts.get(bound) ?? 0) + value);
    }
    return [...counts].sort(([a], [b]) => a - b);
  }
}

const readLabels = (text) => Object.fromEntries([...text.matchAll(LABEL)].map(([, name, value]) => [name, value]));

/** What happened between two scrapes; shares and means are null where nothing did. */
export function between(before, after, experts) {
  const gained = (name) => after.sum(name) - before.sum(name);
  const seconds = (after.time - before.time) / 1000;
  const images = gained("ride_images_total");
  const spent = gained("ride_multiply_adds_total");
  const saved = gained("ride_multiply_adds_avoided_total");
  const answered = gained("ride_request_duration_seconds_count");
  const exits = exitCounts(before, after, experts);
  return {
    time: after.time,
    imagesPerSecond: images / seconds,
    expertsPerImage: images ? gained("ride_experts_per_image_sum") / images : null,
    exits: exits.map((count) => (images ? count / images : null)),
    meanLatency: answered ? gained("ride_request_duration_seconds_sum") / answered : null,
    highLatency: quantile(0.95, before, after, "ride_request_duration_seconds"),
    computeSaved: spent + saved ? saved / (spent + saved) : null,
    waiting: after.sum("ride_queue_depth"),
    level: after.sum("ride_degradation_level"),
  };
}

function exitCounts(before, after, experts) {
  const upTo = (scrape, count) => scrape.buckets("ride_experts_per_image").find(([bound]) => bound === count)?.[1] ?? 0;
  const gained = Array.from({ length: experts + 1 }, (_, count) => upTo(after, count) - upTo(before, count));
  return gained.slice(1).map((cumulated, index) => cumulated - gained[index]);
}

/** Estimated within a bucket along a straight line, as Prometheus does it. */
function quantile(share, before, after, name) {
  const earlier = new Map(before.buckets(name));
  const counts = after.buckets(name).map(([bound, count]) => [bound, count - (earlier.get(bound) ?? 0)]);
  const total = counts.at(-1)?.[1];
  if (!total) return null;
  let [lower, below] = [0, 0];
  for (const [bound, count] of counts) {
    if (count >= share * total) {
      return bound === Infinity ? lower : lower + ((bound - lower) * (share * total - below)) / (count - below);
    }
    [lower, below] = [bound, count];
  }
  return lower;
}

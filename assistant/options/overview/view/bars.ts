/** Draws bars by uPlot. The page loads it when a plot is shown: nobody else needs the library. */
import uPlot from "uplot";

/** One kind of number; bars stand on those of the series before. */
export interface Series {
  readonly name: string;
  /** A variable of the style sheet. */
  readonly colour: string;
  readonly values: readonly number[];
}

const HEIGHT = 220;
const WIDEST_BAR = 48;

/** Draw stacked bars into the place; returns what takes them away. */
export function drawBars(place: HTMLElement, labels: readonly string[], series: readonly Series[]): () => void {
  const style = getComputedStyle(place);
  const colour = (name: string) => style.getPropertyValue(name);
  const shown = sums(series).reverse(); // the highest first: lower ones are drawn over it
  const axis = { stroke: colour("--ink-soft"), font: `12px ${style.fontFamily}` };
  const grid = { stroke: colour("--line"), width: 1 };
  const paths = uPlot.paths.bars?.({ size: [0.7, WIDEST_BAR] });
  const plot = new uPlot(
    {
      width: place.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: false, range: [-0.6, labels.length - 0.4] }, y: { range: (_, __, most) => [0, Math.max(most, 1) * 1.05] } },
      axes: [
        { ...axis, grid: { show: false }, values: (_, at) => at.map((n) => (Number.isInteger(n) ? (labels[n] ?? "") : "")) },
        { ...axis, grid, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000], size: 56 },
      ],
      series: [
        {},
        ...shown.map(({ name, colour: variable }) => ({
          label: name,
          fill: colour(variable),
          stroke: colour("--surface"),
          width: 1,
          points: { show: false },
          ...(paths === undefined ? {} : { paths }),
        })),
      ],
    },
    [labels.map((_, at) => at), ...shown.map(({ values }) => [...values])],
    place,
  );
  const resized = new ResizeObserver(() => plot.setSize({ width: place.clientWidth, height: HEIGHT }));
  resized.observe(place);
  return () => {
    resized.disconnect();
    plot.destroy();
  };
}

/** Each series with the values of those before added. */
export function sums(series: readonly Series[]): Series[] {
  const before: number[] = [];
  return series.map((one) => ({
    ...one,
    values: one.values.map((value, at) => (before[at] = (before[at] ?? 0) + value)),
  }));
}

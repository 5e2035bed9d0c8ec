/** Line drawings of 20 × 20 that take the colour of the text beside them. */

const PATHS = {
  alert: "M10 3 18 17H2zM10 8v4M10 14.5v.1",
  book: "M4 4.5A2 2 0 0 1 6 3h10v12H6a2 2 0 0 0-2 2zM4 17h12",
  check: "M4 10.5 8.5 15 16 6",
  clock: "M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14M10 6v4.5l3 1.5",
  close: "M5 5l10 10M15 5 5 15",
  copy: "M7 7V4h9v9h-3M4 7h9v9H4z",
  edit: "M4 16v-3L13 4l3 3-9 9zM11 6l3 3",
  keyboard: "M2.5 6h15v8h-15zM6 9v.1M10 9v.1M14 9v.1M7 12h6",
  out: "M8 4H4v12h12v-4M11 4h5v5M16 4l-7 7",
  plus: "M10 4v12M4 10h12",
  remove: "M4 6h12M8 6V4h4v2M6 6l1 11h6l1-11",
  retry: "M15 6a7 7 0 1 0 2 5M15.5 2.5V6.500H11.500",
  search: "M9 4a5 5 0 1 0 0 10A5 5 0 0 0 9 4M13 13l4 4",
  send: "M3 10 17 4l-4 13-3-5z",
  stop: "M5 5h10v10H5z",
  down: "M6 11V3h6l4 1v6l-1 1h-4l1 4-1.500 1L8 11zM3 3h3v8H3z",
  up: "M6 9v8h6l4-1v-6l-1-1h-4l1-4-1.500-1L8 9zM3 9h3v8H3z",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** The mark of the product: something said, on solid ground. */
export function BrandMark() {
  return (
    <svg class="brand-mark" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect width="32" height="32" rx="8" />
      <path d="M9 10h14v9H15l-4 4v-4H9z" />
    </svg>
  );
}

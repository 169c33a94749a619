/** The timeline's arithmetic: which moment lies at which pixel, zoom, pan, ticks. No canvas here. */

export const MINUTE_MS = 60_000
export const HOUR_MS = 3_600_000
export const DAY_MS = 86_400_000

/** From a minute, where single seconds are wide, to the month that every channel is kept. */
export const WINDOW_MIN_MS = MINUTE_MS
export const WINDOW_MAX_MS = 30 * DAY_MS

/** How far past "now" the window may show: a future without recordings explains nothing. */
const FUTURE_SHARE = 0.5

export interface Window {
  fromMs: number
  toMs: number
}

export interface Tick {
  atMs: number
  label: string
  /** Midnights and full hours stand out. */
  major: boolean
}

export function widthMs(view: Window): number {
  return view.toMs - view.fromMs
}

export function xOf(view: Window, atMs: number, widthPx: number): number {
  return ((atMs - view.fromMs) / widthMs(view)) * widthPx
}

export function timeAt(view: Window, x: number, widthPx: number): number {
  return view.fromMs + (x / widthPx) * widthMs(view)
}

/** Share of a fresh window that may lie in the future. */
const FRESH_FUTURE_SHARE = 0.12

/** A window of this width with the moment in its middle, or "now" near its right edge. */
export function around(centreMs: number, spanMs: number, nowMs = Infinity): Window {
  const toMs = Math.min(centreMs + spanMs / 2, nowMs + spanMs * FRESH_FUTURE_SHARE)
  return { fromMs: toMs - spanMs, toMs }
}

/** Zoom by `factor` (< 1 is closer) so that the moment under the pointer stays under it. */
export function zoomAt(view: Window, factor: number, atMs: number): Window {
  const wanted = widthMs(view) * factor
  const width = Math.min(WINDOW_MAX_MS, Math.max(WINDOW_MIN_MS, wanted))
  const share = (atMs - view.fromMs) / widthMs(view)
  const fromMs = atMs - share * width
  return { fromMs, toMs: fromMs + width }
}

export function pan(view: Window, byMs: number, nowMs: number): Window {
  const width = widthMs(view)
  const latestFrom = nowMs + width * FUTURE_SHARE - width
  const fromMs = Math.min(view.fromMs + byMs, Math.max(latestFrom, view.fromMs))
  return { fromMs, toMs: fromMs + width }
}

/** The same window, moved only as far as needed to show `atMs` with some room ahead of it. */
export function follow(view: Window, atMs: number): Window {
  const width = widthMs(view)
  if (atMs >= view.fromMs && atMs <= view.toMs - width * 0.05) return view
  const fromMs = atMs < view.fromMs ? atMs - width * 0.2 : atMs - width * 0.8
  return { fromMs, toMs: fromMs + width }
}

/** Longest window that one timeline request may ask for, by the API. */
export const REQUEST_MAX_MS = 31 * DAY_MS

/** What to ask for: the window and up to half of it on either side, so that small pans are free. */
export function requestWindow(view: Window, nowMs: number): Window | null {
  const width = widthMs(view)
  const margin = Math.max(0, Math.min(width / 2, (REQUEST_MAX_MS - width) / 2))
  const toMs = Math.min(view.toMs + margin, nowMs)
  const fromMs = view.fromMs - margin
  return toMs > fromMs ? { fromMs, toMs } : null
}

const STEPS_MS = [
  1000,
  5000,
  10_000,
  30_000,
  MINUTE_MS,
  5 * MINUTE_MS,
  10 * MINUTE_MS,
  30 * MINUTE_MS,
  HOUR_MS,
  2 * HOUR_MS,
  6 * HOUR_MS,
  12 * HOUR_MS,
  DAY_MS,
  2 * DAY_MS,
  7 * DAY_MS,
]

/** The finest step whose labels keep `minGapPx` between them. */
export function tickStepMs(view: Window, widthPx: number, minGapPx = 76): number {
  const wanted = (widthMs(view) * minGapPx) / Math.max(1, widthPx)
  return STEPS_MS.find((step) => step >= wanted) ?? STEPS_MS[STEPS_MS.length - 1]!
}

/**
 * Ticks on round local times. `offsetMs` is what is added to UTC to get local time at a moment, so
 * that midnights stay midnights; given by the caller because it depends on the zone.
 */
export function ticks(view: Window, widthPx: number, offsetMs: (atMs: number) => number): Tick[] {
  const step = tickStepMs(view, widthPx)
  const offset = offsetMs(view.fromMs)
  const list: Tick[] = []
  const first = Math.ceil((view.fromMs + offset) / step) * step - offset
  for (let atMs = first; atMs <= view.toMs; atMs += step) list.push(tick(atMs, step, offsetMs(atMs)))
  return list
}

function tick(atMs: number, step: number, offsetMs: number): Tick {
  const local = new Date(atMs + offsetMs)
  const day = `${two(local.getUTCMonth() + 1)}-${two(local.getUTCDate())}`
  const midnight = (atMs + offsetMs) % DAY_MS === 0
  if (step >= DAY_MS || midnight) return { atMs, label: day, major: true }
  const hm = `${two(local.getUTCHours())}:${two(local.getUTCMinutes())}`
  const label = step < MINUTE_MS ? `${hm}:${two(local.getUTCSeconds())}` : hm
  return { atMs, label, major: (atMs + offsetMs) % HOUR_MS === 0 }
}

function two(value: number): string {
  return String(value).padStart(2, '0')
}

export function zoneOffsetMs(atMs: number): number {
  return -new Date(atMs).getTimezoneOffset() * MINUTE_MS
}

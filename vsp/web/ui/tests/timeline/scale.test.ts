import { describe, expect, test } from 'vitest'
import {
  around,
  DAY_MS,
  follow,
  HOUR_MS,
  MINUTE_MS,
  pan,
  REQUEST_MAX_MS,
  requestWindow,
  ticks,
  tickStepMs,
  timeAt,
  widthMs,
  WINDOW_MAX_MS,
  WINDOW_MIN_MS,
  xOf,
  zoomAt,
} from '@/timeline/scale'

const T = Date.UTC(2026, 10, 22, 2, 0, 0)
const CHINA = () => 8 * HOUR_MS

test('pixels and moments are each other’s inverse', () => {
  const view = around(T, HOUR_MS)

  expect(timeAt(view, xOf(view, T + 12_345, 900), 900)).toBeCloseTo(T + 12_345, 3)
})

describe('zoom', () => {
  test('keeps the moment under the pointer where it is', () => {
    const view = around(T, HOUR_MS)
    const at = T + 10 * MINUTE_MS
    const before = xOf(view, at, 1000)

    const closer = zoomAt(view, 0.5, at)

    expect(widthMs(closer)).toBe(HOUR_MS / 2)
    expect(xOf(closer, at, 1000)).toBeCloseTo(before, 6)
  })

  test('stops at a minute and at thirty days', () => {
    expect(widthMs(zoomAt(around(T, 2 * MINUTE_MS), 0.001, T))).toBe(WINDOW_MIN_MS)
    expect(widthMs(zoomAt(around(T, 20 * DAY_MS), 100, T))).toBe(WINDOW_MAX_MS)
  })
})

describe('pan', () => {
  test('goes back freely, but not deep into the future', () => {
    const view = around(T, HOUR_MS)

    expect(pan(view, -DAY_MS, T).fromMs).toBe(view.fromMs - DAY_MS)
    expect(pan(view, DAY_MS, T).toMs).toBeLessThanOrEqual(T + HOUR_MS / 2)
  })

  test('a window that already shows too much future is not thrown back', () => {
    const view = around(T + HOUR_MS, HOUR_MS)

    expect(pan(view, MINUTE_MS, T)).toEqual(view)
  })
})

test('a fresh window keeps "now" near its right edge', () => {
  const view = around(T, HOUR_MS, T + MINUTE_MS)

  expect(widthMs(view)).toBe(HOUR_MS)
  expect(view.toMs).toBeLessThan(T + 10 * MINUTE_MS)
  expect(view.toMs).toBeGreaterThan(T + MINUTE_MS)
})

describe('what to ask the server for', () => {
  test('half a window more on either side, but nothing of the future', () => {
    const asked = requestWindow(around(T, HOUR_MS), T + HOUR_MS / 2)

    expect(asked).toEqual({ fromMs: T - HOUR_MS, toMs: T + HOUR_MS / 2 })
  })

  test('never more than the API gives at once', () => {
    const asked = requestWindow(around(T, WINDOW_MAX_MS), T + DAY_MS * 365)!

    expect(widthMs(asked)).toBeLessThanOrEqual(REQUEST_MAX_MS)
    expect(asked.fromMs).toBeLessThanOrEqual(T - WINDOW_MAX_MS / 2)
  })

  test('nothing at all for a window that lies ahead', () => {
    expect(requestWindow(around(T + DAY_MS, MINUTE_MS), T)).toBeNull()
  })
})

describe('follow', () => {
  test('leaves a window alone that shows the cursor', () => {
    const view = around(T, HOUR_MS)

    expect(follow(view, T + MINUTE_MS)).toBe(view)
  })

  test('moves on when the cursor reaches the edge, keeping the width', () => {
    const view = around(T, HOUR_MS)
    const moved = follow(view, view.toMs)

    expect(widthMs(moved)).toBe(HOUR_MS)
    expect(xOf(moved, view.toMs, 100)).toBeCloseTo(80)
  })
})

describe('ticks', () => {
  test('labels never crowd, whatever the zoom', () => {
    for (const width of [WINDOW_MIN_MS, 10 * MINUTE_MS, HOUR_MS, DAY_MS, WINDOW_MAX_MS]) {
      const view = around(T, width)
      const gapPx = (tickStepMs(view, 1200) / width) * 1200

      expect(gapPx).toBeGreaterThanOrEqual(76)
      expect(ticks(view, 1200, CHINA).length).toBeGreaterThan(2)
    }
  })

  test('stand on round local times, and midnight is a date', () => {
    const midnight = Date.UTC(2026, 10, 21, 16, 0, 0)
    const list = ticks(around(midnight, DAY_MS), 1200, CHINA)

    expect(list.find((tick) => tick.atMs === midnight)).toEqual({
      atMs: midnight,
      label: '11-22',
      major: true,
    })
    expect(list.every((tick) => (tick.atMs + CHINA()) % (2 * HOUR_MS) === 0)).toBe(true)
  })

  test('close up they show seconds', () => {
    expect(ticks(around(T, MINUTE_MS), 1200, CHINA)[0]?.label).toMatch(/^\d\d:\d\d:\d\d$/)
  })
})

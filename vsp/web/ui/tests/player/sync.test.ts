import { expect, test } from 'vitest'
import { together, type PaneTime } from '@/player/sync'

const pane = (wallMs: number | null, running = true, seeking = false): PaneTime => ({
  wallMs,
  running,
  seeking,
})

test('the clock is the pane furthest behind, and the others slow down to it', () => {
  const { clockMs, orders } = together([pane(10_000), pane(10_400)])

  expect(clockMs).toBe(10_000)
  expect(orders).toEqual([
    { hold: false, offsetMs: 0 },
    { hold: false, offsetMs: -400 },
  ])
})

test('a pane that crossed a gap waits for the others', () => {
  const { clockMs, orders } = together([pane(10_000), pane(130_000)])

  expect(clockMs).toBe(10_000)
  expect(orders[1]).toEqual({ hold: true, offsetMs: 0 })
})

test('a pane without a picture, ended or seeking does not hold the clock', () => {
  expect(together([pane(null), pane(20_000)]).clockMs).toBe(20_000)
  expect(together([pane(1000, false), pane(20_000)]).clockMs).toBe(20_000)
  expect(together([pane(1000, true, true), pane(20_000)]).clockMs).toBe(20_000)
})

test('one pane is its own clock and is never corrected', () => {
  expect(together([pane(5000)])).toEqual({ clockMs: 5000, orders: [{ hold: false, offsetMs: 0 }] })
})

test('nobody running: no clock', () => {
  expect(together([pane(null), pane(5, false)]).clockMs).toBeNull()
})

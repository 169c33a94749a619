import { expect, test } from 'vitest'
import { CLOCK_POINTS_MAX, MediaClock } from '@/player/clock'

test('before anything is known there is no wall time', () => {
  const clock = new MediaClock()

  expect(clock.wallMs(5)).toBeNull()
  expect(clock.mediaS(5)).toBeNull()
})

test('each discontinuity counts from its own point on', () => {
  const clock = new MediaClock()
  clock.add({ mediaS: 0, timeMs: 1_000_000 })
  clock.add({ mediaS: 10, timeMs: 2_000_000 })

  expect(clock.wallMs(9.5)).toBe(1_009_500)
  expect(clock.wallMs(10.5)).toBe(2_000_500)
  expect(clock.mediaS(1_004_000)).toBe(4)
  expect(clock.mediaS(2_003_000)).toBe(13)
})

test('a later word about an earlier media time replaces what was said after it', () => {
  const clock = new MediaClock()
  clock.add({ mediaS: 0, timeMs: 1000 })
  clock.add({ mediaS: 10, timeMs: 99_000 })
  clock.add({ mediaS: 5, timeMs: 50_000 })

  expect(clock.wallMs(11)).toBe(56_000)
})

test('a frame just before the first point still has a time', () => {
  const clock = new MediaClock()
  clock.add({ mediaS: 10, timeMs: 10_000 })

  expect(clock.wallMs(9.96)).toBeCloseTo(9960)
})

test('points are bounded', () => {
  const clock = new MediaClock()
  for (let n = 0; n < CLOCK_POINTS_MAX + 10; n++) clock.add({ mediaS: n, timeMs: n * 1000 })

  expect(clock.wallMs(CLOCK_POINTS_MAX + 9)).toBe((CLOCK_POINTS_MAX + 9) * 1000)
})

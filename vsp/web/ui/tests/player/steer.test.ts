import { describe, expect, test } from 'vitest'
import {
  JUMP_LAG_S,
  KEEP_BEHIND_S,
  LAG_TARGET_MAX_S,
  LagTarget,
  RATE_MAX,
  RATE_MIN,
  steerLive,
  steerPlayback,
  steerToSeek,
  syncRate,
} from '@/player/steer'

const one = (start: number, end: number) => [{ start, end }]

describe('live', () => {
  test('at the target it plays at normal speed', () => {
    const decision = steerLive({ ranges: one(100, 110), current: 109.6 }, 0.4)

    expect(decision).toEqual({ rate: 1, jumpTo: null, trim: null, lagS: expect.closeTo(0.4) })
  })

  test('a little late it plays faster, never more than ten percent', () => {
    const late = steerLive({ ranges: one(100, 110), current: 109.3 }, 0.4)
    const later = steerLive({ ranges: one(100, 110), current: 108.6 }, 0.4)

    expect(late.rate).toBeGreaterThan(1)
    expect(late.rate).toBeLessThan(later.rate)
    expect(later.rate).toBe(RATE_MAX)
  })

  test('running dry it plays slightly slower', () => {
    const dry = steerLive({ ranges: one(100, 110), current: 109.95 }, 0.4)

    expect(dry.rate).toBeLessThan(1)
    expect(dry.rate).toBeGreaterThanOrEqual(RATE_MIN)
  })

  test('more than 1.5 s late it jumps, at exactly that it does not', () => {
    const at = steerLive({ ranges: one(0, 10), current: 10 - JUMP_LAG_S }, 0.4)
    const beyond = steerLive({ ranges: one(0, 10), current: 10 - JUMP_LAG_S - 0.01 }, 0.4)

    expect(at.jumpTo).toBeNull()
    expect(beyond.jumpTo).toBeCloseTo(9.6)
  })

  test('before the buffer, as at the very start, it jumps into it', () => {
    const long = steerLive({ ranges: one(3_456_000, 3_456_002), current: 0 }, 0.4)
    const short = steerLive({ ranges: one(5, 5.04), current: 0 }, 0.4)

    expect(long.jumpTo).toBeCloseTo(3_456_001.6)
    expect(short.jumpTo).toBe(5)
  })

  test('an older island is left for the newest one', () => {
    const decision = steerLive({ ranges: [...one(0, 5), ...one(6, 7)], current: 4.9 }, 0.4)

    expect(decision.jumpTo).toBeCloseTo(6.6)
  })

  test('media time that went backwards is followed', () => {
    expect(steerLive({ ranges: one(0, 2), current: 500 }, 0.4).jumpTo).toBeCloseTo(1.6)
  })

  test('what lies far behind is trimmed, what is near is kept', () => {
    const long = steerLive({ ranges: one(0, 40), current: 39.6 }, 0.4)
    const short = steerLive({ ranges: one(20, 40), current: 39.6 }, 0.4)

    expect(long.trim).toEqual({ start: 0, end: expect.closeTo(39.6 - KEEP_BEHIND_S) })
    expect(short.trim).toBeNull()
  })

  test('an empty buffer asks for nothing', () => {
    expect(steerLive({ ranges: [], current: 0 }, 0.4)).toEqual({
      rate: 1,
      jumpTo: null,
      trim: null,
      lagS: 0,
    })
  })
})

describe('playback', () => {
  test('keeps the chosen speed and stays inside a range', () => {
    expect(steerPlayback({ ranges: one(0, 10), current: 5 }, 4)).toMatchObject({
      rate: 4,
      jumpTo: null,
    })
  })

  test('crosses a hole at the end of a range', () => {
    const ranges = [...one(0, 10), ...one(12, 20)]

    expect(steerPlayback({ ranges, current: 9 }, 1).jumpTo).toBeNull()
    expect(steerPlayback({ ranges, current: 9.95 }, 1).jumpTo).toBeCloseTo(12, 2)
  })

  test('at the end of everything it waits', () => {
    expect(steerPlayback({ ranges: one(0, 10), current: 10 }, 1).jumpTo).toBeNull()
  })
})

describe('after a seek', () => {
  test('waits for the exact picture while patient, then takes the nearest', () => {
    const buffer = { ranges: one(10, 10.5), current: 3 }

    expect(steerToSeek(buffer, 12, true, 1).jumpTo).toBeNull()
    expect(steerToSeek(buffer, 12, false, 1).jumpTo).toBeCloseTo(10.45)
  })

  test('goes to the exact picture once it is there, and only once', () => {
    const ranges = one(10, 14)

    expect(steerToSeek({ ranges, current: 3 }, 12, true, 1).jumpTo).toBe(12)
    expect(steerToSeek({ ranges, current: 12 }, 12, true, 1).jumpTo).toBeNull()
  })

  test('a moment before the buffer is its beginning', () => {
    expect(steerToSeek({ ranges: one(10, 14), current: 0 }, 8, true, 1).jumpTo).toBe(10)
  })

  test('without a known moment it enters the buffer', () => {
    expect(steerToSeek({ ranges: one(10, 14), current: 0 }, null, true, 1).jumpTo).toBeCloseTo(10)
  })
})

describe('one clock for several', () => {
  test('small differences are left alone, larger ones steered, never by more than a tenth', () => {
    expect(syncRate(1, 50)).toBe(1)
    expect(syncRate(1, 300)).toBeGreaterThan(1)
    expect(syncRate(1, -300)).toBeLessThan(1)
    expect(syncRate(2, 60_000)).toBeCloseTo(2.2)
  })
})

describe('the lag target', () => {
  test('grows with each dry spell up to a bound, and comes back in quiet', () => {
    const target = new LagTarget(0.4)

    target.starved(10_000)
    expect(target.valueS(10_000)).toBeCloseTo(0.55)
    for (let now = 12_000; now < 60_000; now += 2000) target.starved(now)
    expect(target.valueS(60_000)).toBeCloseTo(LAG_TARGET_MAX_S)

    expect(target.valueS(60_000 + 600_000)).toBeCloseTo(0.4)
  })

  test('events of one dry spell count once', () => {
    const target = new LagTarget(0.4)

    for (let now = 10_000; now < 10_900; now += 100) target.starved(now)

    expect(target.valueS(10_900)).toBeCloseTo(0.55)
  })
})

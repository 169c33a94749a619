import { describe, expect, test } from 'vitest'
import {
  coverage,
  endOf,
  gapAt,
  nextStart,
  previousStart,
  recordedShare,
  spanAt,
  type Coverage,
} from '@/timeline/spans'

const S = 1000
const span = (from: number, to: number, open = false) => ({
  fromMs: from * S,
  toMs: to * S,
  open,
  damaged: 0,
})
const gap = (from: number, to: number, cause = 'device_offline') => ({
  fromMs: from * S,
  toMs: to * S,
  cause,
  evidence: '',
})
const cover = (spans: Coverage['spans'], gaps: Coverage['gaps'] = []): Coverage => ({
  fromMs: 0,
  toMs: 1000 * S,
  spans,
  gaps,
})

test('an answer becomes sorted milliseconds', () => {
  const read = coverage({
    from: '1970-01-01T00:00:00Z',
    to: '1970-01-01T01:00:00Z',
    spans: [
      { start: '1970-01-01T00:10:00Z', end: '1970-01-01T00:20:00Z', open: true, damaged_frames: 3 },
      { start: '1970-01-01T00:00:00Z', end: '1970-01-01T00:05:00Z', open: false, damaged_frames: 0 },
    ],
    gaps: [
      { start: '1970-01-01T00:05:00Z', end: '1970-01-01T00:10:00Z', cause: 'no_media', evidence: 'e' },
    ],
  })

  expect(read.spans.map((one) => one.fromMs)).toEqual([0, 600_000])
  expect(gapAt(read, 400_000)).toMatchObject({ cause: 'no_media', evidence: 'e' })
})

test('an open span reaches to now, a closed one to its end', () => {
  expect(endOf(span(0, 10, true), 15 * S)).toBe(15 * S)
  expect(endOf(span(0, 10), 15 * S)).toBe(10 * S)
})

test('a moment is in a span, in a gap, or in neither', () => {
  const line = cover([span(0, 10), span(20, 30)], [gap(10, 20)])

  expect(spanAt(line, 5 * S, 100 * S)).not.toBeNull()
  expect(spanAt(line, 10 * S, 100 * S)).toBeNull()
  expect(gapAt(line, 10 * S)).not.toBeNull()
  expect(gapAt(line, 20 * S)).toBeNull()
  expect(gapAt(line, 35 * S)).toBeNull()
})

describe('jumping between recordings', () => {
  const line = cover([span(0, 10), span(10, 20), span(100, 120), span(200, 210)])

  test('next is the start of the next stretch; touching spans are one', () => {
    expect(nextStart(line, 5 * S)).toBe(100 * S)
    expect(nextStart(line, 110 * S)).toBe(200 * S)
    expect(nextStart(line, 205 * S)).toBeNull()
  })

  test('previous is this stretch’s start, and the one before when already there', () => {
    expect(previousStart(line, 110 * S)).toBe(100 * S)
    expect(previousStart(line, 100.5 * S)).toBe(0)
    expect(previousStart(line, 1 * S)).toBeNull()
  })
})

describe('completeness', () => {
  test('counts recorded seconds of the window up to now', () => {
    const line = cover([span(0, 50)], [gap(50, 100)])

    expect(recordedShare(line, 0, 100 * S, 1000 * S)).toBe(0.5)
    expect(recordedShare(line, 0, 100 * S, 50 * S)).toBe(1)
  })

  test('leaves out what nobody planned', () => {
    const line = cover([span(50, 100)], [gap(0, 50, 'not_planned')])

    expect(recordedShare(line, 0, 100 * S, 1000 * S)).toBe(1)
  })

  test('is unknown where nothing was planned', () => {
    expect(recordedShare(cover([], [gap(0, 100, 'not_planned')]), 0, 100 * S, 1000 * S)).toBeNull()
  })
})

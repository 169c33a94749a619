/** What is recorded and what is missing, in milliseconds, and the questions a timeline asks. */
import type { Timeline } from '@/api/types'

export interface Span {
  fromMs: number
  toMs: number
  /** Still growing. */
  open: boolean
  damaged: number
}

export interface Gap {
  fromMs: number
  toMs: number
  cause: string
  evidence: string
}

export interface Coverage {
  /** The window that these lists describe. */
  fromMs: number
  toMs: number
  spans: Span[]
  gaps: Gap[]
}

export const NOTHING: Coverage = { fromMs: 0, toMs: 0, spans: [], gaps: [] }

export function coverage(timeline: Timeline): Coverage {
  const spans = timeline.spans.map((span) => ({
    fromMs: Date.parse(span.start),
    toMs: Date.parse(span.end),
    open: span.open,
    damaged: span.damaged_frames,
  }))
  const gaps = timeline.gaps.map((gap) => ({
    fromMs: Date.parse(gap.start),
    toMs: Date.parse(gap.end),
    cause: gap.cause,
    evidence: gap.evidence,
  }))
  spans.sort((a, b) => a.fromMs - b.fromMs)
  gaps.sort((a, b) => a.fromMs - b.fromMs)
  return { fromMs: Date.parse(timeline.from), toMs: Date.parse(timeline.to), spans, gaps }
}

/** An open span reaches to now: its end was true when asked, and it has grown since. */
export function endOf(span: Span, nowMs: number): number {
  return span.open ? Math.max(span.toMs, nowMs) : span.toMs
}

export function spanAt(cover: Coverage, atMs: number, nowMs: number): Span | null {
  return cover.spans.find((span) => atMs >= span.fromMs && atMs < endOf(span, nowMs)) ?? null
}

export function gapAt(cover: Coverage, atMs: number): Gap | null {
  return cover.gaps.find((gap) => atMs >= gap.fromMs && atMs < gap.toMs) ?? null
}

/** Two spans nearer than this are one to whoever jumps between them. */
const SAME_SPAN_MS = 2000

/** Start of the next recorded stretch after `atMs`. */
export function nextStart(cover: Coverage, atMs: number): number | null {
  return joined(cover).find((span) => span.fromMs > atMs + 500)?.fromMs ?? null
}

/** Start of this stretch, or of the one before when we stand at its start already. */
export function previousStart(cover: Coverage, atMs: number): number | null {
  return joined(cover).findLast((span) => span.fromMs < atMs - SAME_SPAN_MS)?.fromMs ?? null
}

function joined(cover: Coverage): Span[] {
  const list: Span[] = []
  for (const span of cover.spans) {
    const last = list.at(-1)
    if (last && span.fromMs - last.toMs < SAME_SPAN_MS) {
      last.toMs = Math.max(last.toMs, span.toMs)
      last.open ||= span.open
    } else {
      list.push({ ...span })
    }
  }
  return list
}

/**
 * Recorded share of what was planned within [fromMs, toMs), 0 to 1; null where nothing was planned.
 * The same rule as recording completeness (B6): time that nobody asked for is not in it.
 */
export function recordedShare(
  cover: Coverage,
  fromMs: number,
  toMs: number,
  nowMs: number,
): number | null {
  const until = Math.min(toMs, nowMs)
  const inside = (from: number, to: number): number =>
    Math.max(0, Math.min(until, to) - Math.max(fromMs, from))
  let recorded = 0
  let planned = until - fromMs
  for (const span of cover.spans) recorded += inside(span.fromMs, endOf(span, nowMs))
  for (const gap of cover.gaps) {
    if (gap.cause === 'not_planned') planned -= inside(gap.fromMs, gap.toMs)
  }
  return planned <= 0 ? null : Math.min(1, recorded / planned)
}

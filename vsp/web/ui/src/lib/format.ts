/** Numbers and times as people read them. Times are shown in the zone of the browser. */

const THOUSANDS = new Intl.NumberFormat('en-US')

export function count(value: number | null | undefined): string {
  return value === null || value === undefined ? '–' : THOUSANDS.format(value)
}

/** 4020000 -> "4.0M", 512000 -> "512k": the short form for tiles and headers. */
export function rate(bitsPerS: number | null | undefined): string {
  if (bitsPerS === null || bitsPerS === undefined || !Number.isFinite(bitsPerS)) return '–'
  if (bitsPerS >= 1e9) return `${(bitsPerS / 1e9).toFixed(2)}G`
  if (bitsPerS >= 1e6) return `${(bitsPerS / 1e6).toFixed(bitsPerS >= 1e8 ? 0 : 1)}M`
  return `${Math.round(bitsPerS / 1e3)}k`
}

/** The long form with its unit: "4.02 Mbit/s". */
export function rateLong(bitsPerS: number | null | undefined): string {
  if (bitsPerS === null || bitsPerS === undefined || !Number.isFinite(bitsPerS)) return '–'
  if (bitsPerS >= 1e6) return `${(bitsPerS / 1e6).toFixed(2)} Mbit/s`
  return `${Math.round(bitsPerS / 1e3)} kbit/s`
}

const two = (value: number): string => String(value).padStart(2, '0')

export function clockText(ms: number): string {
  const at = new Date(ms)
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`
}

export function dateText(ms: number): string {
  const at = new Date(ms)
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`
}

export function dateTimeText(ms: number): string {
  return `${dateText(ms)} ${clockText(ms)}`
}

/** An instant of the API for a table: date and time, or a dash. */
export function instantText(instant: string | null | undefined): string {
  if (!instant) return '–'
  const ms = Date.parse(instant)
  return Number.isNaN(ms) ? instant : dateTimeText(ms)
}

/** The same with milliseconds, for traces. */
export function preciseText(instant: string): string {
  const ms = Date.parse(instant)
  if (Number.isNaN(ms)) return instant
  return `${clockText(ms)}.${String(new Date(ms).getMilliseconds()).padStart(3, '0')}`
}

/** A duration in at most two units, as parts so that each language writes its own words. */
export interface DurationParts {
  key: 'seconds' | 'minutes' | 'hours' | 'days'
  n: number
}

export function durationParts(ms: number): DurationParts {
  const s = Math.max(0, Math.round(ms / 1000))
  if (s < 60) return { key: 'seconds', n: s }
  if (s < 3600) return { key: 'minutes', n: Math.round(s / 60) }
  if (s < 86_400) return { key: 'hours', n: Math.round(s / 3600) }
  return { key: 'days', n: Math.round(s / 86_400) }
}

export function instant(ms: number): string {
  return new Date(ms).toISOString()
}

/** "2102…000001": the ends of a 20-digit code, which are the parts that people compare. */
export function shortCode(gbId: string): string {
  return gbId.length > 12 ? `${gbId.slice(0, 4)}…${gbId.slice(-6)}` : gbId
}

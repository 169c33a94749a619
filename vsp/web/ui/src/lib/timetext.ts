/** A typed time of day, as loosely as a hurried person types it. */

/** "9", "930", "9:30", "09:30:15", "093015", also with full-width colons -> milliseconds of day. */
export function parseTimeOfDay(text: string): number | null {
  const clean = text.trim().replaceAll('：', ':').replaceAll('.', ':')
  const parts = clean.includes(':') ? clean.split(':') : split(clean)
  if (!parts || parts.length > 3 || !parts.every((part) => /^\d{1,2}$/.test(part))) return null
  const [h = 0, m = 0, s = 0] = parts.map(Number)
  if (h > 23 || m > 59 || s > 59) return null
  return ((h * 60 + m) * 60 + s) * 1000
}

/** Digits without colons: the last two pairs are minutes and seconds once there are enough. */
function split(digits: string): string[] | null {
  if (!/^\d{1,6}$/.test(digits)) return null
  if (digits.length <= 2) return [digits]
  const even = digits.length % 2 === 1 ? `0${digits}` : digits
  return even.match(/../g)
}

/** What this browser remembers between visits. Losing it must never break a page. */

const PREFIX = 'vsp.'

export function recall<T>(name: string, fallback: T, valid: (value: unknown) => value is T): T {
  try {
    const text = localStorage.getItem(PREFIX + name)
    if (text === null) return fallback
    const value: unknown = JSON.parse(text)
    return valid(value) ? value : fallback
  } catch {
    return fallback // storage is off, or holds something that is not ours
  }
}

export function remember(name: string, value: unknown): void {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value))
  } catch {
    // storage is off or full: the choice then lasts as long as the page
  }
}

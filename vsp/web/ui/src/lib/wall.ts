/** The wall as data: which channel stands in which place. Pure. */

export type Layout = 1 | 4 | 9 | 16
export const LAYOUTS: readonly Layout[] = [1, 4, 9, 16]
export const PLACES = 16

/** One place on the wall; `key` moves with its picture, so that a swap keeps the stream. */
export interface Slot {
  key: number
  channelId: string | null
}

export interface Wall {
  layout: Layout
  focus: number
  slots: Slot[]
}

export function emptyWall(layout: Layout = 4): Wall {
  return {
    layout,
    focus: 0,
    slots: Array.from({ length: PLACES }, (_, key) => ({ key, channelId: null })),
  }
}

export function isWall(value: unknown): value is Wall {
  const wall = value as Wall
  return (
    typeof value === 'object' &&
    value !== null &&
    LAYOUTS.includes(wall.layout) &&
    Number.isInteger(wall.focus) &&
    Array.isArray(wall.slots) &&
    wall.slots.length === PLACES &&
    wall.slots.every((slot) => slot?.channelId === null || typeof slot?.channelId === 'string') &&
    new Set(wall.slots.map((slot) => slot.key)).size === PLACES
  )
}

/** Where a newly chosen channel goes: the focused place if free, the next free one, or the focused. */
export function placeFor(wall: Wall): number {
  if (wall.slots[wall.focus]?.channelId === null && wall.focus < wall.layout) return wall.focus
  const free = wall.slots.findIndex((slot, at) => at < wall.layout && slot.channelId === null)
  return free >= 0 ? free : Math.min(wall.focus, wall.layout - 1)
}

/** Where a channel is shown already, or -1. */
export function placeOf(wall: Wall, channelId: string): number {
  return wall.slots.findIndex((slot, at) => at < wall.layout && slot.channelId === channelId)
}

export function put(wall: Wall, place: number, channelId: string | null): void {
  const slot = wall.slots[place]
  if (slot) slot.channelId = channelId
}

export function swap(wall: Wall, a: number, b: number): void {
  const first = wall.slots[a]
  const second = wall.slots[b]
  if (!first || !second) return
  wall.slots[a] = second
  wall.slots[b] = first
}

export function clear(wall: Wall): void {
  for (const slot of wall.slots) slot.channelId = null
}

/** Fill the visible places with these channels, first come first placed. */
export function fill(wall: Wall, channelIds: readonly string[]): void {
  for (let at = 0; at < wall.layout; at++) put(wall, at, channelIds[at] ?? null)
}

/** The place reached from the focused one by an arrow key; stays at the edge. */
export function neighbour(layout: Layout, at: number, key: string): number {
  const side = Math.sqrt(layout)
  const row = Math.floor(at / side)
  const column = at % side
  if (key === 'ArrowLeft') return column > 0 ? at - 1 : at
  if (key === 'ArrowRight') return column < side - 1 ? at + 1 : at
  if (key === 'ArrowUp') return row > 0 ? at - side : at
  if (key === 'ArrowDown') return row < side - 1 ? at + side : at
  return at
}

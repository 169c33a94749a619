import { describe, expect, test } from 'vitest'
import { clear, emptyWall, fill, isWall, neighbour, placeFor, placeOf, put, swap } from '@/lib/wall'

describe('placing', () => {
  test('the focused place if free, then the next free one, then the focused one', () => {
    const wall = emptyWall(4)
    wall.focus = 2
    expect(placeFor(wall)).toBe(2)

    put(wall, 2, 'a')
    expect(placeFor(wall)).toBe(0)
    for (const at of [0, 1, 3]) put(wall, at, `x${at}`)

    expect(placeFor(wall)).toBe(2)
  })

  test('places beyond the layout do not count as free or as shown', () => {
    const wall = emptyWall(1)
    put(wall, 0, 'a')
    put(wall, 5, 'b')

    expect(placeFor(wall)).toBe(0)
    expect(placeOf(wall, 'b')).toBe(-1)
  })

  test('a smaller layout keeps what the larger one showed', () => {
    const wall = emptyWall(9)
    put(wall, 8, 'a')
    wall.layout = 4
    wall.layout = 9

    expect(placeOf(wall, 'a')).toBe(8)
  })
})

test('a swap moves the slots themselves, so that the streams go with them', () => {
  const wall = emptyWall(4)
  put(wall, 0, 'a')
  const key = wall.slots[0]!.key

  swap(wall, 0, 3)

  expect(wall.slots[3]).toEqual({ key, channelId: 'a' })
  expect(wall.slots[0]!.channelId).toBeNull()
})

test('filling shows the first ones and closes what was there', () => {
  const wall = emptyWall(4)
  put(wall, 3, 'old')

  fill(wall, ['a', 'b'])
  expect(wall.slots.slice(0, 4).map((slot) => slot.channelId)).toEqual(['a', 'b', null, null])
  clear(wall)

  expect(wall.slots.every((slot) => slot.channelId === null)).toBe(true)
})

test('arrows walk the grid and stop at its edge', () => {
  expect(neighbour(9, 4, 'ArrowUp')).toBe(1)
  expect(neighbour(9, 4, 'ArrowRight')).toBe(5)
  expect(neighbour(9, 5, 'ArrowRight')).toBe(5)
  expect(neighbour(9, 8, 'ArrowDown')).toBe(8)
  expect(neighbour(1, 0, 'ArrowLeft')).toBe(0)
})

test.each([null, 7, {}, { layout: 5, focus: 0, slots: [] }, { ...emptyWall(), slots: [{}] }])(
  'a remembered wall that is not one is refused: %j',
  (value) => {
    expect(isWall(value)).toBe(false)
  },
)

test('a remembered wall is taken', () => {
  expect(isWall(JSON.parse(JSON.stringify(emptyWall(16))))).toBe(true)
})

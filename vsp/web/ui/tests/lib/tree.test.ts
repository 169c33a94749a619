import { describe, expect, test } from 'vitest'
import type { Channel, Device, Region } from '@/api/types'
import { buildTree, channelsOf, filterTree, flatten } from '@/lib/tree'

const device = (id: string, name: string, kind = 'recorder'): Device =>
  ({ id, gb_id: `3402000000118000000${id}`, name, kind, presence: 'online' }) as Device
const channel = (id: string, owner: string, name: string, more: Partial<Channel> = {}): Channel =>
  ({
    id,
    device_id: owner,
    gb_id: `3402000000131000000${id}`,
    name,
    playable: true,
    presence: 'online',
    region_id: null,
    ...more,
  }) as Channel
const region = (id: string, code: string, parent: string | null): Region => ({
  id,
  code,
  name: `区${code}`,
  level: 'county',
  parent_id: parent,
})

const DEVICES = [device('1', '东门录像机'), device('2', '西门', 'camera')]
const CHANNELS = [
  channel('1', '1', '通道 77'),
  channel('2', '1', '通道 9', { presence: 'offline' }),
  channel('3', '2', '西门'),
  channel('4', '1', '报警输入', { playable: false }),
]

describe('by device', () => {
  test('channels stand below their device in natural order, with counts', () => {
    const tree = buildTree('device', DEVICES, CHANNELS, [])
    const recorder = tree.find((node) => node.kind === 'device')

    expect(recorder?.children.map((child) => child.name)).toEqual(['通道 9', '通道 77'])
    expect([recorder?.online, recorder?.total]).toEqual([1, 2])
  })

  test('a camera with its one channel is one row', () => {
    const tree = buildTree('device', DEVICES, CHANNELS, [])

    expect(tree.find((node) => node.name === '西门')).toMatchObject({ kind: 'channel', children: [] })
  })

  test('what cannot be played is not in the tree', () => {
    const names = channelsOf(buildTree('device', DEVICES, CHANNELS, [])).map((one) => one.name)

    expect(names).not.toContain('报警输入')
  })
})

describe('by region', () => {
  const regions = [region('a', '2102', null), region('b', '210202', 'a')]

  test('regions nest, and channels without a region follow below their device', () => {
    const placed = [channel('1', '1', '广场', { region_id: 'b' }), channel('3', '2', '西门')]
    const tree = buildTree('region', DEVICES, placed, regions)

    expect(tree[0]).toMatchObject({ name: '区2102', total: 1 })
    expect(tree[0]?.children[0]?.children[0]?.name).toBe('广场')
    expect(tree[1]).toMatchObject({ name: '西门', kind: 'channel' })
  })

  test('a region whose parent is unknown or a circle is still shown, and never for ever', () => {
    const odd = [region('x', '1', 'gone'), region('y', '2', 'z'), region('z', '3', 'y')]

    expect(buildTree('region', [], [], odd).map((node) => node.code)).toEqual(['1'])
  })
})

describe('searching', () => {
  const tree = buildTree('device', DEVICES, CHANNELS, [])

  test('keeps the way to a hit, and counts what is left', () => {
    const hits = filterTree(tree, '通道 77')

    expect(hits).toHaveLength(1)
    expect(hits[0]).toMatchObject({ name: '东门录像机', total: 1 })
  })

  test('finds by part of a code, in any case, all words needed', () => {
    expect(channelsOf(filterTree(tree, '1310000003')).map((one) => one.name)).toEqual(['西门'])
    expect(filterTree(tree, '通道 西门')).toEqual([])
  })

  test('a folder that matches shows everything below it', () => {
    expect(filterTree(tree, '录像机')[0]?.children).toHaveLength(2)
  })
})

describe('rows', () => {
  const tree = buildTree('device', DEVICES, CHANNELS, [])
  const folder = tree.find((node) => node.kind === 'device')!

  test('closed folders hide their children, open ones show them deeper', () => {
    expect(flatten(tree, new Set())).toHaveLength(2)
    expect(flatten(tree, new Set([folder.key])).map((row) => row.depth)).toContain(1)
  })

  test('a search shows everything that is left', () => {
    expect(flatten(tree, new Set(), true)).toHaveLength(4)
  })

  test('twenty thousand channels become rows in a fraction of a second', () => {
    const many = Array.from({ length: 20_000 }, (_, n) => channel(String(n), '1', `通道 ${n}`))
    const began = performance.now()

    const rows = flatten(buildTree('device', DEVICES, many, []), new Set(['d:1']))

    expect(rows.length).toBeGreaterThan(20_000)
    expect(performance.now() - began).toBeLessThan(1500)
  })
})

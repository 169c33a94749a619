/**
 * The tree of what can be watched: regions or devices, below them channels. Pure; the view draws
 * the flat list of visible rows that `flatten` returns.
 */
import type { Channel, Device, Presence, Region } from '@/api/types'

export type TreeBy = 'device' | 'region'

export interface TreeNode {
  key: string
  kind: 'region' | 'device' | 'channel'
  name: string
  code: string
  presence: Presence
  /** Channels below, or 1 for a channel itself. */
  total: number
  online: number
  children: TreeNode[]
  channel: Channel | null
  deviceId: string | null
}

export interface TreeRow {
  node: TreeNode
  depth: number
  open: boolean
  /** For aria-posinset and aria-setsize. */
  position: number
  siblings: number
}

export function buildTree(
  by: TreeBy,
  devices: readonly Device[],
  channels: readonly Channel[],
  regions: readonly Region[],
): TreeNode[] {
  const playable = channels.filter((channel) => channel.playable)
  if (by === 'device') return deviceNodes(devices, playable)
  const known = new Set(regions.map((region) => region.id))
  const placed = playable.filter((channel) => known.has(channel.region_id ?? ''))
  const rest = playable.filter((channel) => !known.has(channel.region_id ?? ''))
  const owners = new Set(rest.map((channel) => channel.device_id))
  const tops = regionNodes(regions, placed)
  return [...tops, ...deviceNodes(devices.filter((device) => owners.has(device.id)), rest)]
}

function deviceNodes(devices: readonly Device[], channels: readonly Channel[]): TreeNode[] {
  const below = groupBy(channels, (channel) => channel.device_id)
  return devices.map((device) => deviceNode(device, below.get(device.id) ?? [])).sort(byName)
}

/** A camera with one channel is one row: two rows of one name would only be noise. */
function deviceNode(device: Device, channels: Channel[]): TreeNode {
  const only = channels.length === 1 ? channels[0] : undefined
  if (only && device.kind === 'camera') return channelNode(only)
  const children = channels.map(channelNode).sort(byName)
  return {
    key: `d:${device.id}`,
    kind: 'device',
    name: device.name || device.gb_id,
    code: device.gb_id,
    presence: device.presence,
    ...sums(children),
    children,
    channel: null,
    deviceId: device.id,
  }
}

function channelNode(channel: Channel): TreeNode {
  return {
    key: `c:${channel.id}`,
    kind: 'channel',
    name: channel.name || channel.gb_id,
    code: channel.gb_id,
    presence: channel.presence,
    total: 1,
    online: channel.presence === 'online' ? 1 : 0,
    children: [],
    channel,
    deviceId: channel.device_id,
  }
}

function regionNodes(regions: readonly Region[], channels: readonly Channel[]): TreeNode[] {
  const ids = new Set(regions.map((region) => region.id))
  const inside = groupBy(channels, (channel) => channel.region_id ?? '')
  const below = groupBy(regions, (region) =>
    region.parent_id && ids.has(region.parent_id) ? region.parent_id : '',
  )
  const node = (region: Region, seen: ReadonlySet<string>): TreeNode => {
    const deeper = new Set(seen).add(region.id)
    const subs = (below.get(region.id) ?? []).filter((sub) => !seen.has(sub.id))
    const children = [
      ...subs.map((sub) => node(sub, deeper)).sort(byCode),
      ...(inside.get(region.id) ?? []).map(channelNode).sort(byName),
    ]
    return regionNode(region, children)
  }
  return (below.get('') ?? []).map((region) => node(region, new Set([region.id]))).sort(byCode)
}

function regionNode(region: Region, children: TreeNode[]): TreeNode {
  return {
    key: `r:${region.id}`,
    kind: 'region',
    name: region.name,
    code: region.code,
    presence: 'unknown',
    ...sums(children),
    children,
    channel: null,
    deviceId: null,
  }
}

function sums(children: readonly TreeNode[]): { total: number; online: number } {
  let total = 0
  let online = 0
  for (const child of children) {
    total += child.total
    online += child.online
  }
  return { total, online }
}

/** Only what matches, with the way to it; everything below a match that is a folder. */
export function filterTree(nodes: readonly TreeNode[], query: string): TreeNode[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean)
  if (words.length === 0) return [...nodes]
  const keep = (node: TreeNode): TreeNode | null => {
    const text = `${node.name} ${node.code}`.toLowerCase()
    if (words.every((word) => text.includes(word))) return node
    const children = node.children.map(keep).filter((child) => child !== null)
    return children.length > 0 ? { ...node, children, ...sums(children) } : null
  }
  return nodes.map(keep).filter((node) => node !== null)
}

/** The visible rows, in order. With `all` every folder counts as open (a search shows its hits). */
export function flatten(
  nodes: readonly TreeNode[],
  openKeys: ReadonlySet<string>,
  all = false,
  depth = 0,
  rows: TreeRow[] = [],
): TreeRow[] {
  nodes.forEach((node, index) => {
    const open = node.children.length > 0 && (all || openKeys.has(node.key))
    rows.push({ node, depth, open, position: index + 1, siblings: nodes.length })
    if (open) flatten(node.children, openKeys, all, depth + 1, rows)
  })
  return rows
}

/** Channels below (or of) a node, in the order of the tree. */
export function channelsOf(nodes: readonly TreeNode[], into: Channel[] = []): Channel[] {
  for (const node of nodes) {
    if (node.channel) into.push(node.channel)
    channelsOf(node.children, into)
  }
  return into
}

const COLLATOR = new Intl.Collator('zh-CN', { numeric: true })

function byName(a: TreeNode, b: TreeNode): number {
  return COLLATOR.compare(a.name, b.name)
}
function byCode(a: TreeNode, b: TreeNode): number {
  return COLLATOR.compare(a.code, b.code)
}

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>()
  for (const item of items) {
    const key = keyOf(item)
    const group = groups.get(key)
    if (group) group.push(item)
    else groups.set(key, [item])
  }
  return groups
}

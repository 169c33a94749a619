/**
 * Devices, channels and regions as the tree shows them. Loaded page by page up to a bound, then
 * kept fresh by hints of the event feed; beyond the bound the search asks the server.
 */
import { computed, reactive, ref, shallowRef } from 'vue'
import { api, asApiError, type ApiError, type Channel, type Device, type List, type Region } from '@/api'
import { feed, RESYNC, type FeedEvent } from '@/api/events'

/** Rows of one page, the server's largest. */
const PAGE = 500

/** Rows held by the page: a tree of this size still filters within a frame or two. */
export const LOADED_MAX = 20_000

/** Events come in bursts; one reload answers them all. */
const SETTLE_MS = 1500

export const devices = shallowRef<Device[]>([])
export const channels = shallowRef<Channel[]>([])
export const regions = shallowRef<Region[]>([])
export const loaded = ref(false)
export const loadError = ref<ApiError | null>(null)
export const truncated = ref(false)

/** Channels that were asked for by id but lie beyond what is loaded. */
const strays = reactive(new Map<string, Channel>())

const byId = computed(() => new Map(channels.value.map((channel) => [channel.id, channel])))

export function channelById(id: string): Channel | null {
  return byId.value.get(id) ?? strays.get(id) ?? null
}

/** Make sure that this channel is known, wherever it lies. Accepts a GB id as well. */
export async function fetchChannel(id: string): Promise<Channel> {
  const known = channelById(id)
  if (known) return known
  const channel = await api.channel(id)
  strays.set(channel.id, channel)
  return channel
}

async function everything<T>(read: (after: string | null) => Promise<List<T>>): Promise<T[]> {
  const items: T[] = []
  let after: string | null = null
  do {
    const page: List<T> = await read(after)
    items.push(...page.items)
    after = page.next
  } while (after && items.length < LOADED_MAX)
  if (after) truncated.value = true
  return items
}

let loading: Promise<void> | null = null
let again = false

export function reload(): Promise<void> {
  if (loading) {
    again = true
    return loading
  }
  loading = load().finally(() => {
    loading = null
    if (again) {
      again = false
      void reload()
    }
  })
  return loading
}

async function load(): Promise<void> {
  try {
    const [someDevices, someChannels, someRegions] = await Promise.all([
      everything((after) => api.devices({ size: PAGE, after })),
      everything((after) => api.channels({ size: PAGE, after })),
      api.regions().then((list) => list.items),
    ])
    devices.value = someDevices
    channels.value = someChannels
    regions.value = someRegions
    loadError.value = null
  } catch (error) {
    loadError.value = asApiError(error)
  }
  loaded.value = true
}

/** Server-side search for what lies beyond the loaded rows. */
export async function searchServer(query: string): Promise<void> {
  const page = await api.channels({ q: query, size: PAGE })
  const known = byId.value
  const found = page.items.filter((channel) => !known.has(channel.id))
  if (found.length > 0) channels.value = [...channels.value, ...found]
}

// ---- staying fresh --------------------------------------------------------------------------

/** More devices than this in one burst: reading everything again is cheaper than one by one. */
const ONE_BY_ONE_MAX = 20

const dirty = new Set<string>()
let everythingDirty = false
let settle = 0

function take(event: FeedEvent): void {
  const { type, device, channel } = event
  if (type === 'recording' && typeof channel === 'string') {
    patchRecording(channel, event.recording === true)
    return
  }
  if (type === RESYNC) everythingDirty = true
  else if ((type === 'presence' || type === 'catalog') && typeof device === 'string') {
    dirty.add(device)
  } else return
  window.clearTimeout(settle)
  settle = window.setTimeout(() => void freshen(), SETTLE_MS)
}

function patchRecording(id: string, recording: boolean): void {
  channels.value = channels.value.map((old) => (old.id === id ? { ...old, recording } : old))
}

async function freshen(): Promise<void> {
  const ids = [...dirty]
  const all = everythingDirty || ids.length > ONE_BY_ONE_MAX
  dirty.clear()
  everythingDirty = false
  if (all) return reload()
  try {
    for (const id of ids) await freshenDevice(id)
  } catch {
    return reload() // whatever went wrong, it shows there
  }
}

async function freshenDevice(id: string): Promise<void> {
  const [device, mine] = await Promise.all([
    api.device(id),
    everything((after) => api.channels({ device: id, size: PAGE, after })),
  ])
  devices.value = [...devices.value.filter((old) => old.id !== device.id), device]
  channels.value = [...channels.value.filter((old) => old.device_id !== device.id), ...mine]
}

let users = 0
let unlisten = () => {}

/** Keep the catalogue alive while somebody shows it. */
export function watchCatalog(): () => void {
  if (users++ === 0) {
    unlisten = feed.listen(take)
    void reload()
  }
  return () => {
    if (--users > 0) return
    unlisten()
    window.clearTimeout(settle)
  }
}
